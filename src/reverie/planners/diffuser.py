"""Diffuser (Janner, Du, Tenenbaum & Levine 2022, "Planning with Diffusion for Flexible Behavior Synthesis").

One U-Net denoises whole windows of actions and observations. The current observation is in-painted; what is wanted of
the future, a high return, guides the denoising by the gradient of a value. Diffuser for goals is in diffuser_maze.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Gaussian, Spec, windows
from reverie.data.blocks import Blocks
from reverie.diffusion import SOLVERS, inpaint, value_gradient
from reverie.errors import ReverieError
from reverie.learning import Optimised, where_due
from reverie.networks import TemporalUNet, WindowValue
from reverie.planning import Plan, WindowDiffusion, best_plans, noisy_value_loss, replan, return_units
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Fraction, Natural, NonNegative
from reverie.wishes import Wishes


class State(eqx.Module):
    """The networks in training, and their averages, which act."""

    denoiser: Optimised
    denoiser_ema: TemporalUNet
    value: Optimised
    value_ema: WindowValue
    step: jax.Array


@dataclass(frozen=True)
class Diffuser(WindowDiffusion):
    """Diffuser for rewards: windows from the current observation, guided towards a high value."""

    name: ClassVar = "diffuser"
    paper: ClassVar = "Janner et al. 2022"
    needs: ClassVar[tuple[str, ...]] = ("rewards",)
    pad_timeouts: ClassVar[bool] = False
    """Whether windows reach beyond a timeout, and not a terminal alone: not so in the released code."""

    discount: Fraction = 0.997
    """Discount of the rewards to go that the value learns."""
    termination_penalty: float = -100.0
    """Added to the last reward of an episode that ends by a terminal."""
    value_updates: Natural = 200_000
    """Updates, from the first on, that also train the value."""
    guidance_scale: Acting[NonNegative] = 0.1
    """Step of the value's gradient, in units of the posterior variance; where `nfe` skips levels, of their sum."""
    guidance_steps: Acting[Natural] = 2
    """Gradient steps before each evaluation of the network."""
    guidance_stop: Acting[Natural] = 2
    """Noise levels at the end of the chain that are not guided."""
    candidates: Acting[Count] = 64
    """Plans an observation; the one of the highest value is begun."""

    def __post_init__(self):
        super().__post_init__()
        if SOLVERS[self.solver].stages > 1:
            raise ReverieError(
                f"solver {self.solver!r} makes two evaluations a step, which value gradients cannot follow"
            )
        if self.warm_start_steps and self.stride > 1:
            raise ReverieError(
                f"warm_start_steps shift the last plan by an environment step; stride = {self.stride} has none"
            )

    def prepare(self, data: Dataset, spec: Spec | None = None):
        # The value is learned in standard units, for speed, and guides in the data's: then the paper's scales hold.
        if spec is None:
            spec = Spec.fit(data, observations=Gaussian, actions=Gaussian)
            units = return_units(data, self.discount, self.termination_penalty)
            spec = replace(spec, normalisers=spec.normalisers | {"returns": units})
        view = windows(
            *(data, spec, self.horizon, self.stride),
            pad=True,
            pad_timeouts=self.pad_timeouts,
            discount=self.discount,
            termination_penalty=self.termination_penalty,
        )
        return view, spec

    def value_network(self, key, spec: Spec) -> WindowValue:
        size = self.blocks(spec).size
        return WindowValue(key, size, self.horizon, width=self.width, multipliers=self.multipliers)

    def init(self, key, spec: Spec) -> State:
        key, value_key = jax.random.split(key)
        nets = self.network(key, spec), self.value_network(value_key, spec)
        denoiser, value = (Optimised.create(net, self.optimiser) for net in nets)
        return State(denoiser, nets[0], value, nets[1], jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        key, value_key = jax.random.split(key)
        value, value_ema, value_loss = self.learn_value(state, batch, value_key)
        denoiser, loss = state.denoiser.minimise(lambda net: self.denoising_loss(net, batch, key), self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        learned = {"denoiser": denoiser, "denoiser_ema": ema, "value": value, "value_ema": value_ema}
        return replace(state, step=state.step + 1, **learned), {"diffusion_loss": loss, "value_loss": value_loss}

    def learn_value(self, state: State, batch, key):
        """The value learns the return."""
        return self.learn_to_go(state.value, state.value_ema, state.step, batch, "returns", key)

    def learn_to_go(self, net: Optimised, average: WindowValue, step, batch, column: str, key):
        """A value that learns the batch's column at every noise level, of windows noised as the denoiser's are: the
        network and its average after the update number `step`, and the loss."""
        blocks = Blocks.like(batch, self.parts)
        x = blocks.join(batch)
        hold = inpaint(self.inpaint_mask(x.shape[-2], blocks), x)

        def learn(kept):
            net, average, _ = kept
            net, error = net.minimise(
                lambda net: noisy_value_loss(self.process, net, x, batch[column], key, hold), self.optimiser
            )
            return net, self.averaged(average, net.params, step), error

        return where_due(step < self.value_updates, learn, (net, average, jnp.zeros(())))

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Plan:
        return Plan.none(n, self.horizon, self.blocks(spec).size)

    def act(self, state: State, spec: Spec, observation, carry: Plan, feedback: Feedback, key):
        """The first action of the best of several plans."""
        rows = self.plan(state, spec, observation, carry, key)
        return self.first_action(spec, rows), Plan(rows, carry.step).shifted()

    def plan(self, state: State, spec: Spec, observation, last: Plan, key) -> jax.Array:
        """The best plans `[n, H, D]`, in network units, for observations `[n, observation]`."""
        value = self.to_go(state.value_ema, spec, "returns")
        return self.guided(state, spec, observation, last, key, value, value)

    def to_go(self, net: WindowValue, spec: Spec, column: str) -> Callable:
        """The value (x_t `[..., H, D]`, t) -> `[...]`, in the data's units, of a network that learned this column."""

        def value(x, t):
            return spec.denormalise(column, net(x, self.process.time_feature(t))[..., None])[..., 0]

        return value

    def guide(self, climbed: Callable, hold: Callable) -> Callable | None:
        """What moves a plan up the gradient of `climbed(x_t, t)` before each evaluation; None where that is nothing."""
        if not self.guidance_scale or not self.guidance_steps:
            return None
        stop = (self.guidance_stop + 0.5) / self.diffusion_steps
        how: Any = {"steps": self.guidance_steps, "stop": stop, "project": hold, "process": self.process}
        return value_gradient(climbed, self.guidance_scale, **how)

    def guided(
        self, state: State, spec: Spec, observation, last: Plan, key, climbed: Callable, ranked: Callable
    ) -> jax.Array:
        """Of plans that the gradient of `climbed(x_t, t)` has led, for each environment the one that `ranked(plans, t)`
        `[n, N]` puts first: `[n, H, D]`."""
        values = jnp.repeat(self.observed(spec, observation)[:, None], self.candidates, 1)
        mask = self.inpaint_mask(self.horizon, self.blocks(spec))
        guide = self.guide(climbed, inpaint(mask, values))

        def best(plans):
            # The released code ranks by the value before the last step; this ranks what is returned, at the last level.
            return best_plans(plans, ranked(plans, jnp.float32(1 / self.diffusion_steps)))

        denoiser = self.process.denoiser(state.denoiser_ema)

        def anew(rows):
            return best(self.denoise(denoiser, key, values, mask, guide=guide, **self.begun(spec, values, mask)))

        def warm(rows):
            start = jnp.broadcast_to(rows[:, None], values.shape)
            return best(self.denoise(denoiser, key, values, mask, guide=guide, last=start))

        if not self.warm_start_steps:
            return anew(last.rows)
        return replan(last.rows, (last.step == 0, anew), (last.step > 0, warm))
