"""Planning to goals: the goal's columns in each maze, who follows a plan and towards what, when another is made."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.errors import DataError
from reverie.planning import AnewPlanner, GoalPlanner, Plan


@dataclass(frozen=True)
class Planner(GoalPlanner):
    name: ClassVar = "planner"


@dataclass(frozen=True)
class States(AnewPlanner):
    """Its plans go from the start to the goal in a straight line."""

    name: ClassVar = "states"
    parts: ClassVar = ("observations",)

    def plan(self, state, spec, observation, key):
        start, goal = self.ends(spec, observation)
        return start[:, None] + (goal - start)[:, None] * jnp.linspace(0, 1, self.horizon)[:, None]


SMALL: dict[str, Any] = {"horizon": 4, "width": 8, "multipliers": (1,), "stride": 2}


def data(observation_dim, action_dim, rows=20):
    rng = np.random.default_rng(0)
    arrays = 3 + 2 * rng.normal(size=(rows, observation_dim)), rng.uniform(-1, 1, (rows, action_dim))
    return Dataset.from_arrays(*arrays, timeouts=np.arange(rows) == rows - 1, action_low=-1, action_high=1)


MAZES = {"gymnasium's": (4, 2), "OGBench's": (2, 2), "the ant's": (29, 8)}
"""Numbers of an observation and of an action."""


@pytest.mark.parametrize("maze", MAZES)
@pytest.mark.parametrize("alone", [False, True])
def test_the_goal_is_the_position_in_each_maze(maze, alone):
    """Behind the actions; held in the last row, as the whole state is in the first."""
    states, actions = MAZES[maze]
    planner = Planner(**SMALL, positions_alone=alone)
    spec = planner.prepare(data(states, actions))[1]
    planned = 2 if alone else states
    assert planner.blocks(spec).widths == (("actions", actions), ("observations", planned))
    expected = np.zeros((4, actions + planned), bool)
    expected[0, actions:] = expected[-1, actions : actions + 2] = True
    np.testing.assert_array_equal(planner.inpaint_mask(4, planner.blocks(spec)), expected)
    assert planner.tracks(spec) == (maze == "gymnasium's" and not alone)


def test_a_goal_that_is_a_whole_observation_is_its_position():
    planner = States(**SMALL, positions_alone=True)
    spec = planner.prepare(data(29, 8))[1]
    goal = jnp.arange(29.0)[None]
    seen = {"observation": jnp.ones((1, 29)), "desired_goal": goal}
    for each in (seen, seen | {"desired_goal": goal[:, :2]}):
        rows = planner.plan(None, spec, each, jax.random.key(0))
        np.testing.assert_allclose(planner.states_of(spec, rows)[0, jnp.array([0, -1])], [[1, 1], [0, 1]], atol=1e-5)


def test_the_first_columns_have_the_observations_units():
    planner = States(**SMALL)
    spec = planner.prepare(data(4, 2))[1]
    x = jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_allclose(planner.normalised(spec, x[:, :2]), spec.normalise("observations", x)[:, :2])
    np.testing.assert_allclose(planner.states_of(spec, planner.normalised(spec, x)), x, atol=1e-5)


def seen_at(x, goal=(9.0, 0.0)):
    x = jnp.asarray(x, jnp.float32)
    return {"observation": x, "desired_goal": jnp.tile(jnp.array(goal), (len(x), 1))}


def test_inverse_dynamics_are_asked_for_the_row_a_stride_ahead():
    """Of a point whose action is its displacement in two steps: half a row of a stride of 2 is what a step makes."""

    class Exact:
        def __call__(self, observation, target):
            return spec.normalise("actions", units(target) - units(observation))

    class Inverse:
        params = Exact()

    class State:
        inverse = Inverse()

    planner = States(**SMALL)
    spec = planner.prepare(data(2, 2))[1]

    def units(x):
        return spec.denormalise("observations", x)

    spec = replace(spec, action_low=jnp.full(2, -5.0), action_high=jnp.full(2, 5.0))
    carry, x = planner.reset(spec, 1, {}), jnp.zeros((1, 2))
    for step in range(8):
        action, carry = planner.act(State(), spec, seen_at(x), carry, {}, jax.random.key(step))
        x = x + action / 2
        # A plan of 4 rows, 3 m and 2 steps apart: half of what is missing of 2 steps ahead.
        if step == 0:
            np.testing.assert_allclose(action, [[3.0, 0.0]], atol=1e-4)
    assert abs(float(x[0, 0]) - 9) < 0.2
    action, _ = planner.act(State(), spec, seen_at(x), Plan(carry.rows, jnp.full(1, 1000)), {}, jax.random.key(0))
    np.testing.assert_allclose(action[0], np.array([9, 0]) - x[0], atol=1e-4)


def test_a_new_plan_is_made_where_one_is_farther_off_than_allowed():
    """Three environments on the same plan: at its place, beside it by less than 1 m, and by more. Only the last gets
    a plan from where it is, whose time begins again."""
    planner = States(**SMALL, replan_distance=1.0, following="inverse-dynamics")
    spec = planner.prepare(data(2, 2))[1]
    start = planner.current(None, spec, seen_at([[0.0, 0.0]] * 3), planner.reset(spec, 3, {}), jax.random.key(0))
    here = seen_at([[6.0, 0.0], [6.0, 0.9], [6.0, 1.1]])
    later = planner.current(None, spec, here, Plan(start.rows, jnp.full(3, 4)), jax.random.key(1))
    np.testing.assert_array_equal(later.step, [4, 4, 0])
    np.testing.assert_array_equal(later.rows[:2], start.rows[:2])
    np.testing.assert_allclose(planner.states_of(spec, later.rows)[2, 0], [6, 1.1], atol=1e-5)
    never = replace(planner, replan_distance=0.0)
    kept = never.current(None, spec, here, Plan(start.rows, jnp.full(3, 4)), jax.random.key(1))
    np.testing.assert_array_equal(kept.rows, start.rows)


@pytest.mark.parametrize(
    "sizes, change, sentence",
    [
        ((1, 2), {}, "goal_size = 2, but 'observations' have 1 columns"),
        ((2, 2), {"following": "track"}, "need 4 columns, all planned, and 'actions' 2; they have 2 and 2"),
        ((4, 2), {"following": "track", "positions_alone": True}, "Let plans be followed by inverse-dynamics"),
    ],
)
def test_data_that_cannot_be_planned_or_followed_are_refused(sizes, change, sentence):
    with pytest.raises(DataError, match=sentence):
        Planner(**SMALL, **change).prepare(data(*sizes))
