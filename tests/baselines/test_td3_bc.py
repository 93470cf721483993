"""TD3+BC: imitation where alpha is 0, the unit of Q, the delay of the actor, the noise of the target."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import bandit, flat, start, update
from critics import linear, scaled
from reverie.baselines import TD3BC
from reverie.learning import Optimised
from reverie.rl import Critic

SMALL = TD3BC(hidden=(8,), critic_hidden=(8,), policy_delay=3, tau=0.25, learning_rate=1e-2)
DATA = bandit(64)


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, DATA)


def with_critic(state, q):
    return replace(state, critic=Critic(Optimised.create(q, SMALL.critic_optimiser), q))


def gradient(algorithm, state, batch, q):
    loss = jax.jit(lambda net, q: algorithm.actor_loss(net, Critic(SimpleNamespace(params=q), None), batch))
    return flat(jax.grad(loss)(state.actor.params, q))


def test_alpha_zero_is_behaviour_cloning(begun):
    """Loss and gradient are those of the mean squared error, exactly."""
    state, batch, _ = begun
    cloning = replace(SMALL, alpha=0.0)
    critic, net = Critic(SimpleNamespace(params=linear([[3.0, -1.0]] * 2, bias=0.4)), None), state.actor.params

    def square(net):
        return jnp.square(net(batch["observations"]) - batch["actions"]).mean()

    found, expected = (
        jax.jit(jax.value_and_grad(loss))(net) for loss in (lambda net: cloning.actor_loss(net, critic, batch), square)
    )
    assert float(found[0]) == float(expected[0])
    np.testing.assert_allclose(flat(found[1]), flat(expected[1]), rtol=1e-6, atol=1e-9)
    assert np.abs(flat(found[1])).max() > 0


def test_the_loss_by_hand(begun):
    """|a - pi|² - alpha mean Q / mean |Q|, Q the first critic's."""
    state, batch, _ = begun
    q = linear([[1.0, 2.0], [50.0, -9.0]], bias=0.4)
    action = state.actor.params(batch["observations"])
    values = q(batch["observations"], action)[0]
    expected = jnp.square(action - batch["actions"]).mean() - 2.5 * values.mean() / jnp.abs(values).mean()
    found = SMALL.actor_loss(state.actor.params, Critic(SimpleNamespace(params=q), None), batch)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_gradient_does_not_depend_on_the_values_scale(begun):
    state, batch, _ = begun
    q = linear([[1.0, -0.5]] * 2, bias=0.4)
    plain = gradient(SMALL, state, batch, q)
    larger = gradient(SMALL, state, batch, scaled(q, [10.0, 10.0]))
    np.testing.assert_allclose(larger, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())
    assert np.abs(plain - gradient(SMALL, state, batch, scaled(q, [-1.0, -1.0]))).max() > 1e-3


def test_the_actor_and_all_targets_move_every_few_updates_only(begun):
    state, batch, _ = begun
    for number in range(7):
        before = state
        state, _ = update(SMALL, state, batch, jax.random.key(number))
        still = np.array_equal(flat(state.actor), flat(before.actor))
        assert still == (number % 3 != 0)
        moved = flat(before.target) if still else 0.75 * flat(before.target) + 0.25 * flat(state.actor.params)
        slow, online = flat(before.critic.target), flat(state.critic.online.params)
        np.testing.assert_allclose(flat(state.critic.target), slow if still else 0.75 * slow + 0.25 * online, atol=1e-6)
        np.testing.assert_allclose(flat(state.target), moved, rtol=1e-5, atol=1e-7)
        assert not np.array_equal(flat(state.critic.online), flat(before.critic.online))


@pytest.mark.parametrize(
    "answer, noise, clip, expected", [(0.0, 1e4, 0.5, -0.5), (0.9, 1e4, 0.5, -0.7), (0.3, 0.0, 0.5, -0.3)]
)
def test_the_target_s_noise_is_clipped_and_so_is_its_action(begun, answer, noise, clip, expected):
    """Q = (a, -a): the minimum is -|a|. The target actor answers 0, which the noise makes 0.5 or -0.5; or 0.9, which it
    makes 0.4 or, within the bounds, 1; or 0.3 without noise. The mean td_target of 4096 unrewarded steps, to 0.02."""
    algorithm = replace(SMALL, policy_noise=noise, noise_clip=clip, discount=1.0)
    state, batch, _ = begun
    last = state.target.net.layers[-1]
    arrays = [jnp.zeros_like(last.weight), jnp.full_like(last.bias, jnp.arctanh(answer))]
    target = eqx.tree_at(lambda t: [t.net.layers[-1].weight, t.net.layers[-1].bias], state.target, arrays)
    state = replace(with_critic(state, linear([[1.0, 0], [-1, 0]])), target=target)
    rows = {name: jnp.zeros((4096, *values.shape[1:])) for name, values in batch.items()}
    _, metrics = update(algorithm, state, rows, jax.random.key(0))
    assert float(metrics["td_target"]) == pytest.approx(expected, abs=0.02)
