"""Diffusion of windows: the array that is denoised, its network, its training and its sampling.

A window is `horizon` rows of named blocks, actions and observations say, side by side. What is known of it, the current
observation or a goal, is in-painted, in training as in planning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import EMA, Adam, SampleOptions, Sampling
from reverie.data import Spec
from reverie.data.blocks import Blocks
from reverie.diffusion import Process, Solver, inpaint, sample, vp_cosine
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.networks import TemporalUNet
from reverie.networks.unet import check_horizon
from reverie.planning.receding import Plan, replan
from reverie.planning.retrieval import nearest
from reverie.protocols import Actor
from reverie.settings import Acting, Count, LearningRate, Natural, NonNegative


class DenoiserState(eqx.Module):
    """The denoiser in training, and its moving average, which plans."""

    denoiser: Optimised
    denoiser_ema: eqx.Module
    step: jax.Array


@dataclass(frozen=True)
class WindowDenoising(EMA, Sampling, Adam):
    """What those that denoise windows share, whatever for, and whatever their network; Diffuser's by default."""

    parts: ClassVar[tuple[str, ...]] = ("actions", "observations")
    """The blocks of a window, in order."""

    horizon: Count = 32
    """Rows of a window."""
    stride: Count = 1
    """Environment steps between two rows."""
    diffusion_steps: Count = 20
    """Noise levels."""
    action_weight: NonNegative = 10.0
    """Loss weight of the first row's action."""
    learning_rate: LearningRate = 2e-4
    """Adam's step size."""
    batch_size: Count = 64
    """Windows an update; the released code's 32 with two gradients accumulated."""

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps, prediction="x0")

    def blocks(self, spec: Spec) -> Blocks:
        """The window's columns."""
        sizes = {"actions": spec.action_dim, "observations": spec.observation_dim}
        return Blocks.of(**{name: sizes[name] for name in self.parts})

    def inpaint_mask(self, horizon: int, blocks: Blocks) -> jax.Array:
        """Which entries of a window are known, and held, in training: bool `[H, D]`; the first row's observation."""
        return (jnp.arange(horizon)[:, None] == 0) & blocks.mask("observations")

    def known_in_training(self, net, x, blocks: Blocks, key) -> jax.Array:
        """Which entries of the windows x `[B, H, D]` are known in training; bool, broadcasts to x."""
        return self.inpaint_mask(x.shape[-2], blocks)

    def network(self, key, spec: Spec) -> Any:
        """What is trained: `net(x_t, time feature, condition)`, `[..., H, D]` to the same."""
        raise NotImplementedError

    def denoising_loss(
        self, net, batch, key, condition=None, importance=1.0, regulariser: Callable | None = None
    ) -> jax.Array:
        """Of a batch of windows, a scalar. In-painted entries have no weight, which is what Diffuser's released code
        does by in-painting the network's output too. `importance` `[B]` weighs the windows; `regulariser` gives what is
        added, `[B]` of the predictions."""
        blocks = Blocks.like(batch, self.parts)
        x = blocks.join(batch)
        mask = self.known_in_training(net, x, blocks, key)
        weight = jnp.where(mask, 0.0, 1.0)
        if "actions" in self.parts:
            weight = weight.at[..., 0, blocks.slice("actions")].mul(self.action_weight)
        options: Any = {"weight": weight, "project": inpaint(mask, x), "regulariser": regulariser}
        return (importance * self.process.loss(net, x, key, condition, **options)).mean()

    def states_of(self, spec: Spec, rows) -> jax.Array:
        """Of plans `[..., D]` in network units, what is planned of the observations, in the environment's."""
        return spec.denormalise("observations", rows[..., self.blocks(spec).slice("observations")])

    def init(self, key, spec: Spec) -> Any:
        net = self.network(key, spec)
        return DenoiserState(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32))

    def update(self, state: Any, batch, key):
        denoiser, loss = state.denoiser.minimise(lambda net: self.denoising_loss(net, batch, key), self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return DenoiserState(denoiser, ema, state.step + 1), {"diffusion_loss": loss}

    def denoise(
        self,
        denoiser: Callable,
        key,
        values,
        inpaint_mask,
        *,
        last=None,
        levels: int = 0,
        solver: Solver | str | None = None,
        guide: Callable | None = None,
        shield: Callable | None = None,
        project: Callable | tuple[Callable, ...] = (),
        history: bool = False,
        **options: Unpack[SampleOptions],
    ):
        """Plans like `values` `[..., H, D]` (network units) whose `inpaint_mask` entries are held at theirs, by a
        denoiser (x_t, t) -> x0_hat: the network's own, or guided.

        last: a plan, such as the one before, from which the chain starts, noised by so many `levels`. solver: the
        settings' unless given. shield, project: of `diffusion.sample`, before the in-painting of each step, which has
        the last word.
        """
        hooks = project if isinstance(project, tuple) else (project,)
        warm = last is not None
        return sample(
            *(self.process, denoiser, key, values.shape),
            nfe=levels if warm else self.nfe or self.diffusion_steps,
            warm_start=last,
            start=levels / self.diffusion_steps if warm else None,
            solver=solver or self.solver,
            guide=guide,
            shield=shield,
            project=(*hooks, inpaint(inpaint_mask, values)),
            history=history,
            **options,
        )


@dataclass(frozen=True)
class WindowPlanner(WindowDenoising, Actor):
    """What planners that denoise windows share, whatever their network; Diffuser's by default (Janner et al. 2022)."""

    role: ClassVar[str] = "planner"
    shieldable: ClassVar[bool] = True
    """Whether a row of a plan is one state, for which barriers can be held."""

    warm_start_steps: Acting[Natural] = 0
    """When replanning, noise the last plan by this many levels and denoise it again (section 5.4); 0 plans anew."""
    retrieval_steps: Acting[Natural] = 0
    """When planning anew, noise the nearest stored plan by this many levels and denoise it; 0 begins at noise."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("warm_start_steps", "retrieval_steps"):
            if getattr(self, name) > self.diffusion_steps:
                raise ReverieError(f"{name} = {getattr(self, name)} exceeds diffusion_steps = {self.diffusion_steps}")

    def observed(self, spec: Spec, observation) -> jax.Array:
        """Windows `[n, H, D]`, in network units, whose first row has the observations `[n, observation]`, which are in
        the environment's; the rest is 0. With an `inpaint_mask`, what `denoise` is given."""
        blocks = self.blocks(spec)
        rows = jnp.zeros((len(observation), self.horizon, blocks.size))
        return rows.at[:, 0, blocks.slice("observations")].set(spec.normalise("observations", observation))

    def first_action(self, spec: Spec, rows) -> jax.Array:
        """Of plans `[n, H, D]` in network units: `[n, action]` in the environment's units."""
        return spec.denormalise("actions", rows[:, 0, self.blocks(spec).slice("actions")])

    def followed(self, spec: Spec, observation, carry: Any) -> tuple[jax.Array, jax.Array]:
        """The plans `[n, H, D]` of the carry after acting, the observations before them, and which rows were given and
        not planned: bool `[n, H]`."""
        rows = self.observed(spec, observation)[:, :1]
        if jax.tree.leaves(carry):
            plan = carry if isinstance(carry, Plan) else carry[0]
            rows = jnp.concatenate([rows, plan.rows], 1)
        return rows, jnp.broadcast_to(jnp.arange(rows.shape[1]) == 0, rows.shape[:2])

    def planned(self, spec: Spec, observation, carry: Any) -> jax.Array:
        """`protocols.Planning`: what the carry's plans have of observations."""
        return self.states_of(spec, self.followed(spec, observation, carry)[0])

    def joined(self, rows, inpaint_mask) -> jax.Array:
        """What is made of several denoised windows, `[..., H, D]`, as it is followed."""
        return rows

    def begun(self, spec: Spec, values, inpaint_mask) -> dict[str, Any]:
        """Where `denoise` begins when it plans anew: its arguments for the nearest stored plans, or none for noise."""
        if not self.retrieval_steps:
            return {}
        return {"last": nearest(spec, values, inpaint_mask), "levels": self.retrieval_steps}

    def replanned(
        self, spec: Spec, denoiser: Callable, key, values, inpaint_mask, last: Plan, **options: Unpack[SampleOptions]
    ) -> jax.Array:
        """As `denoise`, where `warm_start_steps` from the plans before, of the environments that have one."""

        def anew(rows):
            return self.denoise(
                denoiser, key, values, inpaint_mask, **self.begun(spec, values, inpaint_mask), **options
            )

        def warm(rows):
            return self.denoise(denoiser, key, values, inpaint_mask, last=rows, **options)

        if not self.warm_start_steps:
            return anew(last.rows)
        return replan(last.rows, (last.step == 0, anew), (last.step > 0, warm))

    def denoise(self, *given: Any, levels: int | None = None, **options: Any):
        """As of windows, and from a plan before by `warm_start_steps` unless so many `levels` are given."""
        return super().denoise(*given, levels=self.warm_start_steps if levels is None else levels, **options)


@dataclass(frozen=True)
class UNetWindows(WindowDenoising):
    """Windows that Diffuser's U-Net denoises."""

    horizon: Count = 32
    """Rows of a window; a multiple of 2^(levels - 1)."""
    width: Count = 32
    """Channels of the U-Net's first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    """Channels of the levels, in multiples of the width."""
    attention: bool = False
    """Linear attention in every level, as in the paper's HalfCheetah runs."""

    def __post_init__(self):
        super().__post_init__()
        if not self.multipliers:
            raise ReverieError("multipliers = () leaves the network without a level; give at least one")
        check_horizon(self.horizon, len(self.multipliers) - 1)

    def cond_dim(self, spec: Spec) -> int:
        """Numbers of the network's condition, which stands beside the time's embedding; 0 for none."""
        return 0

    def network(self, key, spec: Spec) -> Any:
        return TemporalUNet(
            *(key, self.blocks(spec).size),
            width=self.width,
            multipliers=self.multipliers,
            attention=self.attention,
            cond_dim=self.cond_dim(spec),
        )


@dataclass(frozen=True)
class WindowDiffusion(UNetWindows, WindowPlanner):
    """Planners whose network is Diffuser's U-Net."""
