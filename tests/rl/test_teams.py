"""Policies of several agents: who acts by what, and that columns beyond an agent's own are nothing."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import MABC, MATD3BC, TD3BC
from reverie.data import Dataset
from reverie.data.agents import team_of
from reverie.errors import DataError
from reverie.rl import Critic, TeamActor

choose = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments)[0], static_argnums=0)
SIZES = {"observation_sizes": [2, 1, 2], "action_sizes": [1, 2, 2]}


def data(**changed) -> Dataset:
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(30, 3, 2)), rng.uniform(-3, 3, (30, 3, 2))
    observations[:, 1, 1] = actions[:, 0, 1] = 0
    arrays = {"observations": observations, "actions": actions, "rewards": rng.normal(size=30), "attributes": SIZES}
    ends = np.arange(30) % 5 == 4
    return Dataset.from_arrays(**arrays | changed, terminals=ends, action_low=-3, action_high=3)


def acted(algorithm, observations, seed=0):
    view, spec = algorithm.prepare(data())
    assert {x.ndim for x in view.rows.values()} <= {1, 2}
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    return np.asarray(choose(algorithm, state, spec, jnp.asarray(observations, jnp.float32), (), {}, jax.random.key(0)))


@pytest.mark.parametrize(
    ("algorithm", "together"),
    [
        (MABC(hidden=(8,)), False),
        (MABC(hidden=(8,), joint=True), True),
        (MATD3BC(hidden=(8,), critic_hidden=(8,)), False),
    ],
    ids=["alone", "joint", "ma-td3-bc"],
)
def test_an_agent_acts_by_what_it_sees_or_by_what_all_see(algorithm, together):
    """In the environment's units, told which agent it is, and whatever stands beyond an agent's columns."""
    seen = np.zeros((1, 3, 2))
    moved, beyond = seen.copy(), seen.copy()
    moved[:, 2] += 1
    beyond[:, 1, 1] += 1
    actions, other, same = (acted(algorithm, each) for each in (seen, moved, beyond))
    assert actions.shape == (1, 3, 2)
    assert np.abs(actions).max() > 1
    assert np.abs(actions[0, 0] - actions[0, 2]).max() > 1e-3
    assert (np.abs(actions - other)[0].max(-1) > 1e-6).tolist() == [together, together, True]
    np.testing.assert_array_equal(actions, same)


def test_the_critics_see_what_all_see_and_do():
    algorithm = MATD3BC(hidden=(8,), critic_hidden=(8,))
    _, spec = algorithm.prepare(data())
    state = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    assert max(leaf.shape[-2] for leaf in jax.tree.leaves(state.critic.target) if leaf.ndim == 3) == 12
    assert algorithm.standardise and MATD3BC().alpha == TD3BC().alpha


def test_what_is_no_teams_is_refused():
    with pytest.raises(DataError, match="give both an axis of agents"):
        MABC().prepare(data(actions=np.zeros((30, 2)), attributes={}))


def narrow(width, low=-1.0) -> Dataset:
    """Of two agents with one column of actions each, in arrays of so many."""
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(30, 2, 2)), np.zeros((30, 2, width))
    actions[..., 0] = rng.uniform(low, 1, (30, 2))
    arrays = {"rewards": rng.normal(size=30), "terminals": np.arange(30) % 5 == 4}
    sizes = {"action_sizes": [1, 1]} if width > 1 else {}
    return Dataset.from_arrays(observations, actions, **arrays, attributes=sizes, action_low=low, action_high=1)


def begun(algorithm, width=2):
    view, spec = algorithm.prepare(narrow(width))
    return algorithm.init(jax.random.key(0), spec), view.draw(jax.random.key(1), 16)


def test_the_target_has_no_noise_beyond_an_agents_columns():
    algorithm = MATD3BC(hidden=(8,), critic_hidden=(8,))
    state, batch = begun(algorithm)
    actions = np.asarray(algorithm.next_actions(state, batch, jax.random.key(2))).reshape(16, 2, 2)
    assert (actions[..., 1] == 0).all() and (actions[..., 0] != 0).all()


@pytest.mark.parametrize("joint", [False, True])
def test_cloning_teaches_nothing_beyond_an_agents_columns(joint):
    """Of the head's columns, means and then deviations, those of no agent stay; the likelihood is that of width 1."""
    algorithm = MABC(hidden=(8,), joint=joint)
    state, batch = begun(algorithm)
    learned, metrics = algorithm.update(state, batch, jax.random.key(2))
    before, after = (
        np.asarray(each.actor.params.net.net.layers[-1].weight).reshape(8, -1, 2) for each in (state, learned)
    )
    np.testing.assert_array_equal(after[..., 1], before[..., 1])
    assert (after[..., 0] != before[..., 0]).any(0).all()
    normal = state.actor.params(batch["observations"])
    own = [0, 2]
    z = (batch["actions"] - normal.mean)[:, own] / normal.std[:, own]
    each = -np.square(z) / 2 - np.log(normal.std[:, own] * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(metrics["negative_log_likelihood"], -each.sum(1).mean(), rtol=1e-5)


def test_td3_bcs_loss_does_not_depend_on_the_arrays_width():
    def loss(width):
        algorithm = MATD3BC(hidden=(8,), critic_hidden=(8,))
        team, (_, batch) = team_of(narrow(width)), begun(algorithm, width)
        net = TeamActor(lambda seen: jnp.stack([seen.sum(-1), seen[..., 0]], -1)[..., :width], team, joint=False)
        q = SimpleNamespace(first=lambda observation, action: (action.sum(-1) + observation[..., 0])[None])
        return float(algorithm.actor_loss(net, Critic(SimpleNamespace(params=q), None), batch))

    assert loss(2) == pytest.approx(loss(1), rel=1e-6)


def test_columns_beyond_an_agents_own_are_0_whatever_the_bounds():
    """In network units, where 0 would be -1, and in what is done, where a sample would not be."""
    algorithm = MABC(hidden=(8,), stochastic=True)
    view, spec = algorithm.prepare(narrow(2, low=0.0))
    rows = np.asarray(view.rows["actions"]).reshape(-1, 2, 2)
    assert (rows[..., 1] == 0).all() and rows[..., 0].min() < 0
    state = algorithm.init(jax.random.key(0), spec)
    done = choose(algorithm, state, spec, jnp.zeros((4, 2, 2)), (), {}, jax.random.key(0))
    assert (done[..., 1] == 0).all() and (done[..., 0] > 0).any()
