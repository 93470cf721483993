"""The recurrent state-space model: its divergence by hand, which rows count, and what it learns of a hidden speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.models import LatentModel
from reverie.models.latent import divergence
from reverie.networks import GRU
from reverie.rl import Normal

SIZES = {"width": 8, "size": 2, "hidden": (8,)}
WEIGHTS = {"balance": 0.8, "free_nats": 1.0, "std": 0.1}


def normal(mean, std) -> Normal:
    return Normal(jnp.array(mean), jnp.array(std))


def test_the_divergence_of_gaussians_by_hand():
    first, second = normal([1.0, 0.0], [1.0, 0.5]), normal([0.0, 0.0], [2.0, 0.5])
    assert divergence(first, second) == pytest.approx((1 / 4 + 1 / 4 - 1) / 2 + np.log(2), abs=1e-6)
    assert divergence(first, first) == 0


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


def test_rows_outside_the_episode_do_not_count():
    model, rows = LatentModel(jax.random.key(0), 1, 1, **SIZES), batch(4, 6)
    rows["mask"] = rows["mask"].at[:, 4:].set(0)
    changed = rows | {name: rows[name].at[:, 4:].add(3.0) for name in ("observations", "rewards", "actions")}
    loss, seen = (
        jax.jit(lambda rows: model.loss(rows, jax.random.key(1), **WEIGHTS)[0])(each) for each in (rows, changed)
    )
    np.testing.assert_allclose(loss, seen, rtol=1e-6)


def test_free_nats_stop_the_divergence_s_gradient():
    model, rows = LatentModel(jax.random.key(0), 1, 1, **SIZES), batch(4, 6)

    @jax.jit
    def prior_moves(free_nats):
        weights = WEIGHTS | {"free_nats": free_nats}
        gradient = jax.grad(lambda model: model.loss(rows, jax.random.key(1), **weights)[0])(model)
        return jnp.abs(gradient.prior_net.layers[0].weight).max()

    assert prior_moves(100.0) == 0
    assert prior_moves(0.0) > 0


def test_it_imagines_what_follows_by_a_speed_that_it_has_only_seen_the_effect_of():
    import optax

    model, by = LatentModel(jax.random.key(0), 1, 1, width=32, size=2, hidden=(32,)), optax.adam(3e-3)
    rows = batch(256, 6)

    def step(carry, key):
        model, moments = carry
        chosen = jax.random.randint(key, (32,), 0, 256)
        few = jax.tree.map(lambda x: x[chosen], rows)
        gradient, _ = jax.grad(lambda model: model.loss(few, key, **WEIGHTS), has_aux=True)(model)
        updates, moments = by.update(gradient, moments)
        return (optax.apply_updates(model, updates), moments), ()

    train = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    (model, _) = train((model, by.init(model)), jax.random.split(jax.random.key(1), 400))
    new = batch(128, 6, seed=1)

    @jax.jit
    def imagined(model):
        """The last state, from the one three steps before, which is the third that was observed."""
        _, (_, latents) = model.loss(new, jax.random.key(2), **WEIGHTS)
        latent = jax.tree.map(lambda x: x[:, 2], latents)
        for t in range(2, 5):
            latent = model.next(latent, new["actions"][:, t], jax.random.key(t))
        return model.observation(latent)

    last = new["observations"][:, 5]
    assert jnp.abs(imagined(model) - last).mean() < 0.3 * jnp.abs(new["observations"][:, 2] - last).mean()
