"""PPO: a round is learned from the policy that acted it, and a small problem is learned in seconds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from bandit import init, update
from reverie.baselines import PPO
from reverie.data import Gaussian
from reverie.training import fit_online
from reverie.training.online_loop import OnlineLoop
from slide import SHORT, Slide

SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": 50, "learning_rate": 3e-3}
SMALL |= {"critic_learning_rate": 3e-3}


def test_it_learns_to_push_a_point_home_and_a_stop_is_no_end(tmp_path):
    """Units and bounds are far from 1. At random an episode is worth about 20; who goes home straight gets about 80."""
    out = tmp_path / "run"
    fit_online(PPO(**SMALL), Slide, steps=800, out=out, **SHORT)
    run = fit_online(PPO(**SMALL), Slide, steps=1600, out=out, resume=True, **SHORT)
    metrics = run.metrics()
    np.testing.assert_array_equal(metrics["step"], np.arange(400, 1601, 200))
    assert metrics["return"][0] < 40
    assert metrics["return"][-1] > 65
    assert 0 < metrics["approx_kl"].mean() < 0.2
    again = reverie.load(out)
    for one, other in zip(jax.tree.leaves(again.states), jax.tree.leaves(run.states), strict=True):
        np.testing.assert_array_equal(one, other)
    far = jnp.array([[-90.0], [90.0]])
    action, _ = again.algorithm.act(again.state(), again.spec, far, (), {}, jax.random.key(0))
    assert action[0] > 3.5 and action[1] < 0.5


def test_before_the_first_step_the_policy_is_the_one_that_acted(monkeypatch):
    """What was recorded is what the loss finds, to rounding, in a third round, of units that have moved. The round is
    all that there is: nothing is put into a replay."""
    monkeypatch.setattr(OnlineLoop, "place", lambda self, arrays: 1 / 0)
    algorithm = PPO(hidden=(8,), critic_hidden=(8,), epochs=1, batch_size=200)
    run = fit_online(algorithm, Slide, steps=800, **SHORT)
    metrics = run.metrics()
    np.testing.assert_allclose(metrics["approx_kl"], 0, atol=1e-6)
    np.testing.assert_array_equal(metrics["clip_fraction"], 0)
    moved = run.state().observations
    assert moved.count == 600 and moved.std[0] != 1
    assert len(run.histories[0].dataset()) == 800


def test_the_carry_has_the_discounted_sum_of_rewards_so_far():
    """In units whose zero is elsewhere too: before the first step there is no reward."""
    algorithm = PPO(hidden=(8,), critic_hidden=(8,), discount=0.5).exploring
    data = reverie.Dataset.from_arrays(*np.ones((2, 4, 1)), np.ones(4), np.ones(4), action_low=[-1], action_high=[1])
    _, spec = algorithm.prepare(data)
    spec = replace(spec, normalisers=spec.normalisers | {"rewards": Gaussian(jnp.full(1, 1.0), jnp.full(1, 2.0))})
    state, carry = init(algorithm, jax.random.key(0), spec), algorithm.reset(spec, 2, {})
    act = jax.jit(lambda carry, reward: algorithm.act(state, spec, jnp.ones((2, 1)), carry, reward, jax.random.key(0)))
    for reward, total in ((0.0, 0.0), (17.0, 8.0), (5.0, 6.0), (3.0, 4.0)):
        _, carry = act(carry, {"reward": jnp.full(2, reward)})
        np.testing.assert_allclose(algorithm.recorded(carry)["discounted"], total)


@pytest.mark.parametrize("paid", [[0, 0, 3], [1, 2, 3]])
def test_the_rewards_unit_knows_an_episode_s_last_reward(paid):
    """Of episodes of three steps, in rounds of four, against the discounted sums by hand: by what a loop hands on, in
    which the last reward's feedback is lost with its episode. A reward in the last step alone counts as any other."""
    algorithm = PPO(hidden=(8,), critic_hidden=(8,), discount=0.5, epochs=1)
    data = reverie.Dataset.from_arrays(*np.ones((2, 4, 1)), np.ones(4), np.ones(4), action_low=[-1], action_high=[1])
    _, spec = algorithm.prepare(data)
    state, explorer = init(algorithm, jax.random.key(0), spec), algorithm.exploring
    seen, key = jnp.ones((1, 1)), jax.random.key(0)
    act = jax.jit(lambda carry, reward: explorer.act(state, spec, seen, carry, {"reward": reward}, key)[1])
    fresh = carry = explorer.reset(spec, 1, {})
    feedback, rounds = jnp.zeros(1), []
    for step in range(12):
        carry = act(carry, feedback)
        ended = step % 3 == 2
        row = {"rewards": jnp.full(1, float(paid[step % 3])), "terminals": jnp.full(1, float(ended))}
        rounds.append(row | {"timeouts": jnp.zeros(1), **explorer.recorded(carry)})
        carry, feedback = (fresh, jnp.zeros(1)) if ended else (carry, row["rewards"])
    for start in range(0, 12, 4):
        batch = jax.tree.map(lambda *rows: jnp.stack(rows), *rounds[start : start + 4])
        batch |= {name: jnp.ones((4, 1, 1)) for name in ("observations", "next_observations", "actions")}
        state, metrics = update(algorithm, state, batch, key)
    sums = np.tile([paid[0], paid[1] + paid[0] / 2, paid[2] + paid[1] / 2 + paid[0] / 4], 4)
    np.testing.assert_allclose(
        [state.critic.returns.mean, state.critic.returns.std], [sums.mean(), sums.std()], rtol=1e-5
    )
    np.testing.assert_allclose(metrics["reward_scale"], sums.std(), rtol=1e-5)


def test_a_reward_s_scale_changes_nothing():
    """All rewards a thousand times as large: the same advantages and V, as both are in units of the rewards' spread."""
    algorithm = PPO(hidden=(8,), critic_hidden=(8,))
    rng = np.random.default_rng(0)
    shape = (40, 2)
    batch = {name: jnp.asarray(rng.normal(size=(*shape, 1)), jnp.float32) for name in ("observations", "sample")}
    batch |= {"next_observations": batch["observations"] + 1, "actions": batch["sample"]}
    batch |= {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name in ("rewards", "discounted")}
    batch |= {name: jnp.zeros(shape) for name in ("terminals", "timeouts")}
    data = reverie.Dataset.from_arrays(*np.ones((2, 4, 1)), np.ones(4), np.ones(4), action_low=[-1], action_high=[1])
    _, spec = algorithm.prepare(data)
    state = init(algorithm, jax.random.key(0), spec)
    batch["log_prob"] = state.actor.params(batch["observations"]).log_prob(batch["sample"])
    large = batch | {name: 1000 * batch[name] for name in ("rewards", "discounted")}
    (one, told), (other, more) = (update(algorithm, state, each, jax.random.key(1)) for each in (batch, large))
    np.testing.assert_allclose(more["reward_scale"], 1000 * told["reward_scale"], rtol=1e-5)
    drop = {"returns": None}
    for a, b in zip(
        jax.tree.leaves(replace(one, critic=replace(one.critic, **drop))),
        jax.tree.leaves(replace(other, critic=replace(other.critic, **drop))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=2e-4)
