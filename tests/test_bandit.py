"""Four ways to act, one of them the best: who keeps all four, who lands between them, and who finds the best."""

from dataclasses import replace

import numpy as np
import pytest

from bandit import BEST, CORNERS, REWARDS, act, bandit, distances, fractions, spread, train
from reverie.baselines import BC
from reverie.policies import FQL, IDQL, DiffusionBC, DiffusionQL

OPTIMISED = True


def of_q(kind, updates, learning_rate=3e-3, **fields):
    """A method in sizes that learn in seconds, and how long it learns."""
    return kind(learning_rate=learning_rate, tau=0.1, decay_updates=updates, **fields), updates


QL = {"hidden": (64, 64, 64), "critic_hidden": (64, 64, 64), "ema_start": 0}
EDP = {"action_approximation": "one-step", "eta": 0.2, "diffusion_steps": 20, "gradient_clip": 1.0}
IMPROVING = {
    "diffusion-ql": of_q(DiffusionQL, 1000, eta=4.0, **QL),
    "diffusion-ql one-step": of_q(DiffusionQL, 1500, 5e-3, **EDP, **QL),
    "idql": of_q(IDQL, 1000, candidates=64, critic_hidden=(32, 32), width=32, ema_decay=0.99),
    "fql": of_q(FQL, 1000, hidden=(32, 32), critic_hidden=(32, 32), alpha=0.3),
}


@pytest.fixture(scope="module")
def trained():
    """What has been trained so far."""
    data, kept = bandit(rewards=10 * REWARDS), {}

    def get(name):
        if name not in kept:
            algorithm, updates = IMPROVING[name]
            kept[name] = algorithm, *train(algorithm, data, updates)
        return kept[name]

    return get


def test_diffusion_keeps_all_the_ways_in_their_proportions():
    """Each corner 20 to 30 % of 4000 actions within 5 of the data's standard deviations of it; as wide as the data to
    a factor of 2."""
    algorithm = DiffusionBC(hidden=(64, 64), diffusion_steps=50, batch_size=512, learning_rate=5e-3, decay_updates=3000)
    actions = act(algorithm, *train(algorithm, bandit(), 3000), n=4000)
    assert (np.abs(fractions(actions) - 0.25) < 0.05).all()
    for corner in range(4):
        near = actions[distances(actions)[:, corner] < 5]
        assert (spread(near, corner) > 0.5).all()
        assert (spread(near, corner) < 2).all()


def test_a_gaussian_lands_in_the_middle():
    algorithm = BC(hidden=(32, 32), learning_rate=3e-3, decay_updates=400)
    state, spec = train(algorithm, bandit(), 400)
    assert np.linalg.norm(act(algorithm, state, spec, n=1)) < 0.1
    assert fractions(act(replace(algorithm, stochastic=True), state, spec)).sum() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", IMPROVING)
def test_the_best_way_is_found_and_kept_to(name, trained):
    """Over 90 % of 1000 actions within 5 of the data's standard deviations of the best corner (0.25, of 1.6 to the next
    one), half of them within 3; their own standard deviation at most 2.5 of the data's."""
    actions = act(*trained(name), n=1000)
    assert fractions(actions)[BEST] > 0.9
    assert np.median(distances(actions)[:, BEST]) < 3
    assert (spread(actions) < 2.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("name, smallest", [("diffusion-ql", 0.9), ("diffusion-ql one-step", 0.35)])
def test_the_actor_itself_has_improved(name, smallest, trained):
    """Without a choice among candidates; the behaviour's own actions are best in a quarter of the cases."""
    algorithm, state, spec = trained(name)
    actions = act(replace(algorithm, candidates=1), state, spec)
    assert (distances(actions).argmin(1) == BEST).mean() > smallest


def test_the_measures_of_the_data_themselves():
    """Of the data: a quarter each, and a spread of 1 to 10 %; of the middle, nothing."""
    actions = bandit().actions
    np.testing.assert_array_equal(fractions(actions), 0.25)
    for corner in range(4):
        np.testing.assert_allclose(spread(actions, corner), 1, atol=0.1)
    assert fractions(np.zeros((10, 2))).sum() == 0
    np.testing.assert_allclose(distances(CORNERS).diagonal(), 0)
