"""DPPO: it acts as the run that it begins from until it learns, and moves its mass to where the reward is."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from arm import SHORT, Arm, acted, begun, moves, near_a_mode, two_ways
from bandit import init
from reverie.errors import ReverieError, RunError
from reverie.policies import DPPO, DSRL, FQL, IDQL, DiffusionBC
from reverie.roles import DVF
from reverie.training import fit_online

SMALL = {"hidden": (32, 32), "diffusion_steps": 5}
TUNED = SMALL | {"critic_hidden": (16,), "tuned_steps": 3}


@pytest.fixture(scope="module")
def cloned():
    return reverie.fit(
        DiffusionBC(**SMALL, learning_rate=3e-3, decay_updates=4000), two_ways(), steps=4000, progress=False
    )


def test_before_it_learns_it_acts_as_the_run_that_it_begins_from(cloned):
    """Whichever part is tuned."""
    before = acted(cloned, cloned.algorithm, cloned.state())
    whole = DPPO(**TUNED | {"tuned_steps": 5})
    state, some = begun(cloned, whole), DPPO(**TUNED)
    for algorithm in (whole, some):
        np.testing.assert_allclose(acted(cloned, algorithm, state), before, atol=1e-6)
    other = jax.tree.map(lambda leaf: leaf + 1, state.actor)
    assert np.abs(acted(cloned, some, replace(state, actor=other)) - before).max() > 0.1


def test_only_the_tuned_steps_are_of_the_network_that_learns(cloned):
    """The base's parameters have no part in the likelihood, and the actor's none in where the tuned steps begin."""
    algorithm = DPPO(**TUNED)
    state = begun(cloned, algorithm)
    other = replace(state, actor=jax.tree.map(lambda leaf: 1.1 * leaf, state.actor))
    explore = jax.jit(lambda state: algorithm.explore(state, cloned.spec, jnp.zeros((8, 1)), jax.random.key(1)))
    (_, one), (_, two) = explore(state), explore(other)
    assert one["chain"].shape == (8, 4, 1)
    np.testing.assert_array_equal(one["chain"][:, 0], two["chain"][:, 0])
    assert jnp.abs(one["chain"][:, 1] - two["chain"][:, 1]).min() > 0


def test_the_network_is_evaluated_once_for_each_denoising_step_of_an_action(cloned):
    """Counted as it acts; what the old policy says of a round is asked when it is learned."""
    calls, algorithm = [], DPPO(**TUNED)
    state = begun(cloned, algorithm)

    def counting(x, t, cond):
        jax.debug.callback(lambda: calls.append(1))
        return state.base(x, t, cond)

    counted = replace(state, base=counting, actor=SimpleNamespace(params=counting))
    algorithm.explore(counted, cloned.spec, jnp.zeros((8, 1)), jax.random.key(1))
    jax.effects_barrier()
    assert len(calls) == 5


def test_the_likelihood_of_a_step_is_a_mean_over_the_action_s_entries(cloned):
    """Of two entries that are the same as one, the same: PPO's clip means the same whatever the action's size is."""
    algorithm = DPPO(**TUNED)
    chain = jnp.linspace(-0.5, 0.7, 4).reshape(1, 4, 1)

    def still(x, t, cond):
        return jnp.zeros_like(x)

    likely = jax.jit(lambda chain: algorithm.log_prob(still, jnp.zeros((1, 1)), chain))
    one, two = (likely(jnp.repeat(chain, d, -1)) for d in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-6)
    far = likely(100 * chain)
    assert far[0, 1] == -5


def test_later_steps_may_move_further_and_count_for_more():
    np.testing.assert_allclose(DPPO(tuned_steps=4).clips, 0.01)  # in locomotion all may go as far
    clips = DPPO(tuned_steps=4, clip_base=0.001).clips
    np.testing.assert_allclose(clips[[0, 3]], [0.001, 0.01])
    assert (np.diff(clips) > 0).all()
    np.testing.assert_allclose(DPPO(tuned_steps=1).clips, [0.01])


def test_before_the_first_step_the_ratio_is_one(cloned):
    """The stored chains are as likely as they were when they were drawn, in whole rounds of one minibatch."""
    algorithm = DPPO(**TUNED, epochs=1, batch_size=256, learning_rate=1e-2)
    run = fit_online(algorithm, Arm, steps=768, initial=cloned, **SHORT)
    np.testing.assert_allclose(run.metrics()["approx_kl"], 0, atol=1e-9)
    np.testing.assert_array_equal(run.metrics()["clip_fraction"], 0)


def test_mass_moves_to_the_mode_that_is_rewarded_and_stays_within_the_modes(cloned):
    """About a sixth of it is there at first. Every 1024 steps there is more of it, to four standard errors; of what is
    drawn in the end no more is of neither mode than was before."""
    before = acted(cloned, cloned.algorithm, cloned.state())
    assert 0.1 < (before > 0).mean() < 0.3
    how = TUNED | {"learning_rate": 3e-4, "clip": 0.05, "clip_base": 0.05, "batch_size": 128, "least_std": 0.05}
    settings = SHORT | {"log_every": 1024, "warmup": 1024}
    run = fit_online(DPPO(**how), Arm, steps=9216, initial=cloned, **settings)
    paid = run.metrics()["return"]
    assert paid[0] < 0.3 and paid[-1] > 0.75
    moves(paid, 1024)
    after = acted(run, run.algorithm, run.state())
    assert (after > 0).mean() > 0.85
    assert near_a_mode(after) > near_a_mode(before)
    for one, other in zip(jax.tree.leaves(run.state().base), jax.tree.leaves(cloned.state().actor.params), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("tuner", [DPPO, DSRL])
def test_it_begins_from_the_network_that_acts_and_from_no_other_method(cloned, tuner):
    """IDQL's is the average. DVF, DPPO and DSRL denoise actions too, and have none that is all of the policy."""
    key, spec = jax.random.key(0), cloned.spec
    idql = IDQL(width=32, blocks=2, diffusion_steps=5)
    state = init(idql, key, spec)
    state = replace(state, ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    algorithm = tuner(**SMALL, backbone="resnet", critic_hidden=(16,), **({"tuned_steps": 3} if tuner is DPPO else {}))
    base = jax.jit(lambda state: algorithm.init_from(key, spec, replace(cloned, algorithm=idql), state).base)(state)
    for one, other in zip(jax.tree.leaves(base), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_array_equal(one, other)
    for wrong in {DVF, DPPO, DSRL, FQL} - {tuner}:
        with pytest.raises(RunError, match=f"diffusion-ql, dac or idql, and this one is of {wrong.name}"):
            algorithm.init_from(key, spec, replace(cloned, algorithm=wrong()), None)


def test_runs_that_it_cannot_begin_from_are_refused(cloned):
    for algorithm, run, message in (
        (
            DPPO(**TUNED),
            replace(cloned, algorithm=FQL()),
            "begins from a run of diffusion-bc, .*, and this one is of fql",
        ),
        (DPPO(**TUNED | {"diffusion_steps": 6}), cloned, "diffusion_steps=5 and this dppo 6; give it as many"),
        (
            DPPO(**TUNED | {"hidden": (16,)}),
            cloned,
            r"this dppo \(.actor.mlp.layers\[0\].weight is \[18, 32\], not \[18, 16\]\); give",
        ),
    ):
        with pytest.raises(RunError, match=message):
            begun(run, algorithm)
    with pytest.raises(ReverieError, match="tuned_steps = 21 exceeds diffusion_steps = 20"):
        DPPO(tuned_steps=21)
    with pytest.raises(ReverieError, match="tuned_steps = 0, but it must be a whole number of at least 1"):
        DPPO(tuned_steps=0)
