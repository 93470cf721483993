"""The recurrent state-space model: its divergence by hand, which rows count, and what it learns of a hidden speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.learning import Optimised, optimiser
from reverie.models import LatentModel
from reverie.networks import GRU
from reverie.rl import Normal


def normal(mean, std) -> Normal:
    return Normal(jnp.array(mean), jnp.array(std))


def test_the_divergence_of_gaussians_by_hand():
    first, second = normal([1.0, 0.0], [1.0, 0.5]), normal([0.0, 0.0], [2.0, 0.5])
    assert first.kl_divergence(second) == pytest.approx((1 / 4 + 1 / 4 - 1) / 2 + np.log(2), abs=1e-6)
    assert first.kl_divergence(first) == 0


def test_a_gate_keeps_or_replaces_what_a_gru_remembers():
    cell, hidden = GRU(jax.random.key(0), 1, 2), jnp.array([0.3, -0.4])
    for bias, expected in ((50.0, hidden), (-50.0, jnp.tanh(cell.new(jnp.array([1.0, 0, 0]))))):
        gates = cell.gates
        object.__setattr__(gates, "bias", jnp.array([-50.0, -50, bias, bias]))
        np.testing.assert_allclose(cell(jnp.ones(1), hidden), expected, atol=1e-6)


def batch(n: int, steps: int, seed=0):
    """Points that keep a speed that is not observed, and are paid for where they are."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (n, steps, 1))
    speed = rng.uniform(-1, 1, (n, 1, 1)) + 0.3 * np.pad(actions.cumsum(1), ((0, 0), (1, 0), (0, 0)))[:, :-1]
    places = np.pad(0.3 * speed.cumsum(1), ((0, 0), (1, 0), (0, 0)))[:, :-1]
    ends = np.zeros((n, steps))
    rows = {"observations": places, "actions": actions, "rewards": places[..., 0], "terminals": ends}
    return {name: jnp.asarray(x, jnp.float32) for name, x in rows.items()} | {"mask": jnp.ones((n, steps))}


MODEL = LatentModel(jax.random.key(0), 1, 1, width=32, size=2, hidden=(16,))


@jax.jit
def graded(model, rows, key, free_nats=1.0):
    """The loss, the latents, and the gradient."""

    def loss(model):
        value, (_, latents) = model.loss(rows, key, balance=0.8, free_nats=free_nats, std=0.1)
        return value, (value, latents)

    gradient, (value, latents) = jax.grad(loss, has_aux=True)(model)
    return value, latents, gradient


def test_rows_outside_the_episode_do_not_count():
    rows = batch(64, 6)
    rows["mask"] = rows["mask"].at[:, 4:].set(0)
    changed = rows | {name: rows[name].at[:, 4:].add(3.0) for name in ("observations", "rewards", "actions")}
    before, after = (graded(MODEL, each, jax.random.key(1))[0] for each in (rows, changed))
    np.testing.assert_allclose(before, after, rtol=1e-6)


def test_free_nats_stop_the_divergence_s_gradient():
    def prior_moves(free_nats):
        gradient = graded(MODEL, batch(64, 6), jax.random.key(1), free_nats)[-1]
        return jnp.abs(gradient.prior_net.layers[0].weight).max()

    assert prior_moves(100.0) == 0
    assert prior_moves(0.0) > 0


def test_it_imagines_what_follows_by_a_speed_that_it_has_only_seen_the_effect_of():
    by = optimiser(3e-3)
    learner, rows = Optimised.create(MODEL, by), batch(512, 6)
    apply = jax.jit(lambda learner, gradient: learner.apply(gradient, by))
    for step in range(300):
        few = jax.tree.map(lambda x, first=step % 8 * 64: x[first : first + 64], rows)
        learner = apply(learner, graded(learner.params, few, jax.random.key(step))[-1])
    new = batch(64, 6, seed=1)
    latents = graded(learner.params, new, jax.random.key(2))[1]

    @jax.jit
    def imagined(model, latents):
        """The last state, from the one three steps before, which is the third that was observed."""
        latent = jax.tree.map(lambda x: x[:, 2], latents)
        for t in range(2, 5):
            latent = model.next(latent, new["actions"][:, t], jax.random.key(t))
        return model.observation(latent)

    last = new["observations"][:, 5]
    away = jnp.abs(imagined(learner.params, latents) - last).mean()
    assert away < 0.4 * jnp.abs(new["observations"][:, 2] - last).mean()
