"""IDQL: its samples are its behaviour model's, and how one of them is chosen."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, bandit, flat, start, update
from critics import linear
from reverie.policies import IDQL, DiffusionBC
from reverie.policies.diffusion_bc import State as Behaviour
from reverie.rl import Critic, ImplicitCritic

SMALL = IDQL(critic_hidden=(8,), width=16, blocks=1, dropout=0.5, ema_decay=0.9)
DATA = bandit(64)


class Clipped(DiffusionBC):
    """Behaviour cloning by diffusion that keeps x_t within the bounds at every step, as IDQL does."""

    sampling: ClassVar = IDQL.sampling


def test_one_candidate_is_the_behaviour_model():
    """The same network, solver and clipping under the same key: bit for bit."""
    algorithm, behaviour = replace(SMALL, candidates=1), Clipped(backbone="resnet", solver="ddpm-beta")
    state, _, spec = start(algorithm, DATA)
    alone = Behaviour(replace(state.actor, params=state.ema))
    question = spec, jax.random.normal(jax.random.key(1), (200, 1)), jax.random.key(2)
    chosen = acted(algorithm, state, *question)
    np.testing.assert_array_equal(chosen, acted(behaviour, alone, *question))
    usual = DiffusionBC(backbone="resnet", solver="ddpm-beta")
    assert not np.array_equal(chosen, acted(usual, alone, *question)), "the clipping matters"


def test_actions_are_the_ema_s_and_the_live_actor_s_do_not_matter():
    state, _, spec = start(SMALL, DATA)
    other = jax.tree.map(lambda leaf: leaf + 0.1, state.ema)
    live, slow = replace(state, actor=replace(state.actor, params=other)), replace(state, ema=other)
    answers = [acted(SMALL, each, spec, jnp.zeros((5, 1)), jax.random.key(0)) for each in (state, live, slow)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_the_behaviour_knows_nothing_of_the_rewards():
    """After an update with other rewards the actor and its ema are the same, bit for bit; the critic is not."""
    state, batch, _ = start(SMALL, DATA)
    one, _ = update(SMALL, state, batch, jax.random.key(2))
    two, _ = update(SMALL, state, batch | {"rewards": 100 * batch["rewards"]}, jax.random.key(2))
    np.testing.assert_array_equal(flat((one.actor, one.ema)), flat((two.actor, two.ema)))
    assert not np.array_equal(flat(one.critic), flat(two.critic))
    np.testing.assert_allclose(
        flat(one.ema), 0.9 * flat(state.ema) + 0.1 * flat(one.actor.params), rtol=1e-5, atol=1e-7
    )


def test_the_loss_is_the_behaviour_model_s_with_dropout():
    state, batch, _ = start(SMALL, DATA)
    _, metrics = update(SMALL, state, batch, jax.random.key(2))
    noise_key, dropout_key = jax.random.split(jax.random.key(2))

    @jax.jit
    def losses(net):
        def dropped(x, t, observation):
            return net(x, t, observation, key=dropout_key)

        return [SMALL.denoising_loss(each, batch, noise_key).mean() for each in (dropped, net)]

    expected, without = losses(state.actor.params)
    assert float(metrics["diffusion_loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(metrics["diffusion_loss"]) != pytest.approx(float(without), rel=1e-2)


@dataclass(frozen=True)
class Given(IDQL):
    """Its candidates are the same for every observation and every key."""

    actions: tuple = (-0.5, -0.1, 0.1, 0.7)
    candidates: int = 4

    def sample_candidates(self, net, observation, key, n, action_dim):
        assert n == len(self.actions)
        return jnp.broadcast_to(jnp.array(self.actions)[:, None], (*observation.shape[:-1], n, 1))


def shares(algorithm, target, n=20_000):
    """How often each of the actions is chosen by hand-made target critics and V = 0."""
    online = SimpleNamespace(params=linear([[-1.0]] * 2))  # would prefer others
    v = SimpleNamespace(params=jnp.zeros_like)
    state = SimpleNamespace(ema=None, critic=ImplicitCritic(Critic(online, target), v))
    chosen = algorithm.choose(state, SimpleNamespace(action_dim=1), jnp.zeros((n, 1)), jax.random.key(0))[:, 0]
    return np.array([np.isclose(chosen, a).mean() for a in algorithm.actions])


def test_argmax_chooses_the_best_by_the_minimum_of_the_targets():
    np.testing.assert_array_equal(shares(Given(), linear([[1.0], [2]]), 10), [0, 0, 0, 1])
    crossing = linear([[1.0], [-1]], bias=[0.0, 0.2])  # the minimum: -0.5, -0.1, 0.1, -0.5
    np.testing.assert_array_equal(shares(Given(), crossing, 10), [0, 0, 1, 0])


@pytest.mark.parametrize(
    "loss, statistic, weights",
    [
        ("expectile", {"expectile": 0.8}, [0.2, 0.2, 0.8, 0.8]),
        ("quantile", {"expectile": 0.8}, np.array([0.2, 0.2, 0.8, 0.8]) / [0.5, 0.1, 0.1, 0.7]),
        ("exponential", {"beta": 1 / 3}, np.abs(np.exp([-1.5, -0.3, 0.3, 2.1]) - 1) / [0.5, 0.1, 0.1, 0.7]),
    ],
)
def test_implicit_selection_draws_by_the_weights(loss, statistic, weights):
    """Advantages -0.5, -0.1, 0.1 and 0.7, 20 000 draws: every share within 0.015 (four standard errors)."""
    algorithm = Given(implicit_loss=loss, **statistic, selection="implicit")
    np.testing.assert_allclose(shares(algorithm, linear([[1.0], [1]])), weights / np.sum(weights), atol=0.015)
