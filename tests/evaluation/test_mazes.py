import numpy as np
import pytest

from reverie.environments import MAZES
from reverie.environments.pointmaze import MULTI
from reverie.errors import ReverieError
from reverie.evaluation import mazes, plots


@pytest.mark.parametrize("name", MULTI)
def test_a_maze_has_its_walls_and_equal_sides(name, tmp_path):
    maze = MAZES[name]
    path = np.array([maze.centre(cell) for cell in maze.path(maze.free[0], maze.free[-1])])
    figure = mazes.draw_maze(name, [path], start=path[0], goal=path[-1], title=name)
    ax = figure.axes[0]
    assert len(ax.patches) == maze.walls.sum() and ax.get_aspect() == 1
    corners = {tuple(np.round(np.add(patch.get_xy(), 0.5), 6)) for patch in ax.patches}
    assert corners == {tuple(np.round(maze.centre((i, j)), 6)) for i, j in np.argwhere(maze.walls)}
    assert len(ax.collections[0].get_segments()) == len(path) - 1
    assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 2000


class Course:
    """A maze of cells 4 m wide whose rows go up with y."""

    walls = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    unit = 4.0

    def centre(self, cell):
        return 4.0 * cell[1] - 4, 4.0 * cell[0] - 4


def test_chunks_have_colours_of_their_own_in_a_maze_of_any_width(tmp_path):
    chunks = [np.array([[0.0, 0], [1, 0], [2, 0]]), np.array([[2.0, 0.1], [3, 0], [4, 0]])]
    figure = mazes.draw_composed(Course(), chunks, path=np.zeros((3, 2)), title="joined")
    ax = figure.axes[0]
    assert ax.get_xlim() == (-4, 8) and ax.get_ylim() == (-4, 4)
    assert {patch.get_width() for patch in ax.patches} == {4.0} and len(ax.patches) == 10
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 3][1:]
    np.testing.assert_array_equal([line.get_xydata() for line in drawn], chunks)
    assert len({line.get_color() for line in drawn}) == 2
    assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 2000
    with pytest.raises(ReverieError, match="0 chunks"):
        mazes.draw_composed(Course(), [])


def test_denoising_has_a_panel_a_level(tmp_path):
    plans = np.random.default_rng(0).normal(size=(7, 16, 4))
    figure = mazes.draw_denoising("pointmaze-umaze", plans, np.linspace(1, 0, 7), start=(1, 1))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:7]]
    assert titles[0] == "t = 1.00" and titles[-1] == "t = 0.00"
    np.testing.assert_allclose(figure.axes[3].collections[1].get_offsets(), plans[3, :, :2])
    assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 2000
    with pytest.raises(ReverieError, match="7 plans and 2 levels"):
        mazes.draw_denoising("pointmaze-umaze", plans, [1.0, 0.0])
