import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.gridmaze import (
    FARTHEST,
    GAP,
    GOAL,
    LIMIT,
    START,
    WALL,
    GridMaze,
    checked,
    decode,
    distance_maps,
    encode,
    moved,
    path_lengths,
    random_configurations,
    shortest_way,
    solvable,
)
from reverie.errors import ReverieError

CELLS = {".": 0, "#": 1, "S": 2, "G": 3}


def drawn(text: str) -> np.ndarray:
    return np.array([[CELLS[cell] for cell in row] for row in text.split()], np.uint8)


ROUND = drawn("S#. .#G ...")
SNAKE = drawn("S.... ####. ..... .#### ....G")
CLOSED = drawn("S#. ##. ..G")
BESIDE = drawn("SG. ##. ...")


def test_the_shortest_ways_of_hand_drawn_mazes():
    assert path_lengths(np.stack([ROUND, CLOSED, BESIDE])).tolist() == [5, -1, 1]
    assert path_lengths(SNAKE[None]).tolist() == [16]
    assert solvable(np.stack([ROUND, CLOSED, BESIDE])).tolist() == [True, False, True]
    np.testing.assert_array_equal(distance_maps(ROUND[None])[0], [[5, -1, 1], [4, -1, 0], [3, 2, 1]])
    np.testing.assert_array_equal(shortest_way(ROUND), [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2]])
    with pytest.raises(ReverieError, match=r"No way leads from the start at \(0, 0\)"):
        shortest_way(CLOSED)


def test_random_configurations_are_solvable_and_the_seed_s_own():
    made = random_configurations(np.random.default_rng(0), 300)
    np.testing.assert_array_equal(made, random_configurations(np.random.default_rng(0), 300))
    np.testing.assert_array_equal(made, checked(made, 7))
    assert solvable(made).all()
    assert len(np.unique(made, axis=0)) == 300
    assert (made == WALL).mean((1, 2)).max() > 0.4


def test_vectors_are_rounded_to_the_configurations_that_they_encode():
    made = random_configurations(np.random.default_rng(1), 100, 5)
    x = encode(made)
    assert x.shape == (100, 29)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(decode(x), made)
    near = x + np.random.default_rng(2).uniform(-0.24, 0.24, x.shape)
    np.testing.assert_array_equal(decode(near), made)


def test_start_and_goal_are_free_and_apart_whatever_the_vector():
    x = np.array([[1.0] * 9 + [0.9, 3.0, 0.8, 0.7]])
    np.testing.assert_array_equal(decode(x)[0], drawn("### ### #GS"))
    for length in (3, 5, 14):
        with pytest.raises(ReverieError, match=f"Vectors of {length} numbers are no grids"):
            decode(np.zeros((1, length)))


def test_walls_and_the_border_stop_a_point_which_slides_along_them():
    walls = ROUND[None] == WALL

    def after(position, displacement):
        return moved(walls, np.array([position]), np.array([displacement]))[0]

    np.testing.assert_allclose(after((0.5, 0.5), (0.2, 0.3)), [0.7, 0.8])
    np.testing.assert_allclose(after((0.5, 0.9), (0.2, 0.3)), [0.7, 1 - GAP])
    np.testing.assert_allclose(after((1.9, 0.9), (0.3, 0.3)), [2.2, 1.2])
    np.testing.assert_allclose(after((0.1, 0.1), (-0.3, -0.3)), [GAP, GAP])
    np.testing.assert_allclose(after((2.9, 2.9), (0.3, 0.2)), [3 - GAP, 3 - GAP])
    np.testing.assert_allclose(after((2.1, 1.5), (-0.3, 0.0)), [2 + GAP, 1.5])


def test_no_walk_ever_enters_a_wall():
    made, rng = random_configurations(np.random.default_rng(3), 200), np.random.default_rng(4)
    at, rows = np.argwhere(made == START)[:, 1:] + 0.5, np.arange(200)
    for _ in range(100):
        at = moved(made == WALL, at, rng.uniform(-FARTHEST, FARTHEST, at.shape))
        cells = np.floor(at).astype(int)
        assert not (made[rows, cells[:, 0], cells[:, 1]] == WALL).any()


def test_an_episode_is_of_the_configuration_that_is_given():
    env = GridMaze(3)
    seen, info = env.reset(seed=0, options={"configuration": ROUND})
    np.testing.assert_allclose(seen[:4], np.array([0.5, 0.5, 1.5, 2.5]) * 2 / 3 - 1, rtol=1e-6)
    np.testing.assert_array_equal(seen[4:], [-1, 1, -1, -1, 1, -1, -1, -1, -1])
    assert env.observation_space.contains(seen)
    assert info == {"success": False}
    way = [(FARTHEST, 0.0)] * 6 + [(0.0, FARTHEST)] * 7 + [(-FARTHEST, 0.0)] * 2
    *before, last = [env.step(action) for action in way]
    assert not any(terminal for _, _, terminal, _, _ in before)
    assert last[1:] == (1.0, True, False, {"success": True})


def test_the_registered_task_draws_its_own_and_lasts_a_hundred_steps():
    env = make("gridmaze")
    first = env.reset(seed=5)[0]
    assert first.shape == (53,)
    np.testing.assert_array_equal(first, env.reset(seed=5)[0])
    assert not np.array_equal(first, env.reset()[0])
    ends = [env.step((0.0, 0.0))[2:4] for _ in range(LIMIT)]
    assert ends == [(False, False)] * (LIMIT - 1) + [(False, True)]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (SNAKE, r"of \[5, 5\] cells must have \[3, 3\]"),
        (ROUND + 1, "A cell is 4; it must be 0"),
        (np.zeros((3, 3)), "has 0 cells of a start"),
        (np.where(ROUND == 0, GOAL, ROUND), "has 6 cells of a goal"),
    ],
)
def test_what_is_no_configuration_is_refused(configuration, message):
    with pytest.raises(ReverieError, match=message):
        GridMaze(3).reset(options={"configuration": configuration})
