import numpy as np
import pytest

from reverie.collection import make_dataset
from reverie.environments.meeting import LIMIT


@pytest.fixture(scope="module")
def data():
    return make_dataset("meeting", seed=1)


def test_in_each_of_the_episodes_the_agents_meet_at_either_place(data):
    ends = data.episodes[:, 1] - 1
    assert len(data.episodes) == 400 and len(data) == 400 * LIMIT and not data.terminals.any()
    assert data.infos["success"][ends].all() and (data.returns == 1).all()
    places = data.infos["places"][ends]
    assert (places[:, 0] == places[:, 1]).all()
    assert abs(places.mean()) < 4 / 400**0.5


def test_nothing_in_the_first_observation_tells_where(data):
    first, last = data.observations[data.episodes[:, 0], :, 0], data.observations[data.episodes[:, 1] - 1, :, 0]
    right = last[:, 0] > 0
    assert np.abs(first[right].mean(0) - first[~right].mean(0)).max() < 4 * 0.05 * 2 / 400**0.5
