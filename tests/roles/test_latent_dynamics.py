"""Dreamer's way: what acting remembers, what is imagined, and that the actor learns from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.roles import LatentDynamics

SMALL = LatentDynamics(
    horizon=4, steps_in_a_row=4, width=16, latent_size=2, model_hidden=(), hidden=(16,), critic_hidden=(),
    batch_size=16, imagined=32, learning_rate=3e-3, actor_learning_rate=2e-3, policy_gradient_clip=1.0,
    policy_change=0.05, initial_std=0.5, discount=0.5,
)  # fmt: skip


def data(n=2000) -> Dataset:
    """Steps that are paid for low actions, whatever is observed."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (n, 1))
    rewards = 0.5 - actions[:, 0]
    return Dataset.from_arrays(
        *(rng.normal(size=(n, 1)), actions, rewards, np.zeros(n)), timeouts=np.arange(n) % 10 == 9,
        action_low=-1.0, action_high=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return reverie.fit(SMALL, data(), steps=200, progress=False)


def test_its_actor_finds_in_its_latents_what_pays(trained):
    policy = trained.policy()
    action, _ = policy.act(np.zeros(1, np.float32), policy.reset())
    assert action[0] < -0.5
    told = trained.metrics()
    assert told["imagined_reward"][-1] > told["imagined_reward"][0]


def test_what_is_acted_on_remembers_the_steps_before(trained):
    algorithm, spec, state = trained.algorithm, trained.spec, trained.state()
    carry = algorithm.reset(spec, 2, {})
    np.testing.assert_array_equal(carry.latent.computed, jnp.zeros((2, 16)))
    action, carry = algorithm.act(state, spec, jnp.zeros((2, 1)), carry, {}, jax.random.key(0))
    np.testing.assert_allclose(carry.action, action, atol=1e-6)  # the bounds are -1 and 1
    net = state.model.params
    computed = net.computed(carry.latent, carry.action)
    _, after = algorithm.act(state, spec, jnp.ones((2, 1)), carry, {}, jax.random.key(1))
    np.testing.assert_allclose(after.latent.computed, computed, atol=1e-5)


def test_what_is_imagined_begins_in_the_given_latents_and_keeps_the_policy_s_own_actions(trained):
    algorithm, state = trained.algorithm, trained.state()
    starts = algorithm.begin(state.model.params, trained.spec, jnp.zeros((8, 1)), jax.random.key(0))
    found, *_ = algorithm.imagine(state.model, state.actor.params, starts, jax.random.key(1))
    assert found.seen.shape == (5, 8, 18)
    assert found.actions.shape == (4, 8, 1)
    np.testing.assert_array_equal(found.seen[0], starts.features)
    np.testing.assert_array_equal(found.terminals, 0)
