"""Contrastive Diffuser: without its loss it is Diffuser, and with it plans lead to where returns are high."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_diffuser import two_ways

import reverie
from reverie.planners import ContrastiveDiffuser, Diffuser

SMALL = {"horizon": 8, "width": 32, "multipliers": (1,), "diffusion_steps": 10, "termination_penalty": 0.0}


def test_without_contrast_it_is_diffuser():
    """The programs of an update are the same, letter for letter, and so are their results, bit for bit."""
    view, spec = ContrastiveDiffuser(**SMALL).prepare(two_ways(20))
    batch = view.draw(jax.random.key(0), 16)

    def program(algorithm):
        state = jax.eval_shape(algorithm.init, jax.random.key(0), spec)
        return str(jax.make_jaxpr(algorithm.update)(state, batch, jax.random.key(0)))

    plain = program(Diffuser(**SMALL))
    assert program(ContrastiveDiffuser(**SMALL, contrast=0.0)) == plain
    assert program(ContrastiveDiffuser(**SMALL, contrast=0.1)) != plain


def test_the_loss_is_diffusers_and_the_weighted_contrast_of_what_is_predicted():
    """A network that answers 0 predicts the mean state in every row; the last rows lie beyond the episode."""
    algorithm = ContrastiveDiffuser(**SMALL, contrast=0.3)
    view, _ = algorithm.prepare(two_ways(20, ended=True))
    batch = view.draw(jax.random.key(0), 16)
    key = jax.random.key(1)
    assert 0 < batch["mask"][:, 1:].mean() < 1

    def silent(x, t, condition):
        return jnp.zeros_like(x)

    @jax.jit
    def losses(key):
        plain = replace(algorithm, contrast=0.0).denoising_loss(silent, batch, key)
        loss = algorithm.denoising_loss(silent, batch, key)
        return loss - plain, *algorithm.contrasted(batch, jax.random.fold_in(key, 2))

    found, high, low = losses(key)
    density = [np.exp(-np.square(each[:, 0]) / algorithm.temperature).mean() for each in (high, low)]
    contrast = -np.log(density[0] / sum(density))
    inside = (np.asarray(batch["mask"])[:, 1:].sum(1) > 0).mean()
    assert float(found) == pytest.approx(0.3 * inside * contrast, rel=1e-4)


def test_states_are_drawn_by_a_key_that_the_loss_does_not_use():
    drawn = []

    class Spied(ContrastiveDiffuser):
        def contrasted(self, batch, key):
            drawn.append(jax.random.key_data(key).tolist())
            return super().contrasted(batch, key)

    algorithm, key = Spied(**SMALL), jax.random.key(1)
    batch = algorithm.prepare(two_ways(20))[0].draw(jax.random.key(0), 16)
    algorithm.denoising_loss(lambda x, t, condition: x, batch, key)
    assert len(drawn) == 1
    assert drawn[0] not in jax.random.key_data(jax.random.split(key)).tolist()


def test_high_states_are_those_of_high_return_in_the_episode():
    algorithm = ContrastiveDiffuser(**SMALL, contrasts=200, softness=1e-3)
    view, spec = algorithm.prepare(two_ways(50))
    high, low = jax.jit(algorithm.contrasted)(view.draw(jax.random.key(0), 64), jax.random.key(1))
    high, low = (np.asarray(spec.denormalise("observations", each))[:, 0] for each in (high, low))
    # Of the right's twelve steps those with more than 0.4 of the return to go: up to the seventh, at 0.6.
    assert high.min() > -0.05
    assert high.max() < 0.85
    assert low.min() < -0.9
    assert low.max() > 0.9


@pytest.mark.slow
def test_contrast_leads_to_where_returns_are_high(optimised):
    """Unguided plans' states are mostly on the rewarded side, where half of the data's are and half of Diffuser's (as
    test_diffuser.py finds), and move as the data's do, by 0.1 a row."""
    algorithm = ContrastiveDiffuser(
        **SMALL, contrast=2.0, ema_start=100, ema_decay=0.9, learning_rate=1e-3, value_updates=0
    )
    with optimised():
        run = reverie.fit(algorithm, two_ways(), steps=200, progress=False)
    free = replace(algorithm, guidance_scale=0.0, candidates=1)
    carry = free.reset(run.spec, 256, {})
    plan = jax.jit(free.plan)(run.state(), run.spec, jnp.zeros((256, 1)), carry, jax.random.key(0))
    states = np.asarray(run.spec.denormalise("observations", plan[:, 2:, 1:]))[..., 0]
    assert (states > 0).mean() > 0.8
    assert np.abs(np.diff(states, axis=1) - 0.1 * np.sign(states[:, 1:])).mean() < 0.12
