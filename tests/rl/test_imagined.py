"""The actor-critic of imagined trajectories: returns by hand, what counts, and how far it goes."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.rl import Imagined, ImaginedActorCritic, Normal, alive, drawn_rows


@dataclass(frozen=True)
class Still(ImaginedActorCritic):
    """With no model."""

    def init_model(self, key, spec):
        return ()


SPEC = SimpleNamespace(observation_dim=1, action_dim=1)
SMALL = {"hidden": (8,), "critic_hidden": (8,), "policy_gradient_clip": 0.0}


def trajectories(terminals, rewards=(1.0, 2.0, 4.0), n: int = 1) -> Imagined:
    def column(values):
        return jnp.repeat(jnp.array(values)[:, None], n, 1)

    return Imagined(jnp.zeros((4, n, 1)), jnp.zeros((3, n, 1)), column(rewards), column(terminals))


def test_a_return_ends_where_the_task_is_imagined_to_end():
    algorithm = Still(discount=0.5, gae_lambda=0.5)
    v = lambda seen: jnp.full(seen.shape, 8.0)  # noqa: E731
    # Errors 1 + 4 - 8, 2 + 4 - 8, 4 + 4 - 8, of which each is worth a quarter one step earlier.
    gains, targets = algorithm.judged(v, trajectories([0.0, 0.0, 0.0]))
    np.testing.assert_allclose(gains[:, 0], [-3.5, -2.0, 0.0])
    np.testing.assert_allclose(targets[:, 0], [4.5, 6.0, 8.0])
    gains, _ = algorithm.judged(v, trajectories([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(gains[:2, 0], [-3 - 6 / 4, -6.0])
    np.testing.assert_array_equal(alive(jnp.array([[0.0], [1.0], [0.0]]))[:, 0], [1, 1, 0])


def test_what_comes_after_an_end_is_not_learned_from():
    algorithm = Still(**SMALL)
    state = algorithm.init(jax.random.key(0), SPEC)
    learn = jax.jit(algorithm.learn_policy)

    def learned(*given):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(learn(state, trajectories(*given))[0])]

    first, second, other = (
        learned([0.0, end, 0.0], [1.0, 2.0, last]) for end, last in ((1.0, 4.0), (1.0, 9.0), (0.0, 9.0))
    )
    assert all(np.array_equal(*leaves) for leaves in zip(first, second, strict=True))
    assert not all(np.array_equal(*leaves) for leaves in zip(first, other, strict=True))


def test_the_actor_s_step_changes_the_log_probabilities_as_much_as_is_wanted_or_is_whole():
    algorithm = Still(**SMALL, actor_learning_rate=0.1, policy_change=0.01)
    actor = algorithm.init(jax.random.key(0), SPEC).actor
    seen, actions = jnp.zeros((3, 64, 1)), jax.random.normal(jax.random.key(1), (3, 64, 1))
    weight = jnp.full((3, 64), 1 / 192)

    def log_probs(params):
        return algorithm.policy(params, seen).log_prob(actions)

    @jax.jit
    def paced(pace, scale):
        """By the gradient that makes large actions likelier, or by none."""
        gradient = jax.grad(lambda params: -(actions[..., 0] * log_probs(params)).mean())(actor.params)
        gradient = jax.tree.map(lambda leaf: scale * leaf, gradient)
        after, pace, change = algorithm.paced(actor, gradient, pace, seen, actions, weight)
        return pace, change, jnp.abs(log_probs(after.params) - log_probs(actor.params)).mean()

    for begun in (1.0, 0.001):
        pace, change, found = paced(begun, 1.0)
        assert change == pytest.approx(float(found), rel=1e-3)
        assert 0.008 <= change <= 0.012
        assert 0.001 < pace < 0.5
    pace, change, _ = paced(0.5, 0.0)
    assert pace == 1
    assert change < 1e-6


def test_the_actor_is_led_by_what_pays_and_its_spread_has_a_floor():
    algorithm = Still(**SMALL, actor_learning_rate=0.01, policy_change=0.0, min_std=0.3, initial_std=0.5)
    state = algorithm.init(jax.random.key(0), SPEC)
    seen = jnp.zeros((4, 64, 1))
    assert algorithm.policy(state.actor.params, seen).std[0, 0, 0] == pytest.approx(0.5)

    def step(state, key):
        policy = algorithm.policy(state.actor.params, seen[:-1])
        actions = policy.sample(key)
        told = Imagined(seen, actions, -jnp.abs(actions[..., 0] - 0.4), jnp.zeros((3, 64)))
        return algorithm.learn_policy(state, told)[0], ()

    state, _ = jax.lax.scan(step, state, jax.random.split(jax.random.key(2), 200))
    found: Normal = algorithm.policy(state.actor.params, seen[0, :1])
    np.testing.assert_allclose(found.mean, 0.4, atol=0.1)
    assert 0.3 < found.std[0, 0] < 0.5
    with pytest.raises(ReverieError, match=r"initial_std = 0.1 must exceed min_std = 0.1"):
        Still(initial_std=0.1)


@pytest.mark.parametrize("normed", [True, False])
def test_actor_and_v_are_layers_of_a_layer_norm_and_elu(normed):
    algorithm = Still(hidden=(8,), critic_hidden=(8,), policy_layer_norm=normed)
    state = algorithm.init(jax.random.key(0), SPEC)
    seen = np.array([[0.7], [-2.0]], np.float32)

    def by_hand(layers):
        first, last = ([np.asarray(each.weight), np.asarray(each.bias)] for each in layers)
        h = seen @ first[0] + first[1]
        if normed:
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        return np.where(h > 0, h, np.expm1(h)) @ last[0] + last[1]

    actor, v = state.actor.params, state.critic.online.params
    np.testing.assert_allclose(actor(seen).mean, np.tanh(by_hand(actor.net.layers)), atol=1e-5)
    np.testing.assert_allclose(v(seen), by_hand(v.layers), atol=1e-5)


def test_states_to_begin_from_are_inside_their_episodes():
    inside = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = drawn_rows(jnp.arange(6).reshape(2, 3), inside, jax.random.key(0), 400)
    numbers, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(numbers, [0, 1, 3])
    assert counts.min() > 90
