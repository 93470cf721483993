"""Executing a plan of positions and velocities with a proportional-derivative rule. Pure JAX, any batch shape."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

KP = 12.0
"""Action per m. With both gains 1, as in Diffuser's code, a position error dies away within a second only and a plan is
followed to 0.1 m on average; with these gains to 0.02 m (point mazes, plans cut from collected data)."""

KD = 4.0
"""Action per m/s. The point mazes' mass over force and time step is 4.19 kg / (100 N · 0.01 s), so that this gain
reaches the next row's velocity within about one step."""


def track(
    target: ArrayLike, observation: ArrayLike, *, kp: float = KP, kd: float = KD, low: float = -1.0, high: float = 1.0
) -> Array:
    """The action that leads from an observation to the plan's next row.

    `kp · (next position − position) + kd · (next velocity − velocity)`, clipped: the rule by which Diffuser executes
    its plans in mazes (Janner et al. 2022, released code), there with both gains 1.

    Args:
        target: [..., 2 d], the plan's row for the next step: d positions, then d velocities.
        observation: [..., 2 d], laid out alike.
        kp, kd: action per m and per m/s. The defaults suit the point mazes, see `KP`.
        low, high: bounds of an action.

    Returns:
        Actions [..., d].
    """
    error = jnp.asarray(target) - jnp.asarray(observation)
    d = error.shape[-1] // 2
    return jnp.clip(kp * error[..., :d] + kd * error[..., d:], low, high)


def densify(plan: Array, stride: int) -> Array:
    """One row per environment step from a plan with one row per `stride` steps, by linear interpolation.

    Row k of the plan becomes row k · stride of the result; both ends are kept.

    Args:
        plan: [..., H, d].
        stride: at least 1.

    Returns:
        [..., (H - 1) · stride + 1, d].
    """
    rows = plan.shape[-2]
    fine = jnp.arange((rows - 1) * stride + 1)
    left = fine // stride
    right = jnp.minimum(left + 1, rows - 1)
    weight = ((fine - left * stride) / stride)[:, None].astype(plan.dtype)
    return (1 - weight) * plan[..., left, :] + weight * plan[..., right, :]


def straight_line(start: ArrayLike, goal: ArrayLike, speed: float, dt: float, rows: int) -> Array:
    """A plan that ignores every wall: straight from start to goal at constant speed, then resting at the goal.

    Args:
        start, goal: positions [..., d] in m.
        speed: in m/s.
        dt: seconds per row.
        rows: length of the plan.

    Returns:
        [..., rows, 2 d]: positions, then velocities. Row 0 is the start.
    """
    start = jnp.asarray(start)
    way = jnp.asarray(goal) - start
    length = jnp.linalg.norm(way, axis=-1)[..., None, None]
    heading = way[..., None, :] / jnp.maximum(length, 1e-6)
    travelled = speed * dt * jnp.arange(rows)[:, None]
    moving = travelled < length
    position = start[..., None, :] + heading * jnp.minimum(travelled, length)
    return jnp.concatenate([position, jnp.where(moving, speed * heading, 0.0)], axis=-1)
