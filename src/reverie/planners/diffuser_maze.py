"""Diffuser for goals (Janner et al. 2022, section 5.1): a plan from here to there, tracked by a position controller.

Start and goal are in-painted. As in the released code the planned actions are not executed: `control.track` follows
the planned states, and holds the goal after the last; where observations have no velocities, inverse dynamics do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.data.blocks import Blocks
from reverie.networks.unet import check_horizon
from reverie.planning import DenoiserState, GoalPlanner, Plan, replan
from reverie.settings import Acting, Count, Natural, NonNegative


@dataclass(frozen=True)
class DiffuserMaze(GoalPlanner):
    """Diffuser for goals: windows from the current observation to the goal, tracked by a position controller.

    Where observations are no positions and velocities, learned inverse dynamics follow the plan.
    """

    name: ClassVar = "diffuser-maze"
    paper: ClassVar = "Janner et al. 2022"

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

    def __post_init__(self):
        super().__post_init__()
        check_horizon(self.plan_rows, len(self.multipliers) - 1)

    @property
    def plan_rows(self) -> int:
        return self.plan_horizon or self.horizon

    def goal_columns(self, blocks: Blocks):
        return jnp.asarray(blocks.mask("observations")) if self.goal_at_rest else super().goal_columns(blocks)

    def followed(self, spec: Spec, observation, carry: Plan) -> tuple[jax.Array, jax.Array]:
        """The plans, and which of their rows are no plan: start and goal, and those that were driven already."""
        rows, given = super().followed(spec, observation, carry)
        if not self.replan_interval:
            return rows, given
        driven = (carry.step - 1) // self.stride
        return rows, given | (jnp.arange(rows.shape[1]) <= driven[:, None])

    def current(self, state: DenoiserState, spec: Spec, observation, carry: Plan, key) -> Plan:
        return Plan(self.plan(state, spec, observation, carry, key), carry.step)

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
        seen, goal = self.ends(spec, observation)
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
