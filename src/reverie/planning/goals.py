"""Planning to goals: which columns are the goal, what is in-painted, how a plan is followed, when another is made.

A goal is a position, the first columns of an observation. Plans are of whole observations, or of positions alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from reverie.control import KD, KP, densify, track
from reverie.data import Dataset, MinMax, Spec, windows
from reverie.data.blocks import Blocks
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised
from reverie.planning.inverse_dynamics import InverseDynamics
from reverie.planning.receding import Plan, replan
from reverie.planning.windows import DenoiserState, WindowDiffusion
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, NonNegative
from reverie.wishes import Wishes


class GoalState(DenoiserState):
    """The denoiser, and what follows its plans."""

    inverse: Optimised | None = None
    """Inverse dynamics; None where plans are tracked."""


@dataclass(frozen=True)
class GoalPlanner(WindowDiffusion):
    """What planners to goals share."""

    name: ClassVar[str]
    goals: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("observations that begin with a position",)

    goal_size: Count = 2
    """Numbers of a goal: a position, the first columns of an observation."""
    positions_alone: bool = False
    """Plan positions and not whole observations; for bodies, such as the ant's, that inverse dynamics moves."""
    following: Literal["auto", "track", "inverse-dynamics"] = "auto"
    """What follows a plan: the position controller, which needs velocities behind the positions, or learned inverse
    dynamics, towards the plan's row a stride ahead; auto: the first where observations are positions and velocities."""
    inverse_hidden: tuple[int, ...] = (256, 256)
    """Widths of the inverse dynamics' hidden layers."""
    kp: Acting[float] = KP
    """Action per unit of position error in tracking the plan."""
    kd: Acting[float] = KD
    """Action per unit of velocity error."""

    @property
    def plan_rows(self) -> int:
        """Rows of a plan."""
        return self.horizon

    @property
    def window_rows(self) -> int:
        """Rows of a training window."""
        return self.horizon

    def tracks(self, spec: Spec) -> bool:
        """Whether plans are tracked, rather than followed by inverse dynamics."""
        if self.following == "auto":
            return not self.positions_alone and self._has_velocities(spec.observation_dim, spec.action_dim)
        return self.following == "track"

    def _has_velocities(self, observation_dim: int, action_dim: int) -> bool:
        return observation_dim == 2 * self.goal_size == 2 * action_dim

    def prepare(self, data: Dataset, spec: Spec | None = None):
        sizes = data.observation_dim, data.action_dim
        if self.goal_size > sizes[0]:
            raise DataError(
                f"goal_size = {self.goal_size}, but 'observations' have {sizes[0]} columns, whose first are a goal."
            )
        if self.following == "track" and (self.positions_alone or not self._has_velocities(*sizes)):
            raise DataError(
                f"{self.name} tracks positions and velocities, so 'observations' need {2 * self.goal_size} columns, "
                f"all planned, and 'actions' {self.goal_size}; they have {sizes[0]} and {sizes[1]}. Let plans be "
                "followed by inverse-dynamics."
            )
        spec = spec or Spec.fit(data, observations=MinMax, actions=MinMax)
        view = windows(data, spec, self.window_rows, self.stride, columns=("observations", "actions"))
        return view, spec

    def goal_dim(self, spec: Spec) -> int:
        """Numbers of a goal."""
        return self.goal_size

    def goal_of(self, observation) -> jax.Array:
        """`[n, goal]` of {"observation", "desired_goal"}, where the goal may be a whole observation."""
        return observation["desired_goal"][..., : self.goal_size]

    # The planned part of an observation: its first columns.

    def states(self, x) -> jax.Array:
        """What is planned of observations `[..., observation]`."""
        return x[..., : self.goal_size] if self.positions_alone else x

    def blocks(self, spec: Spec) -> Blocks:
        sizes = {"actions": spec.action_dim, "observations": spec.observation_dim}
        sizes |= {"observations": self.goal_size} if self.positions_alone else {}
        return Blocks.of(**{name: sizes[name] for name in self.parts})

    def normalised(self, spec: Spec, x) -> jax.Array:
        """The first columns of observations, however many, in network units."""
        return _columns(spec.normalise, spec.observation_dim, x)

    def states_of(self, spec: Spec, rows) -> jax.Array:
        """Of plans `[..., H, D]` in network units, what is planned of the observations, in the environment's."""
        planned = rows[..., self.blocks(spec).slice("observations")]
        return _columns(spec.denormalise, spec.observation_dim, planned)

    def followed(self, spec: Spec, observation, carry: Any) -> tuple[jax.Array, jax.Array]:
        """The plans and, of their rows, the first and the last, the start and the goal."""
        rows = jnp.arange(carry.rows.shape[1])
        return carry.rows, jnp.broadcast_to((rows == 0) | (rows == len(rows) - 1), carry.rows.shape[:2])

    # What is known of a window.

    def goal_columns(self, blocks: Blocks) -> jax.Array:
        """Bool `[D]`."""
        first = blocks.slice("observations").start
        return (jnp.arange(blocks.size) >= first) & (jnp.arange(blocks.size) < first + self.goal_size)

    def held(self, seen, blocks: Blocks) -> jax.Array:
        """Entries `[..., H, D]` that are in-painted: the observations of rows `seen` `[..., H]`, and the goal in the
        last row."""
        last = jnp.arange(seen.shape[-1]) == seen.shape[-1] - 1
        return (seen[..., None] & blocks.mask("observations")) | (last[:, None] & self.goal_columns(blocks))

    def inpaint_mask(self, horizon: int, blocks: Blocks):
        return self.held(jnp.arange(horizon) == 0, blocks)

    def ends(self, spec: Spec, observation) -> tuple[jax.Array, jax.Array]:
        """The states `[n, planned]` in network units at which plans start, and those where they end: the goal, and 0
        (in the environment's units) in the columns that are none of it."""
        goal = self.goal_of(observation)
        rest = jnp.zeros((len(goal), self.states(observation["observation"]).shape[-1] - self.goal_size))
        start = self.states(observation["observation"])
        return self.normalised(spec, start), self.normalised(spec, jnp.concatenate([goal, rest], -1))

    # Learning.

    def init_inverse(self, key, spec: Spec) -> Optimised | None:
        if self.tracks(spec):
            return None
        sizes = spec.observation_dim, spec.action_dim
        target = self.goal_size if self.positions_alone else spec.observation_dim
        net = InverseDynamics(key, *sizes, hidden=self.inverse_hidden, target_dim=target)
        return Optimised.create(net, self.optimiser)

    def init(self, key, spec: Spec) -> Any:
        net, inverse = self.network(key, spec), self.init_inverse(jax.random.fold_in(key, 1), spec)
        return GoalState(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32), inverse)

    def learn_inverse(self, inverse: Optimised | None, batch) -> tuple[Optimised | None, dict[str, jax.Array]]:
        """One update of the inverse dynamics on all rows of the batch's windows, where there are any."""
        if inverse is None:
            return None, {}
        inverse, loss = inverse.minimise(lambda net: net.loss(batch["observations"], batch["actions"]), self.optimiser)
        return inverse, {"inverse_loss": loss}

    def update(self, state: Any, batch, key):
        inverse, metrics = self.learn_inverse(state.inverse, batch)
        planned = {**batch, "observations": self.states(batch["observations"])}
        denoiser, loss = state.denoiser.minimise(lambda net: self.denoising_loss(net, planned, key), self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return GoalState(denoiser, ema, state.step + 1, inverse), {"diffusion_loss": loss, **metrics}

    # Acting.

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Plan:
        return Plan.none(n, self.plan_rows, self.blocks(spec).size)

    def current(self, state: Any, spec: Spec, observation, carry: Plan, key) -> Plan:
        """The plans that hold now: the last ones, or new ones where it is time for them."""
        raise NotImplementedError

    def act(self, state: Any, spec: Spec, observation, carry: Plan, feedback: Feedback, key):
        """Follow the plan, made at the first step from {"observation" `[n, ...]`, "desired_goal" `[n, goal]`}."""
        plan = self.current(state, spec, observation, carry, key)
        action = self.follow(state, spec, observation["observation"], plan)
        return action, Plan(plan.rows, plan.step + 1)

    def path(self, spec: Spec, plan: Plan) -> jax.Array:
        """The plans' states at every environment step, in the environment's units: `[n, T, planned]`."""
        return densify(self.states_of(spec, plan.rows), self.stride)

    def follow(self, state: Any, spec: Spec, seen, plan: Plan) -> jax.Array:
        """Actions `[n, action]` that lead from the observations `[n, observation]` along the plans."""
        path = self.path(spec, plan)
        if self.tracks(spec):
            # Whatever velocity the plan ends in, the goal is held at rest.
            path = path.at[:, -1, self.goal_size :].set(0.0)
            limits: Any = {"low": spec.action_low, "high": spec.action_high}
            return track(_at(path, plan.step + 1), seen, kp=self.kp, kd=self.kd, **limits)
        target = self.normalised(spec, _at(path, plan.step + self.stride))
        action = state.inverse.params(spec.normalise("observations", seen), target)
        return jnp.clip(spec.denormalise("actions", action), spec.action_low, spec.action_high)


@dataclass(frozen=True)
class AnewPlanner(GoalPlanner):
    """Planners to goals that follow a plan to its end, and make a whole new one where they have come off it."""

    replan_distance: Acting[NonNegative] = 0.0
    """Distance from the plan's position, in the environment's units, from which on another is made; 0 for never."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("warm_start_steps", "retrieval_steps"):
            if getattr(self, name):
                raise ReverieError(
                    f"{name} = {getattr(self, name)} begins a plan at another, and the plans of {self.name} begin at "
                    "noise; leave it at 0"
                )

    def plan(self, state: Any, spec: Spec, observation, key) -> jax.Array:
        """New plans `[n, H, D]`, in network units, from {"observation", "desired_goal"}."""
        raise NotImplementedError

    def current(self, state: Any, spec: Spec, observation, carry: Plan, key) -> Plan:
        due = carry.step == 0
        if self.replan_distance:
            off = _at(self.path(spec, carry), carry.step) - self.states(observation["observation"])
            due |= jnp.linalg.norm(off[..., : self.goal_size], axis=-1) > self.replan_distance
        rows = replan(carry.rows, (due, lambda _: self.plan(state, spec, observation, key)))
        return Plan(rows, jnp.where(due, 0, carry.step))


def _at(path, step) -> jax.Array:
    """Of `[n, T, d]` the rows `[n, d]` at steps `[n]`, the last beyond the end."""
    return jnp.take_along_axis(path, jnp.minimum(step, path.shape[1] - 1)[:, None, None], 1)[:, 0]


def _columns(convert, size: int, x) -> jax.Array:
    """Observations' units of the first columns alone, for units that treat each column by itself."""
    missing = size - x.shape[-1]
    whole = jnp.concatenate([x, jnp.zeros((*x.shape[:-1], missing), x.dtype)], -1) if missing else x
    return convert("observations", whole)[..., : x.shape[-1]]
