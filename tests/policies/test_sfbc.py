"""SfBC: planned returns against value iteration by hand; the whole on the bandit."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import BEST, act, bandit, fractions, spread, train
from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.policies import SfBC

OPTIMISED = True

# A chain 0 -> 1 -> 2 -> 3. At state 1, action -1 ends the task with a reward of 0, action +1 goes on to 2, and from
# there to the end with a reward of 10. The first episode turns off at 1, the second begins at 1 and goes through.
STATES = np.array([0, 1, 1, 2])
ACTIONS = np.array([1.0, -1.0, 1.0, 1.0])
REWARDS = np.array([1.0, 0.0, 2.0, 10.0])
NEXT = np.array([1, 3, 2, 3])
TERMINALS = np.array([0, 1, 0, 1])
DISCOUNT = 0.9


def chain(timeouts=None, terminals=TERMINALS) -> Dataset:
    one_hot = np.eye(4)
    return Dataset.from_arrays(
        *(one_hot[STATES], ACTIONS[:, None], REWARDS, terminals),
        timeouts=timeouts,
        next_observations=one_hot[NEXT],
    )


@dataclass(frozen=True)
class Planner(SfBC):
    """With the chain's two actions as support, whatever the behaviour model is."""

    def supports(self, net, observations, key, action_dim):
        return jnp.broadcast_to(jnp.array([[-1.0], [1.0]]), (len(observations), 2, 1))


def plan(algorithm, data, q_table):
    """The planned returns in the rewards' units, with the previous critic a table [state, action's sign]."""
    view, _ = algorithm.prepare(data)
    own = np.asarray(algorithm.own_returns(None, view, None)["targets"])
    returns = returns_by_hand(data)
    scale = np.ptp(returns) / np.ptp(own)
    mean = returns[0] - scale * own[0]
    table = jnp.asarray((np.asarray(q_table) - mean) / scale, jnp.float32)

    def previous(observation, action):
        state = observation.argmax(-1)
        return table[state, (action[..., 0] > 0).astype(int)][None]

    state = SimpleNamespace(behaviour=SimpleNamespace(params=None), previous=previous)
    return np.asarray(algorithm.planned_returns(state, view, jax.random.key(0))["targets"]) * scale + mean


def returns_by_hand(data):
    to_go = np.zeros(len(data))
    for start, stop in data.episodes:
        later = 0.0
        for i in reversed(range(start, stop)):
            later = to_go[i] = data.rewards[i] + DISCOUNT * later
    return to_go


# Of the table, rows are states 0 to 3 and columns the actions -1 and +1; what the data lacks is bad.
Q_OF_THE_DATA = [[-50, 1.0], [0.0, 11.0], [-50, 10.0], [0.0, 0.0]]


def test_the_plan_leaves_the_episode_where_another_action_is_better():
    planned = plan(Planner(alpha=200.0, discount=DISCOUNT), chain(), Q_OF_THE_DATA)
    np.testing.assert_allclose(planned, [1 + DISCOUNT * 11, 0.0, 2 + DISCOUNT * 10, 10.0], rtol=1e-4, atol=1e-3)


def test_the_plan_keeps_to_the_episode_where_that_is_better():
    planned = plan(Planner(alpha=200.0, discount=DISCOUNT), chain(), np.full((4, 2), -30.0))
    np.testing.assert_allclose(planned, returns_by_hand(chain()), rtol=1e-4, atol=1e-3)


def test_a_cut_is_continued_by_the_value_and_a_terminal_by_nothing():
    cut = chain(timeouts=[0, 1, 0, 0], terminals=[0, 0, 0, 1])
    table = np.array([[0, 0], [-40, -40], [-40, -40], [5.0, 7.0]])
    planned = plan(Planner(alpha=200.0, discount=DISCOUNT), cut, table)
    turn = 0.0 + DISCOUNT * 7
    np.testing.assert_allclose(planned, [1 + DISCOUNT * turn, turn, 2 + DISCOUNT * 10, 10.0], rtol=1e-4, atol=1e-3)


def test_iterating_plans_is_value_iteration():
    algorithm, table = Planner(alpha=200.0, discount=DISCOUNT), np.full((4, 2), -50.0)
    for _ in range(3):
        planned = plan(algorithm, chain(), table)
        table = np.full((4, 2), -50.0)
        for state, action, value in zip(STATES, ACTIONS, planned, strict=True):
            table[state, int(action > 0)] = value
    optimal = {(0, 1): 1 + DISCOUNT * (2 + DISCOUNT * 10), (1, 0): 0.0, (1, 1): 2 + DISCOUNT * 10, (2, 1): 10.0}
    for (state, action), value in optimal.items():
        np.testing.assert_allclose(table[state, action], value, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def trained():
    algorithm = SfBC(
        behaviour_updates=1000,
        critic_updates=200,
        widths=(64, 64),
        time_scale=1.0,
        critic_hidden=(32, 32),
        batch_size=256,
        learning_rate=3e-3,
        decay_updates=1000,
        critic_learning_rate=3e-3,
    )
    return algorithm, *train(algorithm, bandit(1024), 1400)


def test_the_best_corner_is_chosen_and_the_data_not_left(trained):
    actions = act(*trained)
    assert fractions(actions)[BEST] > 0.95
    assert (spread(actions) < 2).all()


def test_one_candidate_is_the_behaviour(trained):
    algorithm, state, spec = trained
    shares = fractions(act(replace(algorithm, candidates=1), state, spec), within=8)
    assert shares.min() > 0.15
    assert shares.sum() > 0.9


def test_the_critic_starts_anew_at_every_stage(trained):
    algorithm, state, _ = trained
    renewed = algorithm.renew(state, jax.random.key(5))
    assert all(map(np.array_equal, jax.tree.leaves(renewed.previous), jax.tree.leaves(state.critic.params)))
    assert not np.array_equal(renewed.critic.params.nets.layers[0].weight, state.critic.params.nets.layers[0].weight)


def test_own_returns_end_at_terminals_that_episodes_go_on_after():
    """As in OGBench's data, whose episodes go on after the goal."""
    ends = {"timeouts": [0, 0, 0, 0, 1], "ends": [0, 0, 0, 0, 1]}
    data = Dataset.from_arrays(np.eye(5), np.zeros((5, 1)), [-1.0, 0, -1, -1, -1], [0, 1, 0, 0, 0], **ends)
    view, _ = SfBC(discount=DISCOUNT).prepare(data)  # the last row's successor is not known: it is left out
    wanted = np.array([-1.0, 0.0, -1 - DISCOUNT, -1.0])
    np.testing.assert_allclose(view.rows["returns"], (wanted - wanted.mean()) / wanted.std(), rtol=1e-5)


def test_the_defaults_are_the_released_codes_one_planning():
    behaviour, own, planned = SfBC().stages
    assert (behaviour.updates, own.updates, planned.updates) == (SfBC().behaviour_updates, 24_400, None)


def test_more_are_averaged_than_drawn_is_refused():
    with pytest.raises(ReverieError, match="averaged_actions = 40 exceeds candidates = 32"):
        SfBC(averaged_actions=40)


def test_without_target_critics_there_is_no_tau():
    with pytest.raises(TypeError, match="tau"):
        SfBC(tau=0.01)
