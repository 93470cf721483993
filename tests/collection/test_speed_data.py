import numpy as np

from reverie.collection import make_dataset
from reverie.collection.recipe import Part
from reverie.collection.speed import RandomSpeeds
from reverie.environments import make
from reverie.environments.speed import LIMIT


def test_every_episode_keeps_one_speed_and_then_another_and_pays_for_both():
    data = make_dataset("speed", steps=200 * LIMIT, seed=1)
    assert len(data.episodes) == 200 and (np.diff(data.episodes) == LIMIT).all()
    np.testing.assert_array_equal(data.costs, data.rewards)
    np.testing.assert_allclose(data.costs, data.next_observations[:, 0], atol=1e-6)
    # The mean of two speeds, for shares of an episode that are equal in the mean.
    assert abs(data.returns.mean() / LIMIT - 0.5) < 4 * 0.25 / 200**0.5
    speeds = data.next_observations[:, 0].reshape(200, LIMIT)
    # Beyond four standard deviations of the noise: a change of at most 1, by a quarter a step, and what is left of one.
    jumps = np.abs(np.diff(speeds[:, 6:], axis=1)) > 0.15
    assert (jumps.sum(1) <= 5).all() and jumps.any(1).mean() > 0.4


def test_the_environment_does_the_same_again():
    rows, rng, env = RandomSpeeds().collect(Part(0, LIMIT, 3)), Part(0, 1, 3).rng(), make("speed")
    rng.uniform(0, 1, 2), rng.integers(LIMIT)
    seen = env.reset(seed=int(rng.integers(2**31)))[0]
    for row in range(LIMIT):
        np.testing.assert_array_equal(seen, rows["observations"][row])
        seen, reward, *_ = env.step(rows["actions"][row])
        assert np.float32(reward) == rows["rewards"][row]
