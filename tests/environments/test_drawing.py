"""Where things are in a picture is where `project` says."""

from dataclasses import replace

import numpy as np
import pytest

from reverie.environments import drawing, make
from reverie.environments.drawing import AGENT, OTHER, Disc, View, draw, square

TASKS = ["fork", "fork-images", "compass", "multigoal", "speed", "meeting", "gridmaze", "pusht"]
MAZES = ["pointmaze-umaze", "pointmaze-large", "pointmaze-medium-single"]


def middle(picture, colour):
    """Of the pixels of a colour, column and row."""
    rows, columns = np.nonzero((picture == colour).all(-1))
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def test_a_place_is_at_its_pixel():
    up = View((-1.0, -2.0), (3.0, 0.0), longer=400)
    assert up.size == (400, 200)
    np.testing.assert_allclose(up.pixels([[-1, -2], [3, 0], [0, -0.5]]), [[0, 200], [400, 0], [100, 50]])
    down = View((-1.0, -2.0), (3.0, 0.0), upwards=False, longer=400)
    np.testing.assert_allclose(down.pixels([0, -0.5]), [100, 150])


def test_a_disc_and_a_square_cover_what_they_should():
    view = View((0, 0), (4, 2), longer=80)
    picture = draw(view, [square((2, 0), 1, drawing.WALL), Disc((1, 1.5), 0.4, AGENT)])
    assert picture.shape == (40, 80, 3) and picture.dtype == np.uint8
    wall, disc = ((picture == colour).all(-1) for colour in (drawing.WALL, AGENT))
    assert wall[21:39, 41:59].all() and wall[:19].sum() == wall[:, :39].sum() == wall[:, 62:].sum() == 0
    rows, columns = np.mgrid[0:40, 0:80] + 0.5
    away = np.hypot(columns - 20, rows - 10)
    assert disc[away < 6.9].all() and not disc[away > 9].any()
    assert (picture[0, 79] == drawing.GROUND).all()


@pytest.mark.parametrize("name", [*TASKS, *MAZES])
def test_the_agent_is_drawn_where_its_state_is_projected(name):
    if name in MAZES:
        pytest.importorskip("gymnasium_robotics")
    env = make(name)
    env.action_space.seed(0)
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(4):
            seen, *_ = env.step(env.action_space.sample())
        at, picture = env.get_wrapper_attr("project")(env.get_wrapper_attr("state")), env.render()
        if name != "fork-images":
            seen = seen["observation"] if isinstance(seen, dict) else seen
            np.testing.assert_allclose(env.get_wrapper_attr("state"), seen, rtol=1e-6)
        assert at.ndim == 2 and picture.shape[2] == 3 and env.render_mode == "rgb_array"
        if (at[0] < 12).any() or (at[0] > np.array(picture.shape[1::-1]) - 12).any():
            continue  # cut by the picture's edge
        np.testing.assert_allclose(middle(picture, AGENT), at[0], atol=0.4)
    env.close()


def test_known_states_of_every_task_are_at_known_pixels():
    np.testing.assert_allclose(make("fork").project([[0.0, -1.0], [1.5, 1.5]]), [[[128, 213 + 1 / 3]], [[256, 0]]])
    grid = make("gridmaze")  # row 1.4 and column 5.25 of 7
    seen = np.concatenate([np.array([1.4, 5.25]) * 2 / 7 - 1, np.zeros(51)])
    np.testing.assert_allclose(grid.project(seen), [[5.25 * 256 / 7, 1.4 * 256 / 7]])
    np.testing.assert_allclose(make("speed").project([0.5, 0.25]), [[0.85 / 1.2 * 256, 0.6 / 1.2 * 256]])
    two = make("meeting").project([[[-1.0], [0.0]]])
    np.testing.assert_allclose(two[0] * 2.6 / 256, [[0.3, 0.35], [1.3, 0.65]])


def test_of_two_agents_each_has_its_lane_and_colour():
    env = make("meeting")
    env.reset(seed=0)
    env.positions = np.array([-0.5, 0.7])
    picture, at = env.render(), env.project(env.state)
    for colour, place in zip((AGENT, OTHER), at, strict=True):
        np.testing.assert_allclose(middle(picture, colour), place, atol=0.5)


def test_the_block_is_drawn_where_it_is_projected():
    pytest.importorskip("pymunk")
    env = make("pusht")
    env.reset(options={"state": (60, 60, 300, 350, 2.0)})
    # Of the T, 3600 of whose 6300 square units are the bar's: its middle is not that of its mass, halfway.
    off = (15 * 3600 + 75 * 2700) / 6300 - 45
    angle = np.arctan2(*env.state[:3:-1])
    expected = env.project(env.state)[1] + off * np.array([-np.sin(angle), np.cos(angle)])
    np.testing.assert_allclose(middle(env.render(), (119, 136, 153)), expected, atol=1.5)


def test_a_look_that_is_seen_is_drawn():
    env = make("fork-looks")
    seen, _ = env.reset(seed=1)
    env.view = replace(env.view, longer=24)
    np.testing.assert_array_equal(env.render(), seen)
