"""OMAR: what the search finds and when, where its actor goes that a gradient does not, and whose columns and rewards
count."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from reverie.baselines import OMAR
from reverie.data import Dataset
from reverie.rl import Critic, each_agent

SMALL = OMAR(hidden=(16,), critic_hidden=(8,), learning_rate=3e-2, policy_delay=1)
KEY = jax.random.key(0)
SIZES = {"observation_sizes": [2, 1], "action_sizes": [1, 2]}


def data() -> Dataset:
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(30, 2, 2)), rng.uniform(-1, 1, (30, 2, 2))
    observations[:, 1, 1] = actions[:, 0, 1] = 0
    ends = np.arange(30) % 5 == 4
    arrays = {"observations": observations, "actions": actions, "rewards": rng.normal(size=30), "attributes": SIZES}
    return Dataset.from_arrays(**arrays, terminals=ends, action_low=-1, action_high=1)


def begun(algorithm=SMALL):
    view, spec = algorithm.prepare(data())
    return algorithm.init(jax.random.key(0), spec), view.draw(jax.random.key(1), 16)


class Q:
    """In the place of several critics, of which the actor asks the first alone."""

    def __init__(self, of):
        self.first = of

    def __call__(self, observation, action):
        raise AssertionError("more than the first was asked")


@Q
def hills(observation, action):
    """A wide hill of height 0.5 at -0.5 and a narrow one of height 1 at 0.8, in every entry: `[1, ...]`."""
    return (0.5 * jnp.exp(-2 * (action + 0.5) ** 2) + jnp.exp(-50 * (action - 0.8) ** 2)).sum(-1)[None]


def batch_of(n=8):
    return {"observations": jnp.zeros((n, 3)), "actions": jnp.zeros((n, 1)), "own": jnp.ones((n, 1))}


def state_of(action, q=hills):
    actor = SimpleNamespace(params=lambda observation: jnp.full((len(observation), 1), action))
    return SimpleNamespace(actor=actor, critic=SimpleNamespace(online=SimpleNamespace(params=q)))


def test_the_search_leaves_the_best_action_as_it_is_and_finds_it_from_elsewhere():
    """The optimum of the first critic is at 0.8; where the policy is there nothing better is found."""
    wide = replace(SMALL, search_actions=200)
    there = wide.rectified(state_of(0.8), batch_of(), KEY)
    np.testing.assert_array_equal(there, np.full((8, 1), 0.8, np.float32))
    found = wide.rectified(state_of(-0.5), batch_of(), KEY)
    np.testing.assert_allclose(found, 0.8, atol=0.05)


def test_the_actor_reaches_a_hill_that_its_gradient_does_not_lead_to():
    """Q's gradient leads from 0 to the low hill at -0.5, the search to the high one at 0.8 (the paper's figure 1)."""

    def learned(rectification):
        algorithm = replace(SMALL, rectification=rectification, search_actions=50)
        critic, batch = Critic(SimpleNamespace(params=hills), None), batch_of()

        def step(action, key):
            best = algorithm.rectified(state_of(action), batch, key)

            def loss(action):
                net = lambda observation: jnp.full((len(observation), 1), action)  # noqa: E731
                return algorithm.actor_loss(net, critic, batch | {"best": best})

            return action - 0.05 * jax.grad(loss)(action), None

        return float(jax.jit(lambda keys: jax.lax.scan(step, jnp.zeros(()), keys)[0])(jax.random.split(KEY, 200)))

    assert abs(learned(0.0) + 0.5) < 0.05
    assert abs(learned(0.9) - 0.8) < 0.05


def test_a_rectification_of_1_has_nothing_of_q_in_the_gradient():
    """It is that of the distance to the best action alone, whatever Q is; the released code's in spread."""
    batch = batch_of() | {"best": jnp.linspace(-1, 1, 8)[:, None]}

    def gradient(rectification, q):
        algorithm, critic = replace(SMALL, rectification=rectification), Critic(SimpleNamespace(params=q), None)

        def loss(action):
            return algorithm.actor_loss(lambda _: jnp.full((8, 1), action), critic, batch)

        return float(jax.grad(loss)(0.3))

    steep = Q(lambda observation, action: 1e6 * action.sum(-1)[None])
    assert gradient(1.0, steep) == gradient(1.0, hills)
    assert abs(gradient(1.0, steep) - 2 * (0.3 - batch["best"].mean())) < 1e-6
    assert gradient(0.9, steep) < -9e4


@dataclass(frozen=True)
class Counted(OMAR):
    """Counts its searches."""

    def rectified(self, state, batch, key):
        jax.debug.callback(lambda: searches.append(1))
        return super().rectified(state, batch, key)


searches: list[int] = []


@dataclass(frozen=True)
class Always(OMAR):
    """Searches at every update."""

    def update(self, state, batch, key):
        uniform_key, search_key, key = jax.random.split(key, 3)
        rows = each_agent(batch, state.team)
        rows |= self.candidates(state, rows, uniform_key)
        rows["best"] = self.rectified(state, rows, search_key)
        algorithm = OMAR(**vars(self))
        learned, _ = super(OMAR, algorithm).update(state, rows, key)
        return learned, {}


def test_the_search_is_made_where_the_actor_learns_and_changes_nothing_of_it():
    """Every second time; an actor that is searched for at each learns the same."""
    told, states = [], []
    for kind in (Counted, Always):
        algorithm = kind(hidden=(16,), critic_hidden=(8,))
        state, batch = begun(algorithm)
        update = jax.jit(algorithm.update)
        for i in range(3):
            state, metrics = update(state, batch, jax.random.key(i))
            told.append(metrics.get("actor_loss"))
        states.append(state)
    jax.effects_barrier()
    assert len(searches) == 2
    assert told[1] == 0 and told[0] != told[2]
    for mine, theirs in zip(*(jax.tree.leaves((each.actor, each.critic)) for each in states), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_columns_beyond_an_agents_actions_are_neither_searched_nor_drawn():
    rows = {"observations": jnp.zeros((4, 4)), "actions": jnp.zeros((4, 2)), "own": jnp.array([[1.0, 0.0]] * 4)}
    found = SMALL.rectified(state_of(0.3, Q(lambda observation, action: action.sum(-1)[None])), rows, KEY)
    assert (found[:, 1] == 0).all() and (np.asarray(found[:, 0]) > 0.3).all()


def near(action, n=3):
    """The conservatism's actions about an actor that gives `action` at s and its opposite at s', at 1."""
    algorithm = replace(SMALL, sampled_actions=2, policy_actions=n, policy_delay=1)
    batch = batch_of(2) | {"next_observations": jnp.ones((2, 3)), "own": jnp.array([[1.0, 0.0], [1.0, 1.0]])}
    batch["actions"] = jnp.zeros((2, 2))
    actor = SimpleNamespace(params=lambda s: action * (1 - 2 * s[:, :1]) * jnp.ones((1, 2)))
    return algorithm, batch | algorithm.candidates(SimpleNamespace(actor=actor), batch, KEY)


def test_the_conservatism_of_halfcheetah_has_actions_about_the_actors_weighted_by_their_density():
    """Of Q = 0 and an agent of one column and one of two: log of the sum of 1 / density, 2^d for a uniform action, and
    sqrt(2 pi) 0.2 exp(z² / 2) a column for one at distance 0.2 z from the actor's at s, and at s'."""
    algorithm, batch = near(0.3)
    assert batch["candidates"].shape == (2 + 2 * 3, 2, 2)
    assert (batch["candidates"][:, 0, 1] == 0).all()
    z = (np.asarray(batch["candidates"][2:]) - np.repeat([0.3, -0.3], 3)[:, None, None]) / 0.2
    normal = np.sqrt(2 * np.pi) * 0.2 * np.exp(np.square(z) / 2)
    assert np.abs(z[:, 1]).max() < 3  # so that none is at a bound
    expected = np.log([2 * 2 + normal[:, 0, 0].sum(), 2 * 4 + normal[:, 1].prod(-1).sum()]).mean()
    found = algorithm.penalty(lambda observation, action: jnp.zeros((1, *action.shape[:-1])), batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_conservatism_follows_the_actor_where_actions_are_drawn_about_its_own():
    def penalty(action, n):
        algorithm, batch = near(action, n)
        return float(algorithm.penalty(hills.first, batch))

    assert penalty(0.3, 0) == penalty(0.8, 0)
    assert abs(penalty(0.3, 3) - penalty(0.8, 3)) > 1e-2
    assert near(0.99)[1]["candidates"].max() == 1.0


def test_its_losses_do_not_depend_on_the_arrays_width():
    """The actor's distance to the best action, and the conservatism with its uniform density."""

    def losses(width):
        rng = np.random.default_rng(0)
        own = jnp.eye(width)[0] * jnp.ones((4, 1))
        made, best, drawn = (own * rng.uniform(-1, 1, (*n, 4, 1)) for n in ((), (), (3,)))
        batch = {"observations": jnp.zeros((4, 2)), "actions": 0.5 * own, "own": own, "best": best}
        q = Q(lambda observation, action: action.sum(-1)[None])
        loss = SMALL.actor_loss(lambda _: made, Critic(SimpleNamespace(params=q), None), batch)
        density = SMALL.candidates(None, batch, KEY)["log_density"][:3]
        return [float(loss), float(SMALL.penalty(q.first, batch | {"candidates": drawn, "log_density": density}))]

    np.testing.assert_allclose(losses(2), losses(1), rtol=1e-6)


def test_each_agent_learns_from_the_teams_reward_with_a_critic_of_its_own():
    """A batch of B transitions is one of 2 B, of one agent's 2 columns, its number of 2, and 2 actions."""
    state, batch = begun()
    taught = {}

    class Spied(OMAR):
        def learn_q(self, critic, batch, next_value, penalty=None):
            taught.update(batch, penalty=penalty)
            return critic, {}

    jax.eval_shape(Spied(hidden=(16,), critic_hidden=(8,)).update, state, batch, KEY)
    assert {name: taught[name].shape for name in ("rewards", "observations", "actions", "candidates", "best")} == {
        "rewards": (32,),
        "observations": (32, 4),
        "actions": (32, 2),
        "candidates": (10, 32, 2),
        "best": (32, 2),
    }
    rows = each_agent(batch, state.team)
    np.testing.assert_array_equal(rows["rewards"], np.repeat(batch["rewards"], 2))
    np.testing.assert_array_equal(rows["actions"].reshape(16, 4), batch["actions"])
    np.testing.assert_array_equal(rows["observations"][::2, 2:], [[1, 0]] * 16)
    np.testing.assert_array_equal(rows["observations"][1::2, 0], batch["observations"][:, 2])
    np.testing.assert_array_equal(rows["own"][:2], [[1, 0], [1, 1]])


def test_the_critics_loss_has_alpha_times_the_conservatism_of_uniform_actions():
    """log sum exp Q(s, u) - log density of u in an agent's own columns, less Q(s, a), by hand; the td_target's error is
    beside it."""
    state, batch = begun()
    rows = each_agent(batch, state.team)
    rows |= SMALL.candidates(state, rows, KEY)
    q, sizes = state.critic.online.params, np.tile(SIZES["action_sizes"], 16)
    everywhere = jax.nn.logsumexp(q(rows["observations"], rows["candidates"]) + sizes * jnp.log(2.0), axis=1)
    expected = 5 * (everywhere - q(rows["observations"], rows["actions"])).mean(1).sum()
    algorithm = replace(SMALL, alpha=5.0)
    _, metrics = jax.jit(algorithm.learn_q)(state.critic, rows, jnp.zeros(32))
    np.testing.assert_allclose(metrics["q_penalty"], expected, rtol=1e-5)
    assert {"q_loss", "td_target"} <= set(metrics)
