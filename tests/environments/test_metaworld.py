import numpy as np
import pytest

from reverie.environments import make, metaworld
from reverie.environments.metaworld import LIMIT, NAMES, TASKS
from reverie.errors import ReverieError

pytest.importorskip("metaworld")


@pytest.fixture(scope="module")
def env():
    made = make("metaworld-door-close")
    yield made
    made.close()


def _episode(env, seed, steps=30):
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        seen.append(env.step(rng.uniform(-1, 1, 4).astype(np.float32))[0])
    return np.array(seen)


def test_every_task_of_the_package_has_a_name():
    from metaworld.policies import ENV_POLICY_MAP

    assert {f"{task}-v3" for task in TASKS} == set(ENV_POLICY_MAP) and len(TASKS) == 50


def test_a_seed_fixes_the_episode_whatever_came_before(env):
    first, other = _episode(env, 7), _episode(env, 8)
    np.testing.assert_array_equal(_episode(env, 7), first)
    assert (first[0, 36:] != other[0, 36:]).any() and (first[0, :36] != other[0, :36]).any()


def test_episodes_without_a_seed_go_on_from_the_last(env):
    env.reset(seed=7)
    goals = [env.reset()[0][36:] for _ in range(3)]
    env.reset(seed=7)
    np.testing.assert_array_equal([env.reset()[0][36:] for _ in range(3)], goals)
    assert len(np.unique(goals, axis=0)) == 3


def test_numpys_global_generator_is_left_as_it_is(env):
    before = np.random.get_state()[1].copy()
    with_own = make("metaworld-reach")
    with_own.reset(seed=1)
    with_own.reset()
    with_own.close()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_an_episode_has_its_length_and_tells_of_success(env):
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (39,) and env.action_space.shape == (4,)
    assert env.spec.max_episode_steps == LIMIT
    for step in range(LIMIT):
        _, _, terminated, truncated, info = env.step(np.zeros(4, np.float32))
        assert not terminated and truncated == (step == LIMIT - 1) and "success" in info


def test_evaluation_knows_it():
    from reverie.environments import RandomPolicy
    from reverie.evaluation import evaluate

    made = make(NAMES[0])
    scores = evaluate(RandomPolicy(made.action_space), NAMES[0], episodes=1, max_steps=3, progress=False)
    assert scores.successes.shape == (1, 1) and scores.lengths.tolist() == [[3]]


def test_a_typo_gets_the_nearest_name():
    with pytest.raises(ReverieError, match="did you mean 'metaworld-coffee-push'"):
        make("metaworld-cofee-push")


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "metaworld", None)
    with pytest.raises(ReverieError, match=r"needs metaworld.*'reverie\[metaworld\]'"):
        metaworld.make_metaworld("metaworld-reach")


def test_several_tasks_come_in_turn_and_each_is_as_by_itself():
    several = make("metaworld-mt10")
    assert several.tasks == len(several.task_names) == 10 and several.task_names[4] == "drawer open"
    several.episode = 14  # of a method's evaluation; 4 is drawer-open
    seen, info = several.reset(seed=7)
    alone, _ = make("metaworld-drawer-open").reset(seed=7)
    np.testing.assert_array_equal(seen, alone)
    assert info["task"] == 5 and list(several.made) == ["metaworld-drawer-open"]
    _, reward, *_, info = several.step(np.zeros(4, np.float32))
    assert info["task"] == 5 and "success" in info and np.isfinite(reward)
    several.episode = None
    assert several.reset()[1]["task"] == 6
