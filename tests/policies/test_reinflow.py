"""ReinFlow: without its noise it is the flow that it begins from; with it, a chain whose likelihood PPO climbs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import reverie
from arm import SHORT, Arm, acted, begun, moves, near_a_mode, two_ways
from reverie.errors import ReverieError, RunError
from reverie.policies import IFQL, DiffusionBC, ReinFlow
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
    """By hand, of Euler's steps in times 1, 2/3, 1/3; and the same as when it was drawn."""
    algorithm = ReinFlow(**TUNED)
    state = begun(cloned, algorithm)
    seen = jnp.zeros((50, 1))
    action, recorded = jax.jit(lambda key: algorithm.explore(state, cloned.spec, seen, key))(jax.random.key(1))
    chain = recorded["chain"]
    net, total = state.actor.params, 0.0
    for i in range(3):
        t, x = jnp.full((50, 1), 1 - i / 3), chain[:, i]
        way = (1 + jnp.tanh(net.noise(jnp.concatenate([seen, x, t], -1)))) / 2
        std = 0.1 ** (1 - way) * 0.24**way
        mean = x - net.flow(x, t[:, 0], seen) / 3
        total += norm.logpdf(chain[:, i + 1], mean, std)[:, 0]
        assert (std >= 0.1).all() and (std <= 0.24).all()
    np.testing.assert_allclose(recorded["log_prob"], total, atol=1e-4)
    np.testing.assert_array_equal(action, chain[:, -1])


def test_before_the_first_step_the_ratio_is_one(cloned):
    run = fit_online(
        ReinFlow(**TUNED | {"batch_size": 256}, epochs=1, learning_rate=1e-2), Arm, steps=768, initial=cloned, **SHORT
    )
    np.testing.assert_allclose(run.metrics()["approx_kl"], 0, atol=1e-9)
    np.testing.assert_array_equal(run.metrics()["clip_fraction"], 0)


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
        (ReinFlow(**TUNED), replace(cloned, algorithm=DiffusionBC()), "a run of fql or ifql, and this one is of diff"),
        (ReinFlow(**TUNED | {"hidden": (16,)}), cloned, "other sizes than those of this reinflow"),
    ):
        with pytest.raises(RunError, match=message):
            begun(run, algorithm)
    with pytest.raises(ReverieError, match=r"least_std = 0.5 exceeds largest_std = 0.24"):
        ReinFlow(least_std=0.5)
