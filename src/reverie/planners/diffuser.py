"""Diffuser (Janner, Du, Tenenbaum & Levine 2022, "Planning with Diffusion for Flexible Behavior Synthesis").

One U-Net denoises whole windows of actions and observations. What is known of the future, the current observation or
a goal, is in-painted; what is wanted of it, a high return, guides the denoising by the gradient of a value.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.checks import Limit, check_fields
from reverie.data import Dataset, Gaussian, MinMax, Spec, windows
from reverie.data.views import rewards_to_go
from reverie.diffusion import SOLVERS, Process, in_paint, sample, value_gradient, vp_cosine
from reverie.environments.controllers import KD, KP, densify, track
from reverie.errors import DataError, ReverieError
from reverie.networks import TemporalUNet, WindowValue
from reverie.networks.unet import check_horizon
from reverie.training.state import Optimised, delayed_ema, optimiser


class State(eqx.Module):
    """The networks in training, and their running averages, which are what acts. The value is None in the mazes."""

    denoiser: Optimised
    denoiser_average: TemporalUNet
    value: Optimised | None
    value_average: WindowValue | None
    step: jax.Array


@dataclass(frozen=True)
class WindowDiffusion:
    """What Diffuser's two tasks share: the window (a, s) as one array, its network, its training, its sampling."""

    limits: ClassVar[dict[str, Limit]] = {
        "learning_rate": (1e-12, 1.0),
        **dict.fromkeys(("horizon", "stride", "diffusion_steps", "batch_size", "width", "average_every"), 1),
        **dict.fromkeys(("calls", "warm_calls", "average_start"), 0),
    }
    """The smallest value, or the smallest and the largest, of the fields that have them."""

    horizon: int = 32
    """Rows of a window; a multiple of 2^(levels - 1)."""
    stride: int = 1
    """Environment steps between two rows."""
    diffusion_steps: int = 20
    """Noise levels."""
    width: int = 32
    """Channels of the U-Net's first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    """Channels of the levels, in multiples of the width."""
    attention: bool = False
    """Linear attention in every level, as in the paper's HalfCheetah runs."""
    action_weight: float = 10.0
    """Loss weight of the first row's action."""
    learning_rate: float = 2e-4
    """Adam's step size."""
    batch_size: int = 64
    """Windows an update; the released code's 32 with two gradients accumulated."""
    average_decay: float = 0.995
    """Decay of the parameters' running average."""
    average_every: int = 10
    """Updates between two steps of the average."""
    average_start: int = 2000
    """Updates during which the average is a copy."""
    calls: int = 0
    """Network calls for one plan; 0 for one a noise level."""
    solver: str = "ddpm"
    """How plans are denoised: a name from reverie.diffusion.SOLVERS."""
    warm_calls: int = 0
    """When replanning, noise the last plan by this many levels and denoise it again (section 5.4); 0 plans anew."""

    def __post_init__(self):
        check_fields(self, self.limits)
        if not self.multipliers:
            raise ReverieError("multipliers = () leaves the network without a level; give at least one")
        if self.solver not in SOLVERS:
            raise ReverieError(f"solver {self.solver!r} is unknown; choose one of {', '.join(SOLVERS)}")
        check_horizon(self.horizon, len(self.multipliers) - 1)
        for name in ("calls", "warm_calls"):
            if getattr(self, name) > self.diffusion_steps:
                raise ReverieError(f"{name} = {getattr(self, name)} exceeds diffusion_steps = {self.diffusion_steps}")

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps, prediction="x0")

    @property
    def optimiser(self):
        return optimiser(self.learning_rate)

    def known(self, x, action_dim: int) -> jax.Array:
        """Which entries of windows x [..., H, D] are in-painted in training, [H, D]."""
        raise NotImplementedError

    def network(self, key, spec: Spec) -> TemporalUNet:
        size = spec.action_dim + spec.observation_dim
        return TemporalUNet(key, size, width=self.width, multipliers=self.multipliers, attention=self.attention)

    def init(self, key, spec: Spec) -> State:
        net = self.network(key, spec)
        return State(Optimised.create(net, self.optimiser), net, None, None, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, Any]]:
        """One step on the denoiser. In-painted entries have no weight, which is what the released code does by
        in-painting the network's output too."""
        x = jnp.concatenate([batch["actions"], batch["observations"]], -1)
        action_dim = batch["actions"].shape[-1]
        known = self.known(x, action_dim)
        weight = jnp.where(known, 0.0, 1.0).at[0, :action_dim].mul(self.action_weight)

        def loss(net):
            return self.process.loss(net, x, key, weight=weight, project=in_paint(known, x)).mean()

        value, gradient = jax.value_and_grad(loss)(state.denoiser.params)
        denoiser = state.denoiser.apply(gradient, self.optimiser)
        average = self.averaged(state.denoiser_average, denoiser.params, state.step)
        state = replace(state, denoiser=denoiser, denoiser_average=average, step=state.step + 1)
        return state, {"diffusion_loss": value}

    def averaged(self, average, params, step):
        every, start = self.average_every, self.average_start
        return delayed_ema(average, params, step, decay=self.average_decay, every=every, start=start)

    def denoise(self, state: State, key, values, known, *, last=None, **options: Any):
        """Plans like `values` [..., H, D] (network units) whose `known` entries are held at theirs. With `last`, the
        plan before, the chain starts from it, noised by `warm_calls` levels."""
        warm: dict[str, Any] = {"calls": self.calls or self.diffusion_steps}
        if last is not None:
            start = self.warm_calls / self.diffusion_steps
            warm = {"calls": self.warm_calls, "warm_start": last, "start": start}
        denoiser = self.process.denoiser(state.denoiser_average)
        options |= warm | {"solver": self.solver, "project": in_paint(known, values)}
        return sample(self.process, denoiser, key, values.shape, **options)


@dataclass(frozen=True)
class Diffuser(WindowDiffusion):
    """Diffuser for rewards: windows from the current observation, guided towards a high value."""

    name: ClassVar = "diffuser"
    role: ClassVar = "planner"
    paper: ClassVar = "Janner et al. 2022"
    needs: ClassVar = ("rewards",)
    limits: ClassVar = WindowDiffusion.limits | {
        "candidates": 1,
        "guidance_steps": 0,
        "guidance_stop": 0,
        "value_updates": 0,
    }
    acting_fields: ClassVar = (
        *("calls", "solver", "warm_calls", "candidates"),
        *("guidance_scale", "guidance_steps", "guidance_stop"),
    )

    discount: float = 0.997
    """Discount of the rewards to go that the value learns."""
    termination_penalty: float = -100.0
    """Added to the last reward of an episode that ends by a terminal."""
    value_updates: int = 200_000
    """Updates, from the first on, that also train the value."""
    guidance_scale: float = 0.1
    """Step of the value's gradient, in units of the posterior variance."""
    guidance_steps: int = 2
    """Gradient steps before each network call."""
    guidance_stop: int = 2
    """Noise levels at the end of the chain that are not guided."""
    candidates: int = 64
    """Plans an observation; the one of the highest value is begun."""

    def __post_init__(self):
        super().__post_init__()
        if SOLVERS[self.solver].stages > 1:
            raise ReverieError(f"solver {self.solver!r} makes two calls a step, which value gradients cannot follow")
        if self.warm_calls and self.stride > 1:
            raise ReverieError(
                f"warm_calls shift the last plan by an environment step; stride = {self.stride} has none"
            )

    def prepare(self, data: Dataset):
        # The value is learned in standard units, for speed, and guides in the data's: then the paper's scales hold.
        returns = Gaussian.fit(rewards_to_go(data, self.discount, self.termination_penalty)[:, None])
        spec = Spec.fit(data, observations=Gaussian, actions=Gaussian)
        spec = replace(spec, normalisers=spec.normalisers | {"returns": returns})
        view = windows(data, spec, self.horizon, self.stride, True, self.discount, self.termination_penalty)
        return replace(view, returns=returns(jnp.asarray(view.returns)[:, None])[:, 0]), spec

    def known(self, x, action_dim):
        return (jnp.arange(x.shape[-2])[:, None] == 0) & (jnp.arange(x.shape[-1]) >= action_dim)

    def value_network(self, key, spec: Spec) -> WindowValue:
        size = spec.action_dim + spec.observation_dim
        return WindowValue(key, size, self.horizon, width=self.width, multipliers=self.multipliers)

    def init(self, key, spec):
        key, value_key = jax.random.split(key)
        net = self.value_network(value_key, spec)
        return replace(super().init(key, spec), value=Optimised.create(net, self.optimiser), value_average=net)

    def update(self, state, batch, key):
        key, value_key = jax.random.split(key)
        state, value_metrics = self.learn_value(state, batch, value_key)
        state, metrics = super().update(state, batch, key)
        return state, metrics | value_metrics

    def learn_value(self, state, batch, key):
        """The value learns the return at every noise level, of windows noised as the denoiser's are."""
        x = jnp.concatenate([batch["actions"], batch["observations"]], -1)
        hold = in_paint(self.known(x, batch["actions"].shape[-1]), x)

        def loss(net):
            key_t, key_eps = jax.random.split(key)
            t = self.process.draw_times(key_t, x.shape[:1])
            noisy = hold(self.process.perturb(x, t, jax.random.normal(key_eps, x.shape)), t)
            return jnp.square(net(noisy, self.process.time_feature(t)) - batch["returns"]).mean()

        def learn(value, average):
            error, gradient = jax.value_and_grad(loss)(value.params)
            value = value.apply(gradient, self.optimiser)
            return value, self.averaged(average, value.params, state.step), error

        def keep(value, average):
            return value, average, jnp.zeros(())

        training = state.step < self.value_updates
        value, average, error = jax.lax.cond(training, learn, keep, state.value, state.value_average)
        return replace(state, value=value, value_average=average), {"value_loss": error}

    def reset(self, spec, n: int):
        """The last plans [n, H, D], and whether there are any yet."""
        return jnp.zeros((n, self.horizon, spec.action_dim + spec.observation_dim)), jnp.bool_(False)

    def act(self, state, spec, carry, observation, key):
        """The first action of the best of several plans."""
        plan = self.plan(state, spec, carry, observation, key)
        shifted = jnp.concatenate([plan[:, 1:], plan[:, -1:]], 1)
        return spec.denormalise("actions", plan[:, 0, : spec.action_dim]), (shifted, jnp.bool_(True))

    def plan(self, state, spec, carry, observation, key):
        """The best plans [n, H, D], in network units, for observations [n, observation]."""
        last, planned = carry
        n, horizon, size = last.shape
        observed = spec.normalise("observations", observation)[:, None, None]
        values = jnp.zeros((n, self.candidates, horizon, size)).at[..., spec.action_dim :].set(observed)
        known = self.known(last, spec.action_dim)
        scale = self.guidance_scale * spec.normalisers["returns"].std[0]
        stop = (self.guidance_stop + 0.5) / self.diffusion_steps
        hold = in_paint(known, values)

        def value(x, t):
            return state.value_average(x, self.process.time_feature(t))

        guide = value_gradient(value, scale, steps=self.guidance_steps, stop=stop, project=hold)

        def anew(last):
            return self.denoise(state, key, values, known, guide=guide)

        def warm(last):
            return self.denoise(
                state, key, values, known, guide=guide, last=jnp.broadcast_to(last[:, None], values.shape)
            )

        plans = jax.lax.cond(planned, warm, anew, last) if self.warm_calls else anew(last)
        # The released code ranks by the value before the last step; this ranks what is returned, at the last level.
        best = value(plans, jnp.float32(1 / self.diffusion_steps)).argmax(1)
        return jnp.take_along_axis(plans, best[:, None, None, None], 1)[:, 0]


@dataclass(frozen=True)
class DiffuserMaze(WindowDiffusion):
    """Diffuser for goals: windows from the current observation to the goal, tracked by a position controller.

    Observations are positions and velocities, and goals are positions. As in the released code the planned actions
    are not executed: `controllers.track` follows the planned states, and holds the goal after the last.
    """

    name: ClassVar = "diffuser-maze"
    role: ClassVar = "planner"
    paper: ClassVar = "Janner et al. 2022"
    needs: ClassVar = ("observations of positions and velocities",)
    goals: ClassVar = True
    limits: ClassVar = WindowDiffusion.limits | {"plan_horizon": 0, "replan_every": 0}
    acting_fields: ClassVar = ("calls", "solver", "warm_calls", "plan_horizon", "replan_every", "kp", "kd")

    diffusion_steps: int = 64
    """Noise levels."""
    horizon: int = 128
    """Rows of a training window; a multiple of 2^(levels - 1)."""
    multipliers: tuple[int, ...] = (1, 4, 8)
    """Channels of the levels, in multiples of the width."""
    action_weight: float = 1.0
    """Loss weight of the first row's action."""
    goal_at_rest: bool = False
    """In-paint a zero velocity with the goal, as the released code does. The mazes' data has no window that ends so."""
    plan_horizon: int = 0
    """Rows of a plan, where they are to be more or fewer than a training window's; 0 for as many."""
    replan_every: int = 0
    """Rows after which the rest of the window is planned again, from what was seen meanwhile; 0 for never."""
    kp: float = KP
    """Action per unit of position error in tracking the plan."""
    kd: float = KD
    """Action per unit of velocity error."""

    def __post_init__(self):
        super().__post_init__()
        check_horizon(self.plan_horizon or self.horizon, len(self.multipliers) - 1)

    def prepare(self, data: Dataset):
        if data.observation_dim != 2 * data.action_dim:
            raise DataError(
                "diffuser-maze tracks positions and velocities, so 'observations' need twice the columns of 'actions'; "
                f"they have {data.observation_dim} and {data.action_dim}. Use diffuser for other data."
            )
        spec = Spec.fit(data, observations=MinMax, actions=MinMax)
        return windows(data, spec, self.horizon, self.stride), spec

    def known(self, x, action_dim):
        return self.held(jnp.arange(x.shape[-2]) == 0, action_dim, x.shape[-1] - action_dim)

    def held(self, seen, action_dim: int, observation_dim: int):
        """Entries [H, D] that are in-painted: the observations of rows `seen` [H], and the goal in the last row."""
        column = jnp.arange(action_dim + observation_dim) - action_dim
        goal = (column >= 0) & (column < observation_dim // (1 if self.goal_at_rest else 2))
        last = jnp.arange(len(seen)) == len(seen) - 1
        return (seen[:, None] & (column >= 0)) | (last[:, None] & goal)

    def reset(self, spec, n: int):
        """The plans' rows [n, H, D], and the environment step within them."""
        rows = self.plan_horizon or self.horizon
        return jnp.zeros((n, rows, spec.action_dim + spec.observation_dim)), jnp.zeros((), jnp.int32)

    def act(self, state, spec, carry, observation, key):
        """Track the plan, made at the first step from {"observation" [n, 2 d], "desired_goal" [n, d]}."""
        plan, step = carry
        plan = self.plan(state, spec, plan, step, observation, key)
        states = spec.denormalise("observations", plan[..., spec.action_dim :])
        # Whatever velocity the plan ends in, the goal is held at rest.
        d = spec.observation_dim // 2
        path = densify(states, self.stride).at[:, -1, d:].set(0.0)
        target = jax.lax.dynamic_index_in_dim(path, jnp.minimum(step + 1, path.shape[1] - 1), 1, False)
        limits = {"low": spec.action_low, "high": spec.action_high}
        action = track(target, observation["observation"], kp=self.kp, kd=self.kd, **limits)
        return action, (plan, step + 1)

    def plan(self, state, spec, plan, step, observation, key):
        """Plans [n, H, D] in network units: the last ones, or new ones where it is time for them.

        A new plan keeps the window that was begun: its rows up to now are in-painted with what was seen, so that the
        goal comes nearer. (A whole new window to the goal at every step, as users of the released code tried, puts
        the arrival off forever.)
        """
        rows = plan.shape[1]
        row = jnp.minimum(step // self.stride, rows - 1)
        goal = observation["desired_goal"]
        goal = spec.normalise("observations", jnp.concatenate([goal, jnp.zeros_like(goal)], -1))
        seen = spec.normalise("observations", observation["observation"])
        on_row = (step % self.stride == 0) & (step // self.stride < rows - 1)
        marked = plan.at[:, row, spec.action_dim :].set(seen).at[:, -1, spec.action_dim :].set(goal)
        known = self.held(jnp.arange(rows) <= row, spec.action_dim, spec.observation_dim)

        def anew(plan):
            return self.denoise(state, key, plan, known, clip_x0=(-1, 1))

        def warm(plan):
            return self.denoise(state, key, plan, known, clip_x0=(-1, 1), last=plan)

        plan = jnp.where((step == 0) | (on_row & (self.replan_every > 0)), marked, plan)
        due = on_row & (row % self.replan_every == 0) if self.replan_every else jnp.bool_(False)
        if not (self.replan_every and self.warm_calls):
            return jax.lax.cond((step == 0) | due, anew, lambda plan: plan, plan)
        choice = jnp.where(step == 0, 0, jnp.where(due, 1, 2))
        return jax.lax.switch(choice, [anew, warm, lambda plan: plan], plan)
