import numpy as np
import pytest

from reverie.collection import make_dataset
from reverie.collection.fork import EPISODE, Sides
from reverie.collection.recipe import Part
from reverie.environments import make


@pytest.fixture(scope="module")
def data():
    return make_dataset("fork", seed=1)


def test_the_set_has_200_episodes_that_all_end_at_the_goal(data):
    ends = data.episodes[:, 1] - 1
    assert len(data.episodes) == 200 and data.terminals[ends].all() and data.infos["success"][ends].all()
    assert (data.rewards == data.infos["success"]).all() and data.infos["success"].sum() == 200
    assert abs(len(data) / 200 - EPISODE) < 2
    assert data.attributes["successful_episodes"] == "100.0%"


def test_both_sides_are_equally_likely(data):
    sides = data.infos["side"][data.episodes[:, 1] - 1]
    assert set(sides.tolist()) == {-1, 1} and abs(sides.mean()) < 4 / 200**0.5
    assert data.attributes["episodes_right"] == f"{(sides == 1).mean():.1%}"


def test_the_side_is_said_once_it_is_passed_and_is_where_the_point_is(data):
    height, sides = data.next_observations[:, 1], data.infos["side"]
    np.testing.assert_array_equal(sides != 0, height > 0)
    beside = np.abs(height) < 0.5
    whole = np.repeat(sides[data.episodes[:, 1] - 1], np.diff(data.episodes, axis=1)[:, 0])
    np.testing.assert_array_equal(np.sign(data.next_observations[beside, 0]), whole[beside])


def test_the_same_start_leads_either_way(data):
    """What makes it a fork: the starts of both sides are alike, and their mean action leads into the obstacle."""
    first = data.episodes[:, 0]
    sides, starts = data.infos["side"][data.episodes[:, 1] - 1], data.observations[first, 0]
    assert abs(starts[sides == 1].mean() - starts[sides == -1].mean()) < 4 * 0.02 * (2 / 100) ** 0.5
    actions = data.actions[first]
    assert (np.sign(actions[:, 0]) == sides).mean() > 0.95
    assert abs(actions[:, 0].mean()) < 0.3 * np.abs(actions[:, 0]).mean()


def test_the_environment_does_the_same_again(data):
    rng, env = Part(0, 1, 1).rng(), make("fork")
    rng.choice([-1, 1]), rng.uniform(0.5, 0.7)
    seen = env.reset(seed=int(rng.integers(2**31)))[0]
    for row in range(*data.episodes[0]):
        np.testing.assert_array_equal(seen, data.observations[row])
        seen = env.step(data.actions[row])[0]
    np.testing.assert_array_equal(seen, data.next_observations[row])


def test_noise_is_of_the_stated_size():
    quiet, noisy = (Sides(noise=noise).collect(Part(0, EPISODE, 0)) for noise in (0.0, 0.01))
    np.testing.assert_array_equal(quiet["observations"][0], noisy["observations"][0])
    rng = Part(0, 1, 0).rng()
    rng.choice([-1, 1]), rng.uniform(0.5, 0.7), rng.integers(2**31)
    drawn = rng.normal(0.0, 0.01, 2)
    np.testing.assert_allclose(noisy["actions"][0] - quiet["actions"][0], drawn, atol=1e-7)
