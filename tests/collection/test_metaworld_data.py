import numpy as np
import pytest

from reverie.collection import DATASETS, make_dataset
from reverie.collection.metaworld import SIZE, Scripted, Several
from reverie.collection.recipe import Part
from reverie.environments.metaworld import MT10, TASKS
from reverie.errors import DataError
from reverie.planning.sentences import sentences_of

pytest.importorskip("metaworld")


@pytest.fixture(scope="module")
def data():
    before = np.random.get_state()[1].copy()
    made = make_dataset("metaworld-door-close", steps=1100, seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    return made


def test_episodes_have_500_steps_and_the_last_is_cut(data):
    np.testing.assert_array_equal(data.episodes, [[0, 500], [500, 1000], [1000, 1100]])
    assert not data.terminals.any() and (data.observation_dim, data.action_dim) == (39, 4)
    inside = np.flatnonzero(~data.last)
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[inside + 1])


def test_observations_are_what_the_environment_gave(data):
    """It shows the step before beside the step now. The doors' policies write into what they are given."""
    now, before = data.observations[1:, :18], data.observations[1:, 18:36]
    inside = ~data.last[:-1]
    np.testing.assert_array_equal(before[inside], data.observations[:-1, :18][inside])
    assert np.ptp(now, axis=0).max() > 0.1


def test_every_episode_has_a_goal_of_its_own(data):
    goals = [data.observations[start:stop, 36:] for start, stop in data.episodes]
    assert all((goal == goal[0]).all() for goal in goals)
    assert len({tuple(goal[0]) for goal in goals}) == 3


def test_successes_are_stored_and_counted(data):
    success = data.infos["success"]
    assert success.dtype == bool and success[:1000].reshape(2, 500).any(axis=1).all() and not success[0]
    share = np.mean([success[start:stop].any() for start, stop in data.episodes])
    assert data.attributes["successful_episodes"] == f"{share:.1%}"


def test_the_noise_is_gaussian_of_the_stated_size_around_the_policys_action():
    """The same starts with and without noise: the first action of each episode differs by the noise alone."""
    quiet, noisy = (Scripted("metaworld-reach", noise).collect(Part(0, 40, 0)) for noise in (0.0, 0.05))
    np.testing.assert_array_equal(quiet["observations"][0], noisy["observations"][0])
    drawn = np.random.default_rng([0, 0, 1]).normal(0.0, 0.05, 4)
    np.testing.assert_allclose(noisy["actions"][0], np.clip(quiet["actions"][0] + drawn, -1, 1), atol=1e-6)
    assert np.abs(noisy["actions"]).max() <= 1


def test_a_part_is_the_same_whatever_was_collected_before():
    recipe = Scripted("metaworld-reach")
    first = recipe.collect(Part(1, 60, 5))
    recipe.collect(Part(0, 60, 5))
    again, other = recipe.collect(Part(1, 60, 5)), recipe.collect(Part(2, 60, 5))
    for key, array in first.items():
        np.testing.assert_array_equal(again[key], array)
    assert (other["observations"][0] != first["observations"][0]).any()
    assert [part.steps for part in recipe.parts(SIZE + 7, 5)] == [SIZE, 7]


def test_attributes_tell_where_the_data_come_from(data):
    told = data.attributes
    assert (told["environment"], told["seed"], told["noise"]) == ("metaworld-door-close", 3, 0.1)


def test_all_tasks_have_names_and_a_typo_gets_the_nearest():
    assert {f"metaworld-{task}" for task in TASKS} <= DATASETS.keys()
    with pytest.raises(DataError, match="did you mean metaworld-coffee-push or"):
        make_dataset("metaworld-cofee-push")


def test_several_tasks_have_equal_shares_each_as_by_itself_and_are_told_in_words():
    recipe = Several("metaworld-mt2", ("reach", "drawer-open"))
    parts = recipe.parts(81, 3)
    assert [(part.index, part.steps, part.task) for part in parts] == [(0, 41, 0), (1, 40, 1)]
    rows = [recipe.collect(part) for part in parts]
    alone = Scripted("metaworld-drawer-open").collect(Part(1, 40, 3))
    for name, column in alone.items():
        np.testing.assert_array_equal(rows[1][name], column)
    made = recipe.dataset({name: np.concatenate([each[name] for each in rows]) for name in rows[0]}, 81, 3)
    assert sentences_of(made) == ["reach", "drawer open"]
    np.testing.assert_array_equal(made.infos["task"], 41 * [0] + 40 * [1])
    assert "environment" not in made.attributes
    np.testing.assert_array_equal(made.episodes, [[0, 41], [41, 81]])


def test_the_sets_of_several_tasks_are_meta_worlds_own():
    from metaworld.env_dict import MT10_V3, MT50_V3

    assert {f"{task}-v3" for task in MT10} == set(MT10_V3)
    assert {f"{task}-v3" for task in TASKS} == set(MT50_V3)
