import numpy as np
import pytest

from reverie.collection import make_dataset
from reverie.data import tasks_of
from reverie.environments.compass import GOALS, LIMIT, TASKS


@pytest.fixture(scope="module")
def data():
    return make_dataset("compass", seed=1)


def test_it_has_equally_many_whole_episodes_of_each_task(data):
    assert len(data) == 400 * LIMIT and len(data.episodes) == 400 and not data.terminals.any()
    np.testing.assert_array_equal(tasks_of(data).episode, np.repeat(np.arange(8), 50))
    assert tasks_of(data).names == list(TASKS)
    assert len(make_dataset("compass", steps=700).episodes) == 16


def test_each_goes_to_its_goal_at_a_pace_of_its_own_and_the_slowest_do_not_arrive(data):
    stops = data.next_observations[data.episodes[:, 1] - 1]
    apart = np.linalg.norm(stops - GOALS[tasks_of(data).episode], axis=1)
    arrived = np.add.reduceat(data.infos["success"], data.episodes[:, 0]) > 0
    assert 0.9 < arrived.mean() < 1
    assert apart[arrived].max() < 0.35 and apart[~arrived].min() > 0.15
    assert data.returns[arrived].std() > 5


def test_nothing_in_the_first_observation_tells_the_task(data):
    first = data.observations[data.episodes[:, 0]].reshape(8, 50, 2).mean(1)
    assert np.abs(first).max() < 4 * 0.05 / 50**0.5
