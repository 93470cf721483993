"""Critics: the target they are moved to, the slow copy, and what happens when rewards are out of all proportion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from critics import linear
from reverie.baselines import IQL
from reverie.data import Dataset, Spec
from reverie.errors import DivergenceError
from reverie.learning import Optimised
from reverie.rl import ActorCritic, Critic, QNetwork, magnitude, minimum

ALGORITHM = ActorCritic(critic_hidden=(), discount=0.9, tau=0.25, learning_rate=0.1)
BATCH = {
    "observations": jnp.zeros((4, 1)),
    "actions": jnp.array([[1.0, 0], [0, 1], [1, 1], [0, 0]]),
    "rewards": jnp.array([1.0, 2, 3, 4]),
    "terminals": jnp.array([0.0, 0, 1, 1]),
}
NEXT_VALUE = jnp.array([10.0, 20, jnp.inf, -5])


def critic(weights, bias=0.0) -> Critic:
    net = linear(weights, bias)
    return Critic(Optimised.create(net, ALGORITHM.critic_optimiser), net)


def test_networks_are_independent_and_see_state_and_action():
    net = QNetwork(jax.random.key(0), 3, 2, n=5, hidden=(8,))
    s, a = jax.random.normal(jax.random.key(1), (4, 1, 3)), jax.random.normal(jax.random.key(2), (4, 7, 2))
    values = net(s, a)
    assert values.shape == (5, 4, 7)
    assert len({float(value) for value in values[:, 0, 0]}) == 5
    for other in (net(s + 1, a), net(s, a + 1)):
        assert jnp.abs(other - values).min() > 0


@pytest.mark.parametrize("layer_norm", [True, False])
def test_layer_norm_bounds_what_is_said_of_actions_far_from_the_data(layer_norm):
    """Ten times as far: the same value to 1e-3, or ten times it to 1 %."""
    algorithm = ActorCritic(critic_hidden=(16, 16), critic_layer_norm=layer_norm)
    spec = Spec.fit(Dataset.from_arrays(np.zeros((4, 3)), np.ones((4, 2)), np.ones(4), timeouts=[0, 0, 0, 1]))
    net = algorithm.q_network(jax.random.key(0), spec)
    s, a = jnp.zeros(3), jax.random.normal(jax.random.key(2), (50, 2))
    far, further = net(s, 1e4 * a), net(s, 1e5 * a)
    np.testing.assert_allclose(
        further, far if layer_norm else 10 * far, **({"atol": 1e-3} if layer_norm else {"rtol": 1e-2})
    )


def test_the_target_is_the_reward_and_where_the_task_goes_on_the_discounted_value():
    """1 + 0.9 * 10, 2 + 0.9 * 20, 3 and 4: the value beyond a terminal does not count, were it the largest number."""
    value = NEXT_VALUE.at[2].set(3e38)
    _, metrics = ALGORITHM.learn_q(critic([[0, 0], [0, 0]]), BATCH, value)
    td_target = np.array([10.0, 20, 3, 4])
    assert metrics["td_target"] == pytest.approx(td_target.mean())
    assert metrics["q_loss"] == pytest.approx(2 * np.square(td_target).mean())


def test_each_critic_learns_its_own_values_and_may_have_its_own_target():
    """Repeated updates on one batch that linear critics can fit: to 1e-2 after 600."""
    td_targets = jnp.array([[1.0, 2, 3, 0], [-1, -2, -3, 0]])
    batch = BATCH | {"rewards": jnp.zeros(4), "terminals": jnp.zeros(4)}
    learn = jax.jit(lambda c: ALGORITHM.learn_q(c, batch, td_targets / 0.9)[0])
    learned = critic([[0, 0], [0, 0]])
    for _ in range(600):
        learned = learn(learned)
    np.testing.assert_allclose(learned.online.params(batch["observations"], batch["actions"]), td_targets, atol=1e-2)
    np.testing.assert_allclose(learned.target(batch["observations"], batch["actions"]), td_targets, atol=1e-2)


def test_the_slow_copy_moves_by_tau():
    before = critic([[1, 2], [3, 4]])
    after, _ = ALGORITHM.learn_q(before, BATCH, NEXT_VALUE.at[2].set(0))
    moved = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.target, after.online.params)
    for expected, found in zip(jax.tree.leaves(moved), jax.tree.leaves(after.target), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert jnp.abs(after.online.params.nets.layers[0].weight - before.target.nets.layers[0].weight).max() > 0.05


def test_nothing_is_learned_through_the_target():
    """The gradient of the loss by the next value is 0: the td_target is no variable."""

    def loss(value):
        return ALGORITHM.learn_q(critic([[1, 2], [3, 4]]), BATCH, value)[1]["q_loss"]

    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones(4)), 0)


def test_a_penalty_is_descended_too():
    """With targets that are met already only the penalty moves the weights: Adam's first step is the rate, 0.1."""
    exact = BATCH | {"terminals": jnp.ones(4), "rewards": jnp.zeros(4)}
    first = critic([[0, 0], [0, 0]])
    still, _ = ALGORITHM.learn_q(first, exact, jnp.zeros(4))
    moved, metrics = ALGORITHM.learn_q(first, exact, jnp.zeros(4), lambda q: 3.0 + q.nets.layers[0].weight.sum())
    np.testing.assert_array_equal(still.online.params.nets.layers[0].weight, 0)
    np.testing.assert_allclose(moved.online.params.nets.layers[0].weight, -0.1, rtol=1e-3)
    assert metrics["q_penalty"] == 3
    assert metrics["q_loss"] == 0


def test_rewards_beyond_all_proportion_stop_the_training_with_advice():
    """The square of 1e30 is infinite in single precision."""
    huge = Dataset.from_arrays(np.zeros((8, 1)), np.zeros((8, 1)), np.full(8, 1e30), terminals=np.ones(8))
    algorithm = IQL(hidden=(4,), critic_hidden=(4,), batch_size=4)
    with pytest.raises(DivergenceError, match=r"^q_loss became inf at update 1 of seed 3\.") as caught:
        reverie.fit(algorithm, huge, steps=2, seed=3, progress=False)
    assert str(caught.value).endswith(ActorCritic.advice)
    assert "--rewards returns" in str(caught.value)


def test_the_minimum_has_the_gradient_of_the_critic_that_gives_it():
    values = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]])
    np.testing.assert_array_equal(minimum(values), [1, 4, 2])
    slope = jax.grad(lambda v: minimum(v).sum())(values)
    np.testing.assert_array_equal(slope[:, :2], [[1, 0], [0, 1]])
    assert slope[:, 2].sum() == 1  # of a tie, one of the two


def test_the_first_critic_alone_says_what_it_says_among_all():
    net = linear([[1.0, 2.0], [50.0, -9.0]], bias=[0.5, 3.0])
    seen, action = jnp.zeros((4, 1)), jnp.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(net.first(seen, action), net(seen, action)[:1])


def test_some_critics_say_what_they_say_among_all_though_only_they_are_asked():
    """By numbers that are drawn in the program, in their order."""
    net = linear([[1.0, 2.0], [50.0, -9.0], [3.0, 0.0]], bias=[0.5, 3.0, 1.0])
    seen, action, which = jnp.zeros((4, 1)), jnp.arange(8.0).reshape(4, 2), jnp.array([2, 0])
    some = jax.jit(lambda which: net.members(which)(seen, action))
    np.testing.assert_array_equal(some(which), net(seen, action)[which])
    assert some.lower(which[:1]).cost_analysis()["flops"] < some.lower(which).cost_analysis()["flops"]


def test_the_magnitude_of_values_has_no_gradient_and_is_never_0():
    """An actor whose values are all 0 has a loss in units of them all the same."""
    q = jnp.array([[1.0, -3.0], [0.0, 4.0]])
    assert magnitude(q) == 2
    np.testing.assert_array_equal(jax.grad(magnitude)(q), 0)
    assert jax.grad(lambda q: q.mean() / magnitude(q))(jnp.zeros(4)).max() == pytest.approx(0.25e6)
