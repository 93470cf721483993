"""Hooks: inpainting, and several in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import TWO_MODES

from reverie import diffusion
from reverie.diffusion import sample


def test_inpainting_holds_the_entries_exactly_and_conditions_the_rest():
    process = diffusion.vp_cosine(50)
    mask, value = jnp.array([True, False]), jnp.array([-1.4, 0.0])
    x, past = sample(
        process,
        TWO_MODES.denoiser(process),
        jax.random.key(0),
        (2048, 2),
        nfe=50,
        project=diffusion.inpaint(mask, value),
        history=True,
    )
    assert np.all(past[..., 0] == np.float32(-1.4))
    # x_0 = -1.4 belongs to the second mode, whose second coordinate is -1.
    assert abs(float(jnp.median(x[:, 1])) + 1.0) < 0.1


def ball(x, t):
    """Projection onto the unit ball: a safe set."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1)


HOLD = diffusion.inpaint(jnp.array([True, False]), 0.5)


def test_a_soft_mask_draws_entries_towards_their_values():
    x, values = jnp.array([[3.0, -1.0, 2.0]]), jnp.array([1.0, 1.0, 1.0])
    soft = diffusion.inpaint(jnp.array([0.0, 0.25, 1.0]), values)
    np.testing.assert_array_equal(soft(x, 0.5), [[3.0, -0.5, 1.0]])
    hard = diffusion.inpaint(jnp.array([False, False, True]), values)
    np.testing.assert_array_equal(diffusion.inpaint(jnp.array([0.0, 0.0, 1.0]), values)(x, 0.5), hard(x, 0.5))


def test_hooks_chain_in_order():
    def add(x, t):
        return x + 1

    def double(x, t):
        return 2 * x

    x = jnp.float32(1.0)
    assert diffusion.chain(add, double)(x, 0.5) == 4
    assert diffusion.chain(double, add)(x, 0.5) == 3
    assert diffusion.chain([add, double], None, add)(x, 0.5) == 5
    assert diffusion.chain(None)(x, 0.5) == diffusion.chain(())(x, 0.5) == 1


@pytest.mark.parametrize("solver", ["ddpm", "heun"])
def test_sampling_keeps_every_hook_and_their_order(solver):
    """Inpainting after the ball leaves the entry at its value exactly; before it, the ball has the last word."""
    process = diffusion.vp_cosine(20)

    def run(project):
        _, past = sample(
            process,
            lambda x, t: jnp.full_like(x, 3.0),
            jax.random.key(0),
            (64, 2),
            nfe=9,
            solver=solver,
            project=project,
            history=True,
        )
        return np.asarray(past)

    held = run([ball, HOLD])
    assert np.all(held[..., 0] == 0.5)
    assert np.abs(held[..., 1]).max() <= 1 + 1e-6
    safe = run((HOLD, ball))
    assert np.linalg.norm(safe, axis=-1).max() <= 1 + 1e-6
    assert np.any(safe[..., 0] != 0.5)


def test_the_loss_sees_the_input_after_every_hook():
    """A network that shows what it sees: with x0 = 0 and x0 as its target, the loss is the mean square of its input."""
    process = diffusion.vp_cosine(20, prediction="x0")
    x0 = jnp.zeros((256, 2))
    hold = diffusion.inpaint(jnp.array([True, True]), jnp.array([3.0, 4.0]))
    loss = process.loss(lambda x, t, c: x, x0, jax.random.key(0), project=[hold, ball])
    np.testing.assert_allclose(loss, (0.6**2 + 0.8**2) / 2, rtol=1e-6)
    loss = process.loss(lambda x, t, c: x, x0, jax.random.key(0), project=[ball, hold])
    np.testing.assert_allclose(loss, (3**2 + 4**2) / 2, rtol=1e-6)


def test_a_guide_projects_by_every_hook():
    """After the guide's ascent, before the evaluation, the denoiser sees x held and inside the ball."""
    process = diffusion.vp_cosine(20)
    seen = []

    def denoiser(x, t):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        return jnp.zeros_like(x)

    guide = diffusion.value_gradient(lambda x, t: 100 * x.sum(-1), 1.0, project=[ball, HOLD])
    sample(process, denoiser, jax.random.key(0), (16, 2), nfe=20, guide=guide)
    jax.effects_barrier()
    assert np.all(np.array(seen)[..., 0] == 0.5)
    assert np.abs(np.array(seen)[..., 1]).max() <= 1 + 1e-6
