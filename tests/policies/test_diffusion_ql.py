"""Diffusion-QL: where Q's gradient goes, in which units, what the critics are moved to, and how an action is chosen."""

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, bandit, flat, start, update
from critics import linear, scaled
from reverie.diffusion import sample
from reverie.policies import DiffusionQL
from reverie.rl import Critic
from reverie.training import loop

EMA = {"ema_start": 6, "ema_every": 3, "ema_decay": 0.5}
SMALL = DiffusionQL(hidden=(16,), critic_hidden=(16,), batch_size=32, learning_rate=1e-2, candidates=1, **EMA)
EDP = replace(SMALL, action_approximation="one-step")
DATA = bandit(64)


class Cut(DiffusionQL):
    """The common mistake: the gradient of the last denoising step only."""

    def action(self, net, batch, key):
        denoiser = self.process.denoiser(net, batch["observations"])
        options = {"nfe": self.diffusion_steps, "solver": self.solver, **self.sampling}
        cut = {"guide": lambda x, row: jax.lax.stop_gradient(x)}
        return sample(self.process, denoiser, key, batch["actions"].shape, **options, **cut)


CUT = Cut(hidden=(16,), critic_hidden=(16,))


@pytest.fixture(scope="module")
def begun():
    """A state, a batch of random observations and actions, the spec."""
    state, batch, spec = start(SMALL, DATA)
    keys = jax.random.split(jax.random.key(10))
    batch |= {"observations": jax.random.normal(keys[0], (32, 1)),
              "actions": jnp.tanh(jax.random.normal(keys[1], (32, 2)))}  # fmt: skip
    return state, batch, spec


@partial(jax.jit, static_argnums=0)
def value_and_gradient(algorithm, net, q, batch, key):
    """Of the Q loss; only the online critics are given."""
    critic = Critic(SimpleNamespace(params=q), None)
    return jax.value_and_grad(lambda net: algorithm.actor_losses(net, critic, batch, key)[1])(net)


def key_that_maximises(member, net, batch):
    """A key whose coin makes that critic the one that is maximised: the Q loss is 0 where its values are."""
    silent = linear([[1.0, -0.5]] * 2, bias=[0.0 if i == member else 1.0 for i in range(2)])
    silent = scaled(silent, [0.0 if i == member else 1.0 for i in range(2)])
    for number in range(20):
        if float(value_and_gradient(SMALL, net, silent, batch, jax.random.key(number))[0]) == 0:
            return jax.random.key(number)
    raise AssertionError("twenty coins fell alike")


def test_q_s_gradient_goes_through_every_denoising_step(begun):
    """Along a random direction of the parameters, central differences of the whole chain agree with the gradient to
    1 %. With the earlier steps' gradients stopped, which changes no value, they do not.

    The first critic is linear in the action and the second is 1, so that the first is maximised in a fixed unit."""
    state, batch, _ = begun
    net, q = state.actor.params, linear([[1.0, -0.5], [0, 0]], bias=[0.0, 1.0])
    key = key_that_maximises(0, net, batch)
    (value, complete), (same, cut) = (value_and_gradient(each, net, q, batch, key) for each in (SMALL, CUT))
    assert float(value) == pytest.approx(float(same), rel=1e-5)

    rng, size = np.random.default_rng(0), 1e-3
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), net)

    def moved(by):
        there = jax.tree.map(lambda p, d: p + by * d, net, direction)
        return float(value_and_gradient(SMALL, there, q, batch, key)[0])

    slope = (moved(size) - moved(-size)) / (2 * size)
    assert flat(complete) @ flat(direction) == pytest.approx(slope, rel=0.01)
    assert abs(flat(cut) @ flat(direction) - slope) > 0.1 * abs(slope)
    assert np.linalg.norm(flat(complete) - flat(cut)) > 0.3 * np.linalg.norm(flat(complete))


def test_the_unit_is_the_other_critic_s_size(begun):
    """10 times the critic that is maximised multiplies the gradient by 10, 10 times the other divides it by 10, and 10
    times both leave it as it is: to rounding. A coin swaps the roles."""
    state, batch, _ = begun
    net, q = state.actor.params, linear([[1.0, -0.5], [0.3, 0.8]], bias=[0.2, -0.4])
    for chosen in (0, 1):
        key = key_that_maximises(chosen, net, batch)
        plain = flat(value_and_gradient(SMALL, net, q, batch, key)[1])
        for factors in ([10.0, 1.0], [1.0, 10.0], [10.0, 10.0]):
            expected = plain * factors[chosen] / factors[1 - chosen]
            found = flat(value_and_gradient(SMALL, net, scaled(q, factors), batch, key)[1])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_q_loss_is_minus_the_mean_value_of_the_policy_s_actions_in_that_unit(begun):
    state, batch, _ = begun
    net, q = state.actor.params, linear([[1.0, -0.5], [0.3, 0.8]], bias=[0.2, -0.4])
    for chosen in (0, 1):
        key = key_that_maximises(chosen, net, batch)
        action = jax.jit(SMALL.action)(net, batch, jax.random.split(key, 3)[1])
        values = np.asarray(q(batch["observations"], action))
        expected = -values[chosen].mean() / np.abs(values[1 - chosen]).mean()
        assert float(value_and_gradient(SMALL, net, q, batch, key)[0]) == pytest.approx(expected, rel=1e-4)


def test_one_step_action_is_the_denoised_data(begun):
    """EDP: x0_hat of the data's own actions, noised, each at a time of its own; and its gradient is that of one
    evaluation, which central differences confirm to 1 %."""
    state, batch, _ = begun
    net, key = state.actor.params, jax.random.key(3)
    time_key, noise_key = jax.random.split(key)
    t, noise = SMALL.process.draw_times(time_key, (32,)), jax.random.normal(noise_key, (32, 2))
    alpha, sigma = (each(t)[:, None] for each in (SMALL.process.alpha, SMALL.process.sigma))
    noisy = alpha * batch["actions"] + sigma * noise
    expected = (noisy - sigma * net(noisy, 5 * t - 1, batch["observations"])) / alpha
    np.testing.assert_allclose(EDP.action(net, batch, key), jnp.clip(expected, -1, 1), atol=1e-4)

    q = linear([[1.0, -0.5], [0, 0]], bias=[0.0, 1.0])
    key = key_that_maximises(0, net, batch)
    gradient = value_and_gradient(EDP, net, q, batch, key)[1]
    ahead, behind = (
        float(value_and_gradient(EDP, jax.tree.map(lambda p: p * (1 + by), net), q, batch, key)[0])  # noqa: B023
        for by in (1e-3, -1e-3)
    )
    assert flat(gradient) @ flat(net) == pytest.approx((ahead - behind) / 2e-3, rel=0.01)


@dataclass(frozen=True)
class Given(DiffusionQL):
    """Its candidates are the same for every observation and every key."""

    actions: tuple = ()

    def sample_candidates(self, net, observation, key, n, action_dim):
        assert n == len(self.actions)
        return jnp.broadcast_to(jnp.array(self.actions)[:, None], (*observation.shape[:-1], n, 1))


def test_max_q_backup_takes_each_critic_s_best_and_then_the_minimum():
    """Q = (a, -a) for a in -0.5, 0.2, 0.6: the critics' bests are 0.6 and 0.5. The minimum first gives at most 0."""
    critic = Critic(None, linear([[1.0], [-1]]))
    state, batch = SimpleNamespace(ema=None, critic=critic), {"next_observations": jnp.zeros((4, 1)),
                                                                  "actions": jnp.zeros((4, 1))}  # fmt: skip
    for actions, expected in (((-0.5, 0.2, 0.6), 0.5), ((0.6,), -0.6)):
        algorithm = Given(backup_actions=len(actions), actions=actions)
        np.testing.assert_allclose(algorithm.next_value(state, batch, jax.random.key(0)), [expected] * 4, rtol=1e-6)


@pytest.mark.parametrize("selection", ["softmax", "argmax"])
def test_an_action_is_chosen_by_the_minimum_of_the_target_values(selection):
    """Two critics whose minimum, for a in 0.1, 0.5, 0.9, is 0.1, 0.5 and -0.9: the best is the middle one. Of 20 000
    draws by softmax each share is within 0.015 of exp Q."""
    actions = (0.1, 0.5, 0.9)
    algorithm = Given(candidates=3, selection=selection, actions=actions)
    target = linear([[1.0], [-4.5]], bias=[0.0, 3.15])  # the second: 2.7, 0.9, -0.9
    online = SimpleNamespace(params=linear([[1.0], [1.0]]))  # would prefer 0.9
    state = SimpleNamespace(actor=SimpleNamespace(params=None), critic=Critic(online, target))
    spec = SimpleNamespace(action_dim=1)
    chosen = algorithm.choose(state, spec, jnp.zeros((20_000, 1)), jax.random.key(0))[:, 0]
    weights = np.exp([0.1, 0.5, -0.9])
    expected = [0, 1, 0] if selection == "argmax" else weights / weights.sum()
    np.testing.assert_allclose([np.isclose(chosen, a).mean() for a in actions], expected, atol=0.015)


def test_td_targets_ask_the_ema_and_acting_asks_the_live_actor(begun):
    state, batch, spec = begun
    key = jax.random.key(1)
    other = jax.tree.map(lambda leaf: leaf + 0.1, state.ema)
    states = state, replace(state, actor=replace(state.actor, params=other)), replace(state, ema=other)
    next_value = jax.jit(SMALL.next_value)
    plain, live, slow = (np.asarray(next_value(each, batch, key)) for each in states)
    np.testing.assert_array_equal(plain, live)
    assert not np.array_equal(plain, slow)
    plain, live, slow = (np.asarray(acted(SMALL, each, spec, batch["observations"], key)) for each in states)
    np.testing.assert_array_equal(plain, slow)
    assert not np.array_equal(plain, live)


def test_the_ema_is_a_copy_until_its_start_and_then_decays(begun):
    """Every third update, before update 6 by copying, from then on by a half."""
    state, batch, _ = begun
    for number in range(13):
        before = flat(state.ema)
        state, _ = update(SMALL, state, batch, jax.random.key(number))
        params = flat(state.actor.params)
        weight = 0 if number % 3 else (1 if number < 6 else 0.5)
        np.testing.assert_allclose(flat(state.ema), before + weight * (params - before), atol=1e-7)
        assert int(state.step) == number + 1
        assert np.abs(params - before).max() > 1e-3


def test_actor_and_critics_stand_still_where_the_learning_rate_has_fallen_to_0():
    falling = replace(SMALL, decay_updates=2)
    state, batch, _ = start(falling, DATA)
    for i in range(2):
        moving, state = state, update(falling, state, batch, jax.random.key(i))[0]
    still, _ = update(falling, state, batch, jax.random.key(2))
    for part in (lambda s: s.actor.params, lambda s: s.critic.online.params):
        assert np.abs(flat(part(state)) - flat(part(moving))).max() > 0
        np.testing.assert_array_equal(flat(part(still)), flat(part(state)))


def test_no_transfer_inside_a_segment(begun):
    keys, done = loop.each_seed((0,)), jax.device_put(np.uint32(0))
    states, view = jax.tree.map(lambda leaf: leaf[None], begun[0]), SMALL.prepare(DATA)[0]
    states, *_ = jax.block_until_ready(loop.advance(SMALL, states, keys, done, view, length=3))
    with jax.transfer_guard("disallow"):
        states, metrics, finite, written = loop.advance(SMALL, states, keys, done, view, length=3)
        jax.block_until_ready(states)
        with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device"):
            loop.advance(SMALL, states, keys, np.uint32(0), view, length=3)
    assert bool(finite.all())
    assert written == {}
    assert metrics["diffusion_loss"].shape == (1, 3)
