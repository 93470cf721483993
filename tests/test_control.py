import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.collection.pointmaze import Point, rollout
from reverie.control import densify, straight_line, track
from reverie.environments import MAZES, StraightLinePolicy, WaypointPolicy, make
from reverie.environments.pointmaze import Settings


def test_track_is_the_sum_of_both_errors_clipped():
    target, observation = jnp.array([1.0, 2.0, 0.5, 0.0]), jnp.array([0.9, 2.1, 0.2, 3.0])
    np.testing.assert_allclose(track(target, observation, kp=1, kd=1), [0.4, -1.0], atol=1e-6)
    np.testing.assert_allclose(track(target, observation, kp=2, kd=1, low=-9, high=9), [0.5, -3.2], atol=1e-6)


def test_track_works_in_any_batch_shape():
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    batched = jax.jit(track)(x, y)
    assert batched.shape == (3, 5, 2)
    np.testing.assert_allclose(batched[1, 2], track(x[1, 2], y[1, 2]), atol=1e-6)


def test_densify_interpolates_and_keeps_rows():
    plan = jnp.array([[0.0, 0.0], [4.0, 8.0], [0.0, 8.0]])
    dense = densify(plan, 4)
    np.testing.assert_allclose(dense[:, 0], [0, 1, 2, 3, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(dense[:, 1], [0, 2, 4, 6, 8, 8, 8, 8, 8])
    np.testing.assert_array_equal(densify(plan, 1), plan)
    np.testing.assert_array_equal(densify(plan[:1], 4), plan[:1])
    batch = jnp.stack([plan, 2 * plan])
    np.testing.assert_allclose(densify(batch, 4)[1], 2 * dense)


def test_straight_line_moves_at_its_speed_and_rests_at_the_goal():
    plan = straight_line(jnp.array([1.0, 1.0]), jnp.array([4.0, 5.0]), speed=2.0, dt=0.5, rows=8)
    assert plan.shape == (8, 4)
    np.testing.assert_allclose(plan[0], [1, 1, 1.2, 1.6], atol=1e-6)
    np.testing.assert_allclose(plan[2], [2.2, 2.6, 1.2, 1.6], atol=1e-6)
    np.testing.assert_allclose(plan[5:], np.tile([4, 5, 0, 0], (3, 1)), atol=1e-6)
    assert np.isfinite(straight_line(jnp.ones(2), jnp.ones(2), 2.0, 0.01, 3)).all()


@pytest.mark.parametrize("stride", [1, 4])
def test_tracking_a_recorded_trajectory_stays_close(stride):
    """400 steps of collected data, 5 m and more of way: never more than 0.08 m off, 0.03 m on average."""
    pytest.importorskip("mujoco")
    maze = MAZES["pointmaze-medium"]
    recorded = next(rollout(maze, Settings(), seed=5))[:401, :4]
    plan = np.asarray(densify(recorded[::stride].astype(np.float32), stride))
    point, state, off = Point(maze, tuple(recorded[0, :2])), tuple(recorded[0]), []
    for row in plan[1:]:
        state = point.step(tuple(np.asarray(track(row, np.array(state)))))
        off.append(np.linalg.norm(np.array(state[:2]) - row[:2]))
    assert np.linalg.norm(np.diff(recorded[:, :2], axis=0), axis=1).sum() > 5
    assert max(off) < 0.08 and np.mean(off) < 0.03


def _success(policy, seeds):
    env = make("pointmaze-umaze")
    reached = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        policy.reset(1)
        reached.append(False)
        for _ in range(MAZES["pointmaze-umaze"].limit):
            action = policy.act({key: value[None] for key, value in observation.items()})
            observation, *_, info = env.step(action[0])
            reached[-1] |= info["success"]
    return np.array(reached)


def test_the_waypoint_policy_succeeds_where_the_straight_line_meets_walls():
    pytest.importorskip("mujoco")
    waypoint, straight = (
        _success(WaypointPolicy("pointmaze-umaze"), range(10)),
        _success(StraightLinePolicy(), range(10)),
    )
    assert waypoint.all()
    assert 0 < straight.sum() < 10
