"""Settings that several methods share: what the optimiser does that they describe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.configs import AdamW, RisingEMA
from reverie.errors import ReverieError


def test_the_rate_rises_falls_and_is_what_weights_decay_by():
    """Without a gradient a weight shrinks by rate x decay at each update, which tells the rate."""
    config = AdamW(learning_rate=0.1, warmup_updates=10, decay_updates=30, weight_decay=0.5)
    by, weight = config.optimiser, jnp.float32(1.0)

    def update(carry, _):
        weight, moments = carry
        change, moments = by.update(jnp.zeros(()), moments, weight)
        return (weight + change, moments), change / weight

    _, shrunk = jax.jit(lambda: jax.lax.scan(update, (weight, by.init(weight)), length=30))()
    steps = np.arange(30)
    expected = np.where(steps < 10, steps / 10, (1 + np.cos(np.pi * (steps - 10) / 20)) / 2)
    np.testing.assert_allclose(-shrunk / 0.5, 0.1 * expected, atol=1e-6)


def test_a_rate_that_would_fall_before_it_has_risen_is_refused():
    with pytest.raises(ReverieError, match="decay_updates = 5 must exceed warmup_updates = 10"):
        AdamW(warmup_updates=10, decay_updates=5)


def test_the_rising_average_copies_at_first_and_then_keeps_ever_more():
    """decay = 1 - (1 + step)^-power, by hand, and never above the largest."""
    config = RisingEMA(ema_decay=0.9, ema_power=0.75)
    for step, decay in ((0, 0.0), (1, 1 - 2**-0.75), (15, 1 - 16**-0.75), (10_000, 0.9)):
        averaged = config.averaged({"w": jnp.float32(1.0)}, {"w": jnp.float32(0.0)}, jnp.int32(step))["w"]
        np.testing.assert_allclose(averaged, decay, rtol=1e-6)
