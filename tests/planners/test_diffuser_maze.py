"""Diffuser for goals: plans that join what no episode joins, tracked, and made again for each environment in time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carries import mixed_and_in_lockstep

import reverie
from reverie.data import Dataset
from reverie.data.blocks import Blocks
from reverie.planners import DiffuserMaze
from reverie.planning import Plan

act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
plan_of = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)


def double_integrator(episodes=240, length=40, seed=0) -> Dataset:
    """A point (p, v) in the plane with p' = p + v goes from west to centre or from centre to east, at a changing pace.
    No episode connects west with east. The actions are noise: plans are tracked, not executed.
    """
    rng = np.random.default_rng(seed)
    west = rng.random(episodes) < 0.5
    start = np.stack([np.where(west, -1.0, 0.0), np.zeros(episodes)], -1) + 0.05 * rng.normal(size=(episodes, 2))
    end = start + np.array([1.0, 0.0]) + 0.05 * rng.normal(size=(episodes, 2))
    # At a speed that keeps changing: only who looks at the goal knows where the next to last row is.
    pace = np.exp(np.cumsum(rng.normal(size=(episodes, length, 1)), 1) / 4)
    velocities = (end - start)[:, None] * pace / pace.sum(1, keepdims=True)
    positions = start[:, None] + np.cumsum(velocities, 1) - velocities
    observations = np.concatenate([positions, velocities], -1) + 1e-3 * rng.normal(size=(episodes, length, 4))
    actions = 0.01 * rng.normal(size=(episodes, length, 2))
    timeouts = np.zeros((episodes, length), bool)
    timeouts[:, -1] = True
    return Dataset.from_arrays(observations.reshape(-1, 4), actions.reshape(-1, 2), timeouts=timeouts.reshape(-1))


@pytest.fixture(scope="module")
def crossing(optimised):
    algorithm = DiffuserMaze(
        horizon=16, width=24, multipliers=(1,), diffusion_steps=16, stride=2, ema_start=400, ema_decay=0.9,
        learning_rate=1e-3, plan_horizon=36,
    )  # fmt: skip
    with optimised():
        return reverie.fit(algorithm, double_integrator(), steps=1200, progress=False)


def west_to_east(n):
    start = np.tile(np.array([-0.9, 0.0, 0.0256, 0.0], np.float32), (n, 1))
    return {"observation": jnp.asarray(start), "desired_goal": jnp.tile(jnp.array([0.9, 0.0]), (n, 1))}


def test_a_longer_plan_joins_what_no_episode_joins(crossing):
    """West to east in 36 rows, at the data's mean speed, from windows of 16: ends exact, no jump in between (0.6 m
    in a hurried net's jitter; a plan that is not joined jumps by more than half of the way)."""
    algorithm, spec, n = crossing.algorithm, crossing.spec, 16
    observation = west_to_east(n)
    start = algorithm.reset(spec, n, {})
    plan = plan_of(algorithm, crossing.state(0), spec, observation, start, jax.random.key(0))
    assert plan.shape == (n, 36, 6)
    states = np.asarray(spec.denormalise("observations", plan[..., 2:]))
    np.testing.assert_allclose(states[:, 0], observation["observation"], atol=1e-5)
    np.testing.assert_allclose(states[:, -1, :2], observation["desired_goal"], atol=1e-5)
    steps = np.linalg.norm(np.diff(states[:, :, :2], axis=1), axis=-1)
    assert np.median(steps.max(1)) < 0.6
    assert np.abs(states[..., 1]).max() < 0.6


def drive(run, steps, n=8, push=None, **changes):
    """The mass driven by the planner's actions; it is pushed aside at one step where `push` says so."""
    algorithm = replace(run.algorithm, kp=0.2, kd=1.0, **changes)
    carry, state = algorithm.reset(run.spec, n, {}), west_to_east(n)["observation"]
    goal = west_to_east(n)["desired_goal"]
    seen = []
    for i in range(steps):
        seen.append(state)
        observation = {"observation": state, "desired_goal": goal}
        action, carry = act(algorithm, run.state(0), run.spec, observation, carry, {}, jax.random.key(i))
        if push and i == push[0]:
            state = state.at[:, 1].add(push[1])
        velocity = state[:, 2:] + action
        state = jnp.concatenate([state[:, :2] + velocity, velocity], -1)
    return np.asarray(state), np.asarray(goal), carry, np.stack(seen)


def test_tracking_reaches_the_goal_and_holds_it(crossing):
    state, goal, _, _ = drive(crossing, 130)
    assert np.linalg.norm(state[:, :2] - goal, axis=1).max() < 0.1
    assert np.abs(state[:, 2:]).max() < 0.05


def test_replanning_keeps_the_rows_that_were_driven(crossing):
    """After a push the rows behind are what was seen, and the goal is still reached in time."""
    state, goal, (plan, _), seen = drive(crossing, 130, push=(40, 0.2), replan_interval=4)
    assert np.linalg.norm(state[:, :2] - goal, axis=1).max() < 0.1
    kept = np.asarray(crossing.spec.denormalise("observations", plan[..., 2:]))[:, :35]
    np.testing.assert_allclose(kept, np.moveaxis(seen[: 2 * 35 : 2], 0, 1), atol=1e-5)


def test_replanning_warm_has_a_smaller_nfe_and_arrives(crossing):
    state, goal, _, _ = drive(crossing, 130, push=(40, 0.2), replan_interval=4, warm_start_steps=4)
    assert np.linalg.norm(state[:, :2] - goal, axis=1).max() < 0.1


@pytest.mark.parametrize("at_rest", [False, True])
def test_training_windows_hold_the_start_and_the_goal(at_rest):
    """All of the first observation; of the last its position, and its velocity where the goal is one of rest."""
    mask = np.asarray(DiffuserMaze(goal_at_rest=at_rest).inpaint_mask(8, Blocks.of(actions=2, observations=4)))
    expected = np.zeros((8, 6), bool)
    expected[0, 2:] = expected[-1, 2:4] = True
    expected[-1, 4:] = at_rest
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("interval", "given"), [(0, [0, 7]), (2, [0, 1, 7])])
def test_rows_that_were_driven_are_no_plan(interval, given):
    """Three steps after the window began, its first two rows are past, where they are kept as they were seen."""
    algorithm = DiffuserMaze(horizon=8, width=8, multipliers=(1,), stride=2, replan_interval=interval)
    spec = algorithm.prepare(double_integrator(4, 20))[1]
    carry = Plan(jnp.zeros((1, 8, algorithm.blocks(spec).size)), jnp.array([3]))
    assert np.flatnonzero(algorithm.followed(spec, None, carry)[1][0]).tolist() == given


@pytest.mark.parametrize("replanning", [{}, {"replan_interval": 1}, {"replan_interval": 2, "warm_start_steps": 2}])
def test_environments_at_different_steps_act_as_in_lockstep(replanning):
    """Each environment of a batch is at another step of its episode, the first at none; rows of plans are two steps.

    Replanning, those on a row see where they are; of the one at row 1 that is not due at an interval of 2, nothing
    else changes but the last row's velocity, which tracking takes as 0; of the one between two rows nothing at all."""
    algorithm = DiffuserMaze(horizon=8, width=8, multipliers=(1,), diffusion_steps=4, stride=2, **replanning)
    spec = algorithm.prepare(double_integrator(4, 20))[1]
    state = jax.jit(algorithm.init)(jax.random.key(0), spec)

    def observe(step):
        near = jnp.arange(4.0)[:, None] / 10 + 0.1 * step
        return {"observation": jnp.tile(near, 4), "desired_goal": jnp.ones((4, 2))}

    mixed, lockstep, before = mixed_and_in_lockstep(algorithm, state, spec, observe, steps=(0, 2, 3, 4))
    for found, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(lockstep), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(mixed[1].step, [1, 3, 4, 5])
    interval = replanning.get("replan_interval", 0)
    changed = np.any(mixed[1].rows[..., 2:] != before.rows[..., 2:], axis=-1)  # of the states
    assert changed.any(1).tolist() == [True, interval > 0, False, interval > 0]
    assert changed[1].sum() == {0: 0, 1: 7, 2: 2}[interval]
