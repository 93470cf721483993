"""Soft actor-critic's temperature: which entropy it keeps."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from bandit import bandit, start, update
from reverie.baselines import SAC
from reverie.policies import DSRL

SMALL = SAC(hidden=(8,), critic_hidden=(8,), learning_rate=1e-2)


@pytest.mark.parametrize("above", [0.1, -0.1])
def test_the_temperature_rises_where_the_entropy_is_below_the_wanted_one_and_falls_where_it_is_above(above):
    """By Adam's first step, of the rate; of two actions, whose entropy is known from the update's own metrics."""
    state, batch, _ = start(SMALL, bandit(64))
    key = jax.random.key(2)
    entropy = float(update(SMALL, state, batch, key)[1]["entropy"])
    after, _ = update(replace(SMALL, target_entropy=entropy + above), state, batch, key)
    np.testing.assert_allclose(after.actor.log_temperature.params, np.sign(above) * 1e-2, rtol=1e-3)


def test_the_wanted_entropy_is_minus_one_a_dimension_unless_it_is_given_and_dsrl_s_is_0():
    """The temperature's gradient itself: entropy minus the wanted one, which Adam's first moment has a tenth of."""
    state, batch, _ = start(SMALL, bandit(64))
    for algorithm, wanted in ((SMALL, -2), (replace(SMALL, target_entropy=0.0), 0)):
        after, metrics = update(algorithm, state, batch, jax.random.key(2))
        moments = [leaf for leaf in jax.tree.leaves(after.actor.log_temperature.moments) if leaf.dtype == np.float32]
        np.testing.assert_allclose(moments[0], 0.1 * (metrics["entropy"] - wanted), rtol=1e-4)
    assert DSRL().target_entropy == 0 and SAC().target_entropy is None
