import gymnasium
import numpy as np
import pytest

from reverie.environments import MAZES, make
from reverie.environments.registry import _missing
from reverie.errors import ReverieError

pytest.importorskip("gymnasium_robotics")


def test_a_maze_runs_its_full_limit_with_one_goal():
    env = make("pointmaze-umaze")
    observation, _ = env.reset(seed=0)
    goal, steps, truncated = observation["desired_goal"], 0, False
    while not truncated:
        toward = np.clip(5 * (observation["desired_goal"] - observation["achieved_goal"]), -1, 1)
        observation, _, terminated, truncated, _ = env.step(toward.astype(np.float32))
        steps += 1
        assert not terminated
        np.testing.assert_array_equal(observation["desired_goal"], goal)
    assert steps == MAZES["pointmaze-umaze"].limit == 300


def test_a_seed_fixes_start_and_goal():
    env, other = make("pointmaze-large"), make("pointmaze-large")
    other.reset(seed=99)
    (first, _), (again, _), (different, _) = env.reset(seed=7), other.reset(seed=7), other.reset(seed=8)
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    assert not np.array_equal(first["desired_goal"], different["desired_goal"])


def test_a_users_factory_is_called():
    made = gymnasium.make("CartPole-v1")
    assert make(lambda: made) is made


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Hoper-v5", "There is no environment 'Hoper-v5': did you mean 'Hopper-v5'?"),
        ("pointmaze-umze", "did you mean 'pointmaze-umaze'?"),
        ("zzzz", "There is no environment 'zzzz': try 'Hopper-v5'"),
        ("maze2d-umaze-v1", "'maze2d-umaze-v1' is retired: use 'pointmaze-umaze-single'"),
        ("maze2d-large-dense-v1", "use 'pointmaze-large-single'"),
        ("hopper-medium-replay-v2", "use 'Hopper-v5'"),
        ("antmaze-medium-play-v2", "use 'AntMaze_Medium-v5'"),
        ("Walker2d-v2", "use 'Walker2d-v5'"),
    ],
)
def test_unknown_and_retired_ids_get_one_sentence(name, sentence):
    with pytest.raises(ReverieError) as error:
        make(name)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_missing_simulator_names_its_extra(monkeypatch):
    assert "pip install 'reverie[maze]'" in _missing("x", "gymnasium_robotics")
    monkeypatch.setattr("reverie.environments.registry.find_spec", lambda name: None)
    with pytest.raises(ReverieError, match=r"needs gymnasium_robotics.*reverie\[maze\]"):
        make("PointMaze_UMaze-v3")
    assert "pip install box2d" in _missing("LunarLander-v3", "box2d")
