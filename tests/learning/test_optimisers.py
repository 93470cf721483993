"""Optimisers and averages against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.learning import Optimised, delayed_ema, ema, optimiser


def path(by, grads, start=0.0):
    """The parameter after each step of the optimiser, for a sequence of gradients."""
    model = Optimised.create({"w": jnp.float32(start)}, by)
    step = jax.jit(lambda model, grad: model.apply({"w": grad}, by))
    points = []
    for grad in grads:
        model = step(model, jnp.float32(grad))
        points.append(float(model.params["w"]))
    return np.array(points)


def test_adam_moves_by_the_rate_under_a_constant_gradient():
    np.testing.assert_allclose(path(optimiser(0.1), [3.0] * 4), [-0.1, -0.2, -0.3, -0.4], rtol=1e-4)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-12])
def test_betas_weigh_the_gradients_of_the_past(weight_decay):
    b1, b2, g = 0.6, 0.8, np.array([3.0, -1.0])
    first, second = (1 - b1) * (b1 * g[0] + g[1]) / (1 - b1**2), (1 - b2) * (b2 * g[0] ** 2 + g[1] ** 2) / (1 - b2**2)
    steps = path(optimiser(0.1, betas=(b1, b2), weight_decay=weight_decay), g)
    np.testing.assert_allclose(steps, [-0.1, -0.1 - 0.1 * first / np.sqrt(second)], rtol=1e-5)


def test_cosine_schedule_after_warmup():
    # Under a constant gradient each step of Adam is the rate itself.
    rates = -np.diff(path(optimiser(0.1, schedule="cosine", steps=14, warmup=4), [1.0] * 16), prepend=0.0)
    turn = np.clip((np.arange(16) - 4) / 10, 0, 1)
    expected = np.where(np.arange(16) < 4, np.arange(16) / 40, 0.05 * (1 + np.cos(np.pi * turn)))
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-6)
    assert rates[-1] == 0


def test_warmup_then_constant():
    rates = -np.diff(path(optimiser(0.1, warmup=4), [1.0] * 6), prepend=0.0)
    np.testing.assert_allclose(rates, [0, 0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-4)


@pytest.mark.parametrize("steps", [None, 5])
def test_cosine_schedule_needs_its_length(steps):
    with pytest.raises(ReverieError, match=f"warmup = 5; steps is {steps}"):
        optimiser(0.1, schedule="cosine", steps=steps, warmup=5)


def test_clip_bounds_the_norm():
    # Adam's second step shows the size of the first gradient: clipped from 100 to 1 it counts as 1.
    clipped, equal = path(optimiser(0.1, clip=1.0), [100.0, 1.0]), path(optimiser(0.1), [1.0, 1.0])
    np.testing.assert_allclose(clipped, equal, atol=1e-7)
    assert abs(path(optimiser(0.1), [100.0, 1.0])[1] - equal[1]) > 1e-3


def test_weight_decay_shrinks_the_parameters():
    np.testing.assert_allclose(path(optimiser(0.1, weight_decay=0.5), [0.0, 0.0], start=1.0), [0.95, 0.95**2])


def test_accumulated_gradients_make_one_step_of_their_mean():
    points = path(optimiser(0.1, accumulate=2), [0.0, 2.0, 5.0, -1.0])
    once = path(optimiser(0.1), [1.0, 2.0])
    np.testing.assert_allclose(points, [0, once[0], once[0], once[1]], atol=1e-7)


def test_ema():
    average = ema({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, -2.0])}, 0.75)
    np.testing.assert_array_equal(average["w"], [1.5, 1.0])


def test_delayed_ema_copies_then_moves_every_so_many_steps():
    params = np.random.default_rng(0).normal(size=60).astype(np.float32)
    move = jax.jit(lambda a, p, step: delayed_ema(a, p, step, decay=0.5, every=10, start=30))
    average, expected = jnp.float32(9.0), 9.0
    for step, param in enumerate(params):
        average = move(average, param, step)
        if step % 10 == 0:
            expected = param if step < 30 else 0.5 * expected + 0.5 * param
        if step < 30:
            assert average == expected  # a copy is a copy, and nothing between two moves changes a bit
        np.testing.assert_allclose(average, expected, rtol=1e-6)
