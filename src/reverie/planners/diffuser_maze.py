"""Diffuser for goals (Janner et al. 2022, section 5.1): a plan from here to there, tracked by a position controller.

Start and goal are in-painted. As in the released code the planned actions are not executed: `control.track` follows
the planned states, and holds the goal after the last.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from reverie.control import KD, KP, densify, track
from reverie.data import Dataset, MinMax, Spec, windows
from reverie.data.blocks import Blocks
from reverie.errors import DataError
from reverie.networks.unet import check_horizon
from reverie.planning import DenoiserState, Plan, WindowDiffusion, replan
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Natural, NonNegative
from reverie.wishes import Wishes


@dataclass(frozen=True)
class DiffuserMaze(WindowDiffusion):
    """Diffuser for goals: windows from the current observation to the goal, tracked by a position controller.

    Observations are positions and velocities, and goals are positions.
    """

    name: ClassVar = "diffuser-maze"
    paper: ClassVar = "Janner et al. 2022"
    needs: ClassVar = ("observations of positions and velocities",)
    goals: ClassVar = True

    diffusion_steps: Count = 64
    """Noise levels."""
    horizon: Count = 128
    """Rows of a training window; a multiple of 2^(levels - 1)."""
    multipliers: tuple[int, ...] = (1, 4, 8)
    """Channels of the levels, in multiples of the width."""
    action_weight: NonNegative = 1.0
    """Loss weight of the first row's action."""
    goal_at_rest: bool = False
    """In-paint a zero velocity with the goal, as the released code does. The mazes' data has no window that ends so."""
    plan_horizon: Acting[Natural] = 0
    """Rows of a plan, where they are to be more or fewer than a training window's; 0 for as many."""
    replan_interval: Acting[Natural] = 0
    """Rows after which the rest of the window is planned again, from what was seen meanwhile; 0 for never."""
    kp: Acting[float] = KP
    """Action per unit of position error in tracking the plan."""
    kd: Acting[float] = KD
    """Action per unit of velocity error."""

    def __post_init__(self):
        super().__post_init__()
        check_horizon(self.plan_horizon or self.horizon, len(self.multipliers) - 1)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        if data.observation_dim != 2 * data.action_dim:
            raise DataError(
                "diffuser-maze tracks positions and velocities, so 'observations' need twice the columns of 'actions'; "
                f"they have {data.observation_dim} and {data.action_dim}. Use diffuser for other data."
            )
        spec = spec or Spec.fit(data, observations=MinMax, actions=MinMax)
        return windows(data, spec, self.horizon, self.stride), spec

    def goal_dim(self, spec: Spec) -> int:
        """Numbers of a goal: a position."""
        return spec.observation_dim // 2

    def inpaint_mask(self, horizon: int, blocks: Blocks):
        return self.held(jnp.arange(horizon) == 0, blocks)

    def held(self, seen, blocks: Blocks) -> jax.Array:
        """Entries `[..., H, D]` that are in-painted: the observations of rows `seen` `[..., H]`, and the goal in the
        last row."""
        observed = jnp.asarray(blocks.mask("observations"))
        first, size = blocks.slice("observations").start, blocks.slice("observations").stop
        goal_size = (size - first) // (1 if self.goal_at_rest else 2)
        goal = observed & (jnp.arange(size) - first < goal_size)
        last = jnp.arange(seen.shape[-1]) == seen.shape[-1] - 1
        return (seen[..., None] & observed) | (last[:, None] & goal)

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Plan:
        return Plan.none(n, self.plan_horizon or self.horizon, self.blocks(spec).size)

    def act(self, state: DenoiserState, spec: Spec, observation, carry: Plan, feedback: Feedback, key):
        """Track the plan, made at the first step from {"observation" `[n, 2 d]`, "desired_goal" `[n, d]`}."""
        plan = self.plan(state, spec, observation, carry, key)
        states = spec.denormalise("observations", plan[..., self.blocks(spec).slice("observations")])
        # Whatever velocity the plan ends in, the goal is held at rest.
        d = spec.observation_dim // 2
        path = densify(states, self.stride).at[:, -1, d:].set(0.0)
        ahead = jnp.minimum(carry.step + 1, path.shape[1] - 1)
        target = jnp.take_along_axis(path, ahead[:, None, None], 1)[:, 0]
        limits: Any = {"low": spec.action_low, "high": spec.action_high}
        action = track(target, observation["observation"], kp=self.kp, kd=self.kd, **limits)
        return action, Plan(plan, carry.step + 1)

    def plan(self, state: DenoiserState, spec: Spec, observation, carry: Plan, key) -> jax.Array:
        """Plans `[n, H, D]` in network units: the last ones, or new ones where it is time for them.

        A new plan keeps the window that was begun: its rows up to now are in-painted with what was seen, so that the
        goal comes nearer. (A whole new window to the goal at every step, as users of the released code tried, puts
        the arrival off forever.)
        """
        plan, step = carry
        rows, blocks = plan.shape[1], self.blocks(spec)
        states = blocks.slice("observations")
        row = jnp.minimum(step // self.stride, rows - 1)
        goal = observation["desired_goal"]
        goal = spec.normalise("observations", jnp.concatenate([goal, jnp.zeros_like(goal)], -1))
        seen = spec.normalise("observations", observation["observation"])
        marked = plan.at[jnp.arange(len(plan)), row, states].set(seen).at[:, -1, states].set(goal)
        mask = self.held(jnp.arange(rows) <= row[:, None], blocks)

        denoiser = self.process.denoiser(state.denoiser_ema)

        def anew(plan):
            return self.denoise(denoiser, key, plan, mask, clip_x0=(-1, 1), **self.begun(spec, plan, mask))

        def warm(plan):
            return self.denoise(denoiser, key, plan, mask, clip_x0=(-1, 1), last=plan)

        first = step == 0
        if not self.replan_interval:
            return replan(jnp.where(first[:, None, None], marked, plan), (first, anew))
        on_row = (step % self.stride == 0) & (step // self.stride < rows - 1)
        plan = jnp.where((first | on_row)[:, None, None], marked, plan)
        due = on_row & (row % self.replan_interval == 0)
        if not self.warm_start_steps:
            return replan(plan, (first | due, anew))
        return replan(plan, (first, anew), (due & ~first, warm))
