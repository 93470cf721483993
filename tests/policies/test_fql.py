"""Flow Q-learning: the flow is Q's business in no way, and the one-step policy is the flow's end where Q is silent."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, bandit, flat, start, train, update
from critics import linear
from reverie.data import Dataset, Spec
from reverie.learning import Optimised
from reverie.networks.layers import concatenate
from reverie.policies import FQL, IFQL, QC
from reverie.rl import Critic

SMALL = FQL(hidden=(16,), critic_hidden=(16,), alpha=0.5)
DATA = bandit(64)
KEY = jax.random.key(2)


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, DATA)


def with_critic(algorithm, state, q):
    return replace(state, critic=Critic(Optimised.create(q, algorithm.critic_optimiser), q))


def test_no_gradient_leads_from_the_critic_to_the_flow(begun):
    """By the critics' parameters: exactly 0 of the flow's after an update, and not 0 of the one-step policy's loss."""
    state, batch, _ = begun
    # Where a gradient is exactly 0, as it is of the weights of observations of 0, Adam's step has no derivative.
    batch = batch | {"observations": jax.random.normal(jax.random.key(4), (32, 1))}

    def after(params):
        critic = replace(state.critic, online=replace(state.critic.online, params=params))
        return SMALL.update(replace(state, critic=critic), batch, KEY)

    def flow(params):
        return sum(leaf.sum() for leaf in jax.tree.leaves(after(params)[0].flow.params))

    def actor(params):
        return after(params)[1]["actor_loss"]

    slopes = jax.jit(lambda params: (jax.grad(flow)(params), jax.grad(actor)(params)))
    of_flow, of_actor = slopes(state.critic.online.params)
    assert np.abs(flat(of_flow)).max() == 0
    assert np.abs(flat(of_actor)).max() > 0


def test_other_critics_leave_the_flow_as_it_is_bit_for_bit(begun):
    state, batch, _ = begun
    other = jax.tree.map(lambda leaf: leaf + 0.1, state.critic.online.params)
    one, _ = update(SMALL, state, batch, KEY)
    two, _ = update(SMALL, with_critic(SMALL, state, other), batch, KEY)
    np.testing.assert_array_equal(flat(one.flow), flat(two.flow))
    assert np.abs(flat(one.flow.params) - flat(state.flow.params)).max() > 0
    assert not np.array_equal(flat(one.actor), flat(two.actor))


def test_integrating_the_flow_is_euler_s_method(begun):
    """Ten steps of 0.1 from the noise at t = 1 to the data at 0, and the bounds at the end only."""
    state, batch, _ = begun
    x = noise = jax.random.normal(jax.random.key(3), (32, 2))
    for step in range(10):
        x = x - 0.1 * state.flow.params(x, jnp.full(32, 1 - step / 10), batch["observations"])
    found = SMALL.integrate(state.flow.params, batch["observations"], noise)
    np.testing.assert_allclose(found, jnp.clip(x, -1, 1), atol=1e-5)
    assert jnp.abs(x).max() > 1
    assert (jnp.abs(found) < 1).mean() > 0.3


def test_the_flow_regresses_noise_less_data_at_times_of_all_of_the_unit_interval(begun):
    """The loss of one batch is the mean of |v - (eps - a)|² for the process's own draw of times and noise."""
    state, batch, _ = begun
    t_key, eps_key = jax.random.split(KEY)
    t, eps = SMALL.process.draw_times(t_key, (32,)), jax.random.normal(eps_key, (32, 2))
    mixed = (1 - t)[:, None] * batch["actions"] + t[:, None] * eps
    error = state.flow.params(mixed, t, batch["observations"]) - (eps - batch["actions"])
    found = SMALL.process.loss(state.flow.params, batch["actions"], KEY, batch["observations"])
    np.testing.assert_allclose(found, jnp.square(error).mean(-1), rtol=1e-4)
    times = SMALL.process.draw_times(KEY, (10_000,))
    assert float(times.min()) < 0.001
    assert float(times.max()) > 0.999


@dataclass(frozen=True)
class Silent(FQL):
    """Its critics are 0 and, without rewards, stay 0."""

    def init(self, key, spec):
        state = super().init(key, spec)
        return replace(state, critic=jax.tree.map(jnp.zeros_like, state.critic))


def test_without_q_one_step_leads_where_the_flow_leads_from_the_same_noise():
    """Actions are normal about a mean that depends on the state, with standard deviation 0.2: half of the errors are
    below 0.03, 95 % below 0.1, and the policy's own moments are right to 0.05."""
    rng = np.random.default_rng(0)
    s = rng.choice([-1.0, 1.0], (2000, 1))
    actions = np.clip(s * [0.4, -0.4] + 0.2 * rng.normal(size=(2000, 2)), -1, 1)
    data = Dataset.from_arrays(s, actions, np.zeros(2000), terminals=np.ones(2000))
    algorithm = Silent(hidden=(32, 32), critic_hidden=(32, 32), learning_rate=3e-3, decay_updates=1000)
    state, _ = train(algorithm, data, steps=1000)
    assert np.abs(flat(state.critic.online.params)).max() == 0

    seen, noise = jnp.asarray(s[:500], jnp.float32), jax.random.normal(jax.random.key(1), (500, 2))
    actions = state.actor.params(concatenate(seen, noise))
    error = np.linalg.norm(actions - algorithm.integrate(state.flow.params, seen, noise), axis=1)
    assert (np.quantile(error, [0.5, 0.95]) < [0.03, 0.1]).all()
    about = np.asarray(actions) - s[:500] * [0.4, -0.4]
    np.testing.assert_allclose(about.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(about.std(0), 0.2, atol=0.05)


@pytest.mark.parametrize("normalise, pessimistic, target", [(False, False, 0.5), (True, True, -0.2)])
def test_the_losses_by_hand(begun, normalise, pessimistic, target):
    """The actor's: alpha |a - end|² - mean Q, Q in units of its mean magnitude where asked. The critics' td_target: Q =
    1.2 and -0.2 whatever the action, their mean or the smallest, discounted by 0.8 in the half of the tasks that goes
    on.

    The rate is so small that the update's own step changes nothing."""
    algorithm = replace(SMALL, normalise_q=normalise, pessimistic=pessimistic, discount=0.8, learning_rate=1e-12)
    state, batch, _ = begun
    q, flow = linear([[0.0, 0], [0, 0]], bias=[1.2, -0.2]), state.flow.params
    batch = batch | {"rewards": jnp.zeros(32), "terminals": jnp.arange(32) % 2.0}
    _, metrics = update(algorithm, with_critic(algorithm, state, q), batch, KEY)
    assert float(metrics["td_target"]) == pytest.approx(0.8 * target / 2, rel=1e-5)
    noise = jax.random.normal(jax.random.split(KEY, 3)[2], (32, 2))
    action = state.actor.params(concatenate(batch["observations"], noise))
    distance = float(jnp.square(action - algorithm.integrate(flow, batch["observations"], noise)).mean())
    value = 0.5 / (0.5 if normalise else 1)
    assert float(metrics["actor_loss"]) == pytest.approx(0.5 * distance - value, rel=1e-4)


def test_acting_takes_one_step_of_the_policy_from_fresh_noise(begun):
    state, _, spec = begun
    observation = jnp.zeros((100, 1))
    actions = acted(SMALL, state, spec, observation, KEY)
    expected = state.actor.params(concatenate(observation, jax.random.normal(KEY, (100, 2))))
    np.testing.assert_allclose(actions, jnp.clip(expected, -1, 1), atol=1e-6)
    assert len(np.unique(np.asarray(expected)[:, 0])) == 100


def test_the_actor_maximises_the_critic_of_before_the_update(begun):
    """Whatever the critic learns in an update, bit for bit."""
    state, batch, _ = begun
    one, _ = update(SMALL, state, batch, KEY)
    two, _ = update(SMALL, state, batch | {"rewards": batch["rewards"] + 10}, KEY)
    assert not np.array_equal(flat(one.critic.online.params), flat(two.critic.online.params))
    np.testing.assert_array_equal(flat(one.actor.params), flat(two.actor.params))


@pytest.mark.parametrize("kind", [FQL, IFQL, QC])
def test_flow_and_one_step_policy_begin_as_the_released_code_s(kind):
    """Xavier's uniform weights and zeros."""
    spec = Spec(3, 2, -jnp.ones(2), jnp.ones(2), {})
    state = kind(hidden=(64, 64), critic_hidden=(64, 64)).init(KEY, spec)
    layers = [*state.flow.params.net.layers, *(state.actor.params.layers if kind is FQL else ())]
    assert len(layers) == (6 if kind is FQL else 3)
    for layer in layers:
        assert not np.asarray(layer.bias).any()
        bound = (6 / sum(layer.weight.shape[-2:])) ** 0.5
        assert 0.9 * bound < np.abs(layer.weight).max() <= bound
