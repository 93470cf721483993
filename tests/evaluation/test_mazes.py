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


def test_denoising_has_a_panel_a_level(tmp_path):
    plans = np.random.default_rng(0).normal(size=(7, 16, 4))
    figure = mazes.draw_denoising("pointmaze-umaze", plans, np.linspace(1, 0, 7), start=(1, 1))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:7]]
    assert titles[0] == "t = 1.00" and titles[-1] == "t = 0.00"
    np.testing.assert_allclose(figure.axes[3].collections[1].get_offsets(), plans[3, :, :2])
    assert plots.save(figure, tmp_path / "picture.png").stat().st_size > 2000
    with pytest.raises(ReverieError, match="7 plans and 2 levels"):
        mazes.draw_denoising("pointmaze-umaze", plans, [1.0, 0.0])
