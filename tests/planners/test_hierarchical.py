"""Hierarchical Diffuser on a line: the pieces of the low level meet at the states of the high one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lines import FASTEST, from_to, walks

import reverie
from reverie.errors import DataError, ReverieError
from reverie.planners import HierarchicalDiffuser

ALGORITHM = HierarchicalDiffuser(
    goal_size=1, horizon=4, jump=3, width=16, multipliers=(1, 2), low_multipliers=(1, 2), diffusion_steps=16,
    batch_size=64, ema_start=300, ema_decay=0.9, learning_rate=2e-3, inverse_hidden=(16,),
)  # fmt: skip
planned = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)
waypoints = jax.jit(lambda algorithm, *arguments: algorithm.waypoints(*arguments), static_argnums=0)


@pytest.fixture(scope="module")
def trained(optimised):
    with optimised():
        return reverie.fit(ALGORITHM, walks(), steps=500, progress=False)


@pytest.fixture(scope="module")
def untrained():
    spec = ALGORITHM.prepare(walks(20))[1]
    return spec, jax.jit(ALGORITHM.init)(jax.random.key(0), spec)


@pytest.mark.parametrize("plan_horizon", [0, 6])
def test_the_low_plans_meet_exactly_at_the_states_of_the_high_one(untrained, plan_horizon):
    spec, state = untrained
    algorithm, seen = replace(ALGORITHM, plan_horizon=plan_horizon), from_to(-0.5, 0.3, 5)
    plan = planned(algorithm, state, spec, seen, jax.random.key(7))
    high = waypoints(algorithm, state, spec, seen, jax.random.split(jax.random.key(7))[0])
    rows = plan_horizon or 4
    assert plan.shape == (5, 3 * (rows - 1) + 1, 1) and high.shape == (5, rows, 1)
    np.testing.assert_array_equal(plan[:, ::3], high)
    np.testing.assert_array_equal(algorithm.low_mask()[:, 0], [True, False, False, True])  # in-painted in every piece
    start, goal = algorithm.ends(spec, seen)
    np.testing.assert_array_equal(plan[:, [0, -1]], jnp.stack([start, goal], 1))


def test_pieces_go_evenly_from_state_to_state(trained):
    """Nine steps of a tenth: none above the data's largest, nor back, by more than a tenth of it. (Pieces of a low
    level that knew one end only would jump at the other.)"""
    seen = from_to(-0.5, 0.4, 32)
    plan = planned(trained.algorithm, trained.state(0), trained.spec, seen, jax.random.key(0))
    way = np.asarray(trained.algorithm.states_of(trained.spec, plan))[..., 0]
    steps = np.diff(way, axis=1)
    assert np.median(steps.max(1)) < 1.1 * FASTEST and np.median(steps.min(1)) > -0.1 * FASTEST


def test_longer_windows_than_episodes_are_refused_and_impossible_sizes():
    with pytest.raises(DataError, match=r"window of horizon 16 .* the longest has 14"):
        replace(ALGORITHM, horizon=6, multipliers=(1, 2)).prepare(walks(5))
    with pytest.raises(ReverieError, match="horizon 5 cannot be halved"):
        replace(ALGORITHM, jump=4)
    with pytest.raises(ReverieError, match="horizon 5 cannot be halved"):
        replace(ALGORITHM, plan_horizon=5)
