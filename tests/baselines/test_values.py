"""What each baseline's critic learns: the behaviour's values, the soft maximum, a lower bound off the data."""

import math
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bandit import BEST, CORNERS, act, bandit, train
from critics import linear
from reverie.baselines import AWAC, BC, CQL, SAC, XQL, OneStepRL
from reverie.baselines.cql import conservatism
from reverie.data import Dataset, Spec, sarsa
from reverie.errors import DataError
from reverie.rl import Normal

WIDTHS = {"hidden": (32, 32), "critic_hidden": (32, 32)}


def test_sarsa_rows_have_the_next_action_of_their_own_episode():
    data = Dataset.from_arrays(
        *(np.arange(6.0)[:, None], np.linspace(-1, 1, 6)[:, None], np.zeros(6)),
        terminals=[0, 0, 1, 0, 0, 0],
        timeouts=[0, 0, 0, 0, 0, 1],
    )
    rows = sarsa(data, Spec.fit(data)).rows
    np.testing.assert_array_equal(rows["observations"][:, 0], [0, 1, 2, 3, 4])  # the cut step has no next action
    np.testing.assert_allclose(rows["next_actions"][:4, 0], data.actions[[1, 2, 2, 4], 0])
    np.testing.assert_array_equal(rows["next_observations"][[0, 1, 3, 4], 0], [1, 2, 4, 5])
    with pytest.raises(DataError, match="no step has a next action"):
        sarsa(Dataset.from_arrays([[0.0]], [[0.0]], [0.0], timeouts=[1]), Spec.fit(data))


def chain(episodes: int = 400) -> Dataset:
    """Three states in a row, one step each; the last action's sign is paid: +1 pays 1, -1 pays -1, equally often.

    The behaviour's Q is 0 before the last state, the optimal Q is 0.9 or 0.81.
    """
    rng = np.random.default_rng(0)
    actions = rng.choice([-1.0, 1.0], size=(episodes, 3))
    rewards = np.where(np.arange(3) == 2, actions, 0)
    observations = np.tile(np.eye(3), (episodes, 1))
    return Dataset.from_arrays(
        observations, actions.reshape(-1, 1), rewards.ravel(), terminals=np.tile([0, 0, 1], episodes)
    )


def test_one_steps_q_is_the_behaviours_and_not_the_best():
    algorithm = OneStepRL(discount=0.9, **WIDTHS, learning_rate=3e-3, tau=0.05)
    state, _ = train(algorithm, chain(), 1500)
    signs = jnp.array([[-1.0], [1.0]])
    q = np.stack([np.asarray(state.critic.online.params(jnp.eye(3)[i], signs)).mean(0) for i in range(3)])
    np.testing.assert_allclose(q, [[0, 0], [0, 0], [-1, 1]], atol=0.15)


@pytest.mark.parametrize("samples, near", [(4096, True), (1, False)])
def test_one_steps_advantage_is_over_the_behaviours_mean(samples, near):
    """Q = 2 a, a behaviour of mean 0.1 and standard deviation 0.2: the advantage of a is 2 (a - 0.1), which is what
    the weights of 64 log likelihoods tell; by one sample in place of 4096 they are others."""
    algorithm = OneStepRL(baseline_samples=samples, temperature=1.0)
    actions = jnp.linspace(-0.4, 0.6, 64)[:, None]
    batch = {"observations": jnp.zeros((64, 1)), "actions": actions}
    behaviour, policy = (Normal(jnp.full((64, 1), mean), jnp.full((64, 1), 0.2)) for mean in (0.1, 0.3))
    critic = SimpleNamespace(online=SimpleNamespace(params=linear([[2.0], [2.0]])))
    found = algorithm.weighted_regression(policy, behaviour, critic, batch, jax.random.key(0))
    wanted = -(jnp.exp(2 * (actions[:, 0] - 0.1)) * policy.log_prob(actions)).mean()
    assert (abs(float(found - wanted)) < 0.02 * abs(float(wanted))) == near


def test_xqls_v_is_the_soft_maximum():
    q = jnp.asarray(np.random.default_rng(0).normal(size=512), jnp.float32)
    for beta in (2.0, 0.5):
        algorithm = XQL(beta=beta)
        by = optax.adam(0.02)

        @jax.jit
        def fitted(v, algorithm=algorithm, by=by):
            def step(carry, _):
                v, moments = carry
                updates, moments = by.update(jax.grad(lambda v: algorithm.v_loss(q - v))(v), moments)
                return (v + updates, moments), None

            return jax.lax.scan(step, (v, by.init(v)), length=2000)[0][0]

        wanted = beta * np.log(np.mean(np.exp(np.asarray(q, np.float64) / beta)))
        np.testing.assert_allclose(fitted(jnp.zeros(())), wanted, atol=2e-3)


def test_xqls_statistic_is_no_expectile():
    for field in ("expectile", "implicit_loss"):
        with pytest.raises(TypeError, match=field):
            XQL(**{field: 0.7})


def test_xqls_loss_is_bounded_far_from_the_minimum():
    for u in (-1e4, 1e4):
        value, slope = jax.value_and_grad(XQL().v_loss)(jnp.full(4, u))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_the_penalty_of_a_constant_q_is_the_volume_of_the_actions():
    """log sum exp of c over n uniform actions, less their log density, less c: d log 2 + log n for each critic."""
    batch = {"observations": jnp.zeros((5, 1)), "actions": jnp.zeros((5, 2))}
    candidates, density = jnp.zeros((10, 5, 2)), jnp.full((10, 5), -2 * math.log(2))

    def constant(observation, action):
        shape = jnp.broadcast_shapes(observation.shape[:-1], action.shape[:-1])
        return jnp.full((2, *shape), 7.0)

    found = conservatism(constant, batch, candidates, density)
    np.testing.assert_allclose(found, 2 * (2 * math.log(2) + math.log(10)), rtol=1e-5)


FAST = {"learning_rate": 3e-3, "actor_learning_rate": 3e-3}


def test_cqls_actor_takes_a_tenth_of_its_critics_steps():
    """Adam's first step is the learning rate."""
    algorithm = CQL(**WIDTHS)
    _, spec = algorithm.prepare(bandit(8))
    begun = algorithm.init(jax.random.key(0), spec)
    batch = algorithm.prepare(bandit(8))[0].rows
    state, _ = jax.jit(algorithm.update)(begun, batch, jax.random.key(1))

    def furthest(before, after):
        moves = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before, after)
        return max(jax.tree.leaves(moves))

    np.testing.assert_allclose(furthest(begun.critic.online.params, state.critic.online.params), 3e-4, rtol=1e-2)
    np.testing.assert_allclose(furthest(begun.actor.policy.params, state.actor.policy.params), 3e-5, rtol=1e-2)


@pytest.mark.slow
def test_cqls_q_is_lower_off_the_data():
    data = bandit(rewards=[1.0, 1.0, 1.0, 1.0])
    options = WIDTHS | FAST | {"sampled_actions": 4}
    state, _ = train(CQL(**options, conservative_weight=5.0), data, 400)
    loose, _ = train(CQL(**options, conservative_weight=0.0), data, 400)
    off = jnp.zeros((1, 2))
    on = jnp.asarray(CORNERS, jnp.float32)
    here = jnp.zeros((4, 1))

    def gap(state):
        q = state.critic.online.params
        return float(q(here, on).mean() - q(here[:1], off).mean())

    assert gap(state) > 0.5
    assert abs(gap(loose)) < 0.2


@pytest.mark.parametrize(
    "algorithm",
    [
        AWAC(temperature=0.05, **WIDTHS, learning_rate=3e-3, discount=0.0),
        XQL(beta=0.5, inverse_temperature=20.0, **WIDTHS, learning_rate=3e-3, discount=0.0),
        OneStepRL(temperature=0.05, **WIDTHS, learning_rate=3e-3, discount=0.0),
        OneStepRL(improvement="reverse-kl", temperature=0.01, **WIDTHS, learning_rate=3e-3, discount=0.0),
        CQL(conservative_weight=0.5, **WIDTHS, **FAST, discount=0.0, sampled_actions=4),
    ],
    ids=lambda algorithm: f"{algorithm.name}-{getattr(algorithm, 'improvement', '')}",
)
def test_gaussians_by_weighted_regression_and_by_maximising_q_find_the_best_corner_where_cloning_stays_in_the_middle(
    algorithm,
):
    data = bandit()
    action = act(algorithm, *train(algorithm, data, 800), n=1)[0]
    assert np.linalg.norm(action - CORNERS[BEST]) < 0.3
    cloned = BC(hidden=(32, 32), learning_rate=3e-3)
    assert np.linalg.norm(act(cloned, *train(cloned, data, 400), n=1)[0]) < 0.3


def opposed(observation, action):
    """Critics that say 1 and -1 of everything."""
    ones = jnp.ones(jnp.broadcast_shapes(observation.shape[:-1], action.shape[:-1]))
    return jnp.stack([ones, -ones])


class Seen(OneStepRL):
    """Whose critics show the value that they would learn from."""

    def learn_q(self, critic, batch, next_value, *more):
        return critic, {"next_value": next_value}


def test_each_q_of_one_step_rl_learns_by_itself():
    """The least of two would bootstrap both from -1."""
    algorithm = Seen(**WIDTHS)
    view, spec = algorithm.prepare(bandit(8))
    state = eqx.tree_at(lambda state: state.critic.target, algorithm.init(jax.random.key(0), spec), opposed)
    rows = view.rows | {"next_actions": view.rows["actions"]}
    _, metrics = algorithm.update(state, rows, jax.random.key(1))
    np.testing.assert_array_equal(np.asarray(metrics["next_value"])[:, 0], [1, -1])


def test_easy_bcq_takes_the_best_of_the_behaviours_own_actions():
    algorithm = OneStepRL(improvement="easy-bcq", candidates=200)
    best = jnp.array([0.8, 0.8])
    uniform = SimpleNamespace(sample=lambda key, shape: jax.random.uniform(key, (*shape, 3, 2), minval=-1, maxval=1))
    behaviour = SimpleNamespace(params=lambda s: uniform)
    critic = SimpleNamespace(target=lambda s, a: -jnp.square(a - best).sum(-1)[None])
    state = SimpleNamespace(behaviour=behaviour, critic=critic)
    action = algorithm.choose(state, None, jnp.zeros((3, 1)), jax.random.key(0))
    assert action.shape == (3, 2)
    assert np.abs(np.asarray(action) - 0.8).max() < 0.25


def test_sac_maximises_q_where_data_is_everywhere():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, size=(4000, 2))
    rewards = -np.square(actions - [0.5, -0.3]).sum(1)
    data = Dataset.from_arrays(np.zeros((4000, 1)), actions, 10 * rewards, terminals=np.ones(4000))
    algorithm = SAC(**WIDTHS, learning_rate=3e-3, discount=0.0)
    state, spec = train(algorithm, data, 800)
    np.testing.assert_allclose(act(algorithm, state, spec, n=1)[0], [0.5, -0.3], atol=0.1)
    entropy = -np.mean(state.actor.policy.params(jnp.zeros((1000, 1))).sample_and_log_prob(jax.random.key(0))[1])
    np.testing.assert_allclose(entropy, -2, atol=0.8)  # the wanted one, minus one a dimension; it begins at 1.4
