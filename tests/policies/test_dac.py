"""DAC: noise less Q's gradient, at one noise level at once; how heavy imitation is; which actions count."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import BEST, act, acted, bandit, flat, fractions, start, train, update
from critics import linear
from reverie.policies import DAC
from reverie.rl import Critic

SMALL = DAC(hidden=(16,), critic_hidden=(16,), critics=2, candidates=1, backup_actions=2)
DATA = bandit(64)
KEY = jax.random.key(2)
SLOPE = np.array([1.0, -0.5])


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, DATA)


def with_target(state, q):
    return replace(state, critic=Critic(state.critic.online, q))


def test_the_losses_are_smallest_at_the_noise_less_q_s_gradient(begun):
    """Over all predictions, not networks: at eps - sigma_t grad Q / (2 eta |Q|) the slope of eta x cloning + guidance
    is 0 to rounding. Twice eta halves the shift; critics ten times as large leave it."""
    _, batch, _ = begun
    time_key, noise_key = jax.random.split(KEY)
    t, noise = SMALL.process.draw_times(time_key, (32,)), jax.random.normal(noise_key, (32, 2))
    for factor in (1.0, 10.0):
        q = linear(factor * np.stack([SLOPE, SLOPE]), bias=2.0 * factor)
        size = np.abs(factor * (batch["actions"] @ SLOPE + 2)).mean()
        for eta in (0.5, 1.0):
            shift = SMALL.process.sigma(t)[:, None] * factor * SLOPE / (2 * eta * size)

            def loss(predicted, q=q, eta=eta):
                cloning, guidance = SMALL.actor_losses(lambda *_: predicted, Critic(None, q), batch, KEY)
                return eta * cloning + guidance

            there = jax.grad(loss)(noise - shift)
            assert float(jnp.abs(there).max()) < 1e-6 * float(jnp.abs(jax.grad(loss)(noise)).max()) + 1e-7
    assert float(jnp.abs(shift).max()) > 0.05


@pytest.mark.parametrize("threshold, rises", [(0.0, True), (5.0, False)])
def test_eta_rises_where_the_policy_leaves_the_behaviour_and_falls_where_it_need_not(begun, threshold, rises):
    """By its step size times the excess, at most 1, within its bounds."""
    state, batch, _ = begun
    algorithm = replace(SMALL, bc_threshold=threshold)
    after, metrics = update(algorithm, state, batch, KEY)
    excess = float(metrics["diffusion_loss"]) - threshold
    assert (excess > 0) == rises
    assert float(after.eta) == pytest.approx(1 + 0.001 * np.clip(excess, -1, 1), abs=1e-6)
    low = replace(state, eta=jnp.float32(0.0012))
    after, _ = update(algorithm, low, batch, KEY)
    assert float(after.eta) >= 0.001 - 1e-9
    if not rises:
        assert float(after.eta) == pytest.approx(0.001)
    still, _ = update(replace(algorithm, eta_learning_rate=0.0), state, batch, KEY)
    assert float(still.eta) == 1


@pytest.mark.parametrize("backup", ["mean", "max"])
def test_td_target_is_the_critics_mean_less_rho_deviations_of_the_mean_or_the_largest(begun, backup):
    """For Q_i(a) = w_i . a + c_i and the actions that the ema draws."""
    state, batch, _ = begun
    q = linear([SLOPE, -SLOPE], bias=[1.0, 0.2])
    algorithm = replace(SMALL, backup=backup, rho=0.7, backup_actions=4)
    actions = algorithm.sample_candidates(state.ema, batch["next_observations"], KEY, 4, 2)
    values = np.asarray(q(batch["next_observations"][:, None], actions))
    each = values.max(-1) if backup == "max" else values.mean(-1)
    expected = each.mean(0) - 0.7 * each.std(0)
    found = algorithm.next_value(with_target(state, q), batch, KEY)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_acting_takes_the_best_of_the_target_critics_mean(begun):
    state, _, spec = begun
    algorithm, observation = replace(SMALL, candidates=6), jnp.zeros((20, 1))
    q = linear([SLOPE, [0.0, 3.0]])
    action = acted(algorithm, with_target(state, q), spec, observation, KEY)
    drawn = algorithm.sample_candidates(state.actor.params, observation, KEY, 6, 2)
    values = np.asarray(q(observation[:, None], drawn)).mean(0)
    np.testing.assert_allclose(action, np.asarray(drawn)[np.arange(20), values.argmax(1)], atol=1e-5)


def test_no_gradient_leads_through_the_chain(begun):
    """What the actor learns in an update does not depend on the sampler: to rounding."""
    state, batch, _ = begun
    batch = batch | {"terminals": jnp.ones(32)}
    one, two = (update(each, state, batch, KEY)[0] for each in (SMALL, replace(SMALL, solver="ddim")))
    np.testing.assert_allclose(flat(one.actor.params), flat(two.actor.params), atol=1e-6)
    assert np.abs(flat(one.actor.params) - flat(state.actor.params)).max() > 1e-4


def test_critics_go_on_learning_after_rewards_a_million_times_as_large(begun):
    """Unclipped, Adam's mean of squares would hold them for thousands of updates."""
    state, batch, _ = begun
    state, _ = update(SMALL, state, batch | {"rewards": 1e6 * (1 + batch["rewards"])}, KEY)
    for _ in range(100):
        before = state.critic.online.params
        state, _ = update(SMALL, state, batch, KEY)
    assert np.abs(flat(state.critic.online.params) - flat(before)).max() > 1e-5


def test_it_finds_the_best_of_four_ways_and_stays_near_the_data():
    """One sample of two in three is near it, where behaviour cloning has one of four (a critic that is flat about the
    other ways has no gradient that leads away), and the best of ten always is."""
    algorithm = DAC(
        hidden=(64, 64), critic_hidden=(64, 64), critics=2, candidates=1, backup_actions=1, eta=0.2,
        eta_learning_rate=0, learning_rate=2e-3, decay_updates=1500, batch_size=128, diffusion_steps=10, ema_start=100,
        solver="ddpm",
    )  # fmt: skip
    state, spec = train(algorithm, bandit(), steps=1500)
    assert fractions(act(algorithm, state, spec), within=8)[BEST] > 0.6
    assert fractions(act(replace(algorithm, candidates=10), state, spec), within=8)[BEST] > 0.99
