import numpy as np
import pytest

from reverie.collection import make_dataset
from reverie.collection.fork import EPISODE, Sides
from reverie.collection.recipe import Part
from reverie.data import concatenate
from reverie.environments import make
from reverie.environments.fork import OBSTACLE_RADIUS
from reverie.environments.fork_images import COLOURS, PIXELS, draw


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
    beside = np.abs(height) < 0.4
    whole = np.repeat(sides[data.episodes[:, 1] - 1], np.diff(data.episodes, axis=1)[:, 0])
    np.testing.assert_array_equal(np.sign(data.next_observations[beside, 0]), whole[beside])


def test_the_ways_are_the_same_until_shortly_before_the_obstacle(data):
    """What makes it a fork: where the side is chosen nothing tells which it will be."""
    sides = np.repeat(data.infos["side"][data.episodes[:, 1] - 1], np.diff(data.episodes, axis=1)[:, 0])
    before = data.next_observations[:, 1] < -0.66
    for column in (data.observations[:, 0], data.actions[:, 0]):
        left, right = (column[before & (sides == side)] for side in (-1, 1))
        # The start's spread of 0.05 is the most there is.
        assert abs(left.mean() - right.mean()) < 4 * 0.05 * (1 / len(left) + 1 / len(right)) ** 0.5
    after = np.abs(data.observations[:, 1]) < 0.1
    assert (sides * data.observations[:, 0])[after].min() > OBSTACLE_RADIUS + 0.1


def test_the_environment_does_the_same_again(data):
    rng, env = Part(0, 1, 1).rng(), make("fork")
    rng.choice([-1, 1]), rng.uniform(0.5, 0.6)
    seen = env.reset(seed=int(rng.integers(2**31)))[0]
    for row in range(*data.episodes[0]):
        np.testing.assert_array_equal(seen, data.observations[row])
        seen = env.step(data.actions[row])[0]
    np.testing.assert_array_equal(seen, data.next_observations[row])


def test_noise_is_of_the_stated_size():
    quiet, noisy = (Sides(noise=noise).collect(Part(0, EPISODE, 0)) for noise in (0.0, 0.02))
    np.testing.assert_array_equal(quiet["observations"][0], noisy["observations"][0])
    rng = Part(0, 1, 0).rng()
    rng.choice([-1, 1]), rng.uniform(0.5, 0.6), rng.integers(2**31)
    drawn = rng.normal(0.0, 0.02, 2)
    np.testing.assert_allclose(noisy["actions"][0] - quiet["actions"][0], drawn, atol=1e-7)


def test_the_set_of_images_shows_the_same_demonstrations(data):
    seen = make_dataset("fork-images", steps=3 * EPISODE, seed=1)
    np.testing.assert_array_equal(seen.actions, data.actions[: len(seen)])
    np.testing.assert_array_equal(seen.infos["position"], data.observations[: len(seen)])
    np.testing.assert_array_equal(seen.observations, [draw(place) for place in seen.infos["position"]])
    assert len(seen.episodes) == 3 and seen.next_observations is None and seen.infos["has_actions"].all()
    assert seen.attributes["environment"] == "fork-images"


def test_looks_are_pictures_without_actions():
    looks = make_dataset("fork-looks", steps=20)
    assert len(looks.episodes) == len(looks) == 20 and not looks.actions.any() and not looks.infos["has_actions"].any()
    things = np.isin(looks.observations, [*COLOURS.values()]).all(-1)
    assert things[:, PIXELS // 2, PIXELS // 2].all()  # the obstacle, or the point on it
    corners = {tuple(image[0, 0].tolist()) for image in looks.observations}
    assert len(corners) > 15
    both = concatenate(make_dataset("fork-images", steps=EPISODE), looks)
    assert both.infos["has_actions"].sum() == len(both) - 20


def test_of_the_halves_none_goes_all_the_way_and_they_meet_beside_the_obstacle():
    data = make_dataset("fork-halves", steps=40 * EPISODE, seed=1)
    starts, stops = data.episodes.T
    half, length = data.infos["half"][starts], stops - starts
    np.testing.assert_array_equal(half, np.arange(40) % 2)
    np.testing.assert_array_equal(data.returns, half)
    np.testing.assert_array_equal(data.terminals[stops - 1], half == 1)
    assert (length[half == 0] == EPISODE).all() and data.attributes["successful_episodes"] == "50.0%"
    height = data.observations[:, 1]
    lower, upper = (height[data.infos["half"] == each] for each in (0, 1))
    assert lower.min() < -0.9 and lower.max() < 0.25 and upper.min() > -0.25 and upper.max() > 0.8
    there = (np.abs(data.observations[:, 0] - 0.55) < 0.1) & (np.abs(height) < 0.1)
    assert (data.infos["half"][there] == 0).sum() > 20 and (data.infos["half"][there] == 1).sum() > 20
    assert data.observations[stops[half == 0] - 1, 0].min() > 1.0
    assert data.observations[starts[half == 1], 0].min() > 1.0
