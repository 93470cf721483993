"""ReinFlow: without its noise it is the flow that it begins from; with it, a chain whose likelihood PPO climbs."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import reverie
from arm import SHORT, Arm, acted, begun, moves, near_a_mode, two_ways
from reverie.data import Gaussian
from reverie.errors import ReverieError, RunError
from reverie.policies import FPO, IFQL, DiffusionBC, ReinFlow
from reverie.training import fit_online

SMALL = {"hidden": (32, 32), "critic_hidden": (8,)}
TUNED = SMALL | {"noise_hidden": (8,), "flow_steps": 3, "batch_size": 128}


@pytest.fixture(scope="module")
def cloned():
    algorithm = IFQL(**SMALL, learning_rate=3e-3, decay_updates=3000)
    return reverie.fit(algorithm, two_ways(), steps=3000, progress=False)


@pytest.mark.parametrize("steps", [1, 3])
def test_without_noise_it_is_the_flow_that_it_begins_from(cloned, steps):
    """In as many Euler steps as it takes itself, one too."""
    algorithm = ReinFlow(**TUNED | {"flow_steps": steps})
    flow = cloned.state().flow.params
    x = noise = jax.random.normal(jax.random.key(0), (2000, 1))
    for i in range(steps):
        x = x - flow(x, jnp.full(2000, 1 - i / steps), jnp.zeros((2000, 1))) / steps
    found = acted(cloned, algorithm, begun(cloned, algorithm))
    np.testing.assert_allclose(found, jnp.clip(x, -1, 1)[:, 0], atol=1e-5)
    assert noise.std() > 0.9


def test_a_chain_is_likely_as_its_gaussian_steps_are(cloned):
    """By hand, of the first noise and of Euler's steps in times 1, 2/3, 1/3, a mean over the four. No step's noise is
    beyond three standard deviations."""
    algorithm = ReinFlow(**TUNED)
    state = begun(cloned, algorithm)
    seen = jnp.zeros((2000, 1))
    action, recorded = jax.jit(lambda key: algorithm.explore(state, cloned.spec, seen, key))(jax.random.key(1))
    chain = recorded["chain"]
    net, total, farthest = state.actor.params, norm.logpdf(chain[:, 0])[:, 0], []
    for i in range(3):
        t, x = jnp.full((2000, 1), 1 - i / 3), chain[:, i]
        way = (1 + jnp.tanh(net.noise(jnp.concatenate([seen, x, t], -1)))) / 2
        std = 0.1 ** (1 - way) * 0.24**way
        mean = x - net.flow(x, t[:, 0], seen) / 3
        total += norm.logpdf(chain[:, i + 1], mean, std)[:, 0]
        assert (std >= 0.1).all() and (std <= 0.24).all()
        farthest.append(jnp.abs((chain[:, i + 1] - mean) / std).max())
    np.testing.assert_allclose(max(farthest), 3, atol=1e-3)  # as one in 370 of 6000 would go further
    assert (total / 4 < -1).any()
    found = jax.jit(lambda chain: algorithm.log_prob(net, seen, chain)[0])(chain)
    np.testing.assert_allclose(found, np.clip(total / 4, -1, 1), atol=1e-4)
    np.testing.assert_array_equal(action, chain[:, -1])
    # What the old policy says of a round is asked when it is learned, and not at every step.
    assert set(recorded) == {"chain"}


def test_the_likelihood_of_a_chain_is_a_mean_over_its_entries():
    """Of two entries that are the same as one, the same: the clip means the same whatever the action's size is. A chain
    that no step explains is as likely as the least that counts."""
    algorithm = ReinFlow(**TUNED)

    def likely(chain):
        def flow(x, t, cond):
            return -jnp.ones_like(x)

        def noise(rows):  # between the bounds, in the logarithm
            return jnp.zeros((*rows.shape[:-1], chain.shape[-1]))

        return algorithm.log_prob(SimpleNamespace(flow=flow, noise=noise), jnp.zeros((1, 1)), chain)[0]

    chain = jnp.linspace(-0.5, 0.7, 4).reshape(1, 4, 1)
    std = np.sqrt(0.1 * 0.24)
    by_hand = (norm.logpdf(-0.5) + 3 * norm.logpdf(0.4, 1 / 3, std)) / 4
    for entries in (1, 2):
        np.testing.assert_allclose(likely(jnp.repeat(chain, entries, -1)), by_hand, rtol=1e-4)
    assert likely(10 * chain) == -1


def test_before_the_first_step_the_ratio_is_one(cloned):
    run = fit_online(
        ReinFlow(**TUNED | {"batch_size": 256}, epochs=1, learning_rate=1e-2), Arm, steps=768, initial=cloned, **SHORT
    )
    np.testing.assert_allclose(run.metrics()["approx_kl"], 0, atol=1e-8)
    np.testing.assert_array_equal(run.metrics()["clip_fraction"], 0)


@dataclass(frozen=True)
class Watching(ReinFlow):
    """Tells the largest reward of a round."""

    def update(self, state, batch, key):
        state, metrics = super().update(state, batch, key)
        return state, metrics | {"reward": batch["rewards"].max()}


def test_rewards_are_the_environment_s_whatever_they_were_in_the_run_that_it_begins_from(cloned):
    """Of an arm that pays 1, from a run that was told r - 1."""
    units = {"rewards": Gaussian(jnp.ones(1), jnp.ones(1))}
    told = replace(cloned, spec=replace(cloned.spec, normalisers=cloned.spec.normalisers | units))
    run = fit_online(Watching(**TUNED, epochs=1), Arm, steps=512, initial=told, **SHORT)
    np.testing.assert_array_equal(run.metrics()["reward"], 1)


def test_mass_moves_to_the_mode_that_is_rewarded(cloned):
    before = acted(cloned, ReinFlow(**TUNED), begun(cloned, ReinFlow(**TUNED)))
    how = TUNED | {"learning_rate": 3e-4, "clip": 0.1, "entropy": 0.0}
    settings = SHORT | {"log_every": 1024, "warmup": 1024}
    run = fit_online(ReinFlow(**how), Arm, steps=16384, initial=cloned, **settings)
    paid = run.metrics()["return"]
    moves(paid, 1024)
    after = acted(run, run.algorithm, run.state())
    assert (before > 0).mean() < 0.35 and (after > 0).mean() > 0.85
    assert near_a_mode(after) > near_a_mode(before)
    # The rewards are nowhere but there, and noise costs some: there is less of it in the end.
    assert run.metrics()["step_std"][-1] < run.metrics()["step_std"][0]


def test_runs_that_it_cannot_begin_from_are_refused(cloned):
    for algorithm, run, message in (
        (
            ReinFlow(**TUNED),
            replace(cloned, algorithm=DiffusionBC()),
            "a run of fql, ifql or qam, and this one is of diff",
        ),
        (ReinFlow(**TUNED), replace(cloned, algorithm=FPO()), "a run of fql, ifql or qam, and this one is of fpo"),
        (ReinFlow(**TUNED | {"hidden": (16,)}), cloned, "other sizes than those of this reinflow"),
    ):
        with pytest.raises(RunError, match=message):
            begun(run, algorithm)
    with pytest.raises(ReverieError, match=r"least_std = 0.5 exceeds largest_std = 0.24"):
        ReinFlow(least_std=0.5)
