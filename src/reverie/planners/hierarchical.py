"""Hierarchical Diffuser (Chen, Deng, Kawaguchi, Gulcehre & Ahn 2024, "Simple Hierarchical Planning with Diffusion").

A high level denoises every K-th state of a way to the goal; a low level fills in what lies between two of them, all
pieces at once, with both ends in-painted.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import inpaint
from reverie.learning import Optimised
from reverie.networks import TemporalUNet
from reverie.networks.unet import check_horizon
from reverie.planning import AnewPlanner, GoalState
from reverie.settings import Acting, Count, Natural


class State(GoalState):
    """The high level's denoiser, and the low level's beside it."""

    low: Optimised = None  # type: ignore[assignment]  # behind a field with a default
    low_ema: TemporalUNet = None  # type: ignore[assignment]


@dataclass(frozen=True)
class HierarchicalDiffuser(AnewPlanner):
    """Hierarchical Diffuser for goals: waypoints first, then the ways between them."""

    name: ClassVar = "hierarchical-diffuser"
    paper: ClassVar = "Chen et al. 2024"
    parts: ClassVar = ("observations",)

    horizon: Count = 16
    """Rows of the high level: states that lie `jump` rows apart; a multiple of 2^(levels - 1)."""
    jump: Count = 15
    """Rows from one state of the high level to the next, the paper's K; K + 1 is a multiple of 2^(low levels - 1)."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the high level's levels, in multiples of the width."""
    low_multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the low level's."""
    diffusion_steps: Count = 64
    """Noise levels."""
    plan_horizon: Acting[Natural] = 0
    """Rows of the high level's plan, where they are to be more or fewer than in training; 0 for as many."""

    def __post_init__(self):
        super().__post_init__()
        check_horizon(self.plan_horizon or self.horizon, len(self.multipliers) - 1)
        check_horizon(self.jump + 1, len(self.low_multipliers) - 1)

    @property
    def window_rows(self) -> int:
        return (self.horizon - 1) * self.jump + 1

    @property
    def plan_rows(self) -> int:
        return ((self.plan_horizon or self.horizon) - 1) * self.jump + 1

    def low_network(self, key, spec: Spec) -> TemporalUNet:
        size = self.blocks(spec).size
        return TemporalUNet(key, size, width=self.width, multipliers=self.low_multipliers, attention=self.attention)

    def init(self, key, spec: Spec) -> State:
        both, low = super().init(key, spec), self.low_network(jax.random.fold_in(key, 2), spec)
        high = both.denoiser, both.denoiser_ema, both.step, both.inverse
        return State(*high, Optimised.create(low, self.optimiser), low)

    def update(self, state: State, batch, key):
        """The high level learns of every K-th row of a window, the low level of K + 1 rows anywhere in it."""
        high_key, low_key, place_key = jax.random.split(key, 3)
        x = self.states(batch["observations"])
        inverse, metrics = self.learn_inverse(state.inverse, batch)
        sparse = {"observations": x[:, :: self.jump]}
        denoiser, high_loss = state.denoiser.minimise(
            lambda net: self.denoising_loss(net, sparse, high_key), self.optimiser
        )
        first = jax.random.randint(place_key, (len(x), 1), 0, x.shape[1] - self.jump)
        piece = jnp.take_along_axis(x, (first + jnp.arange(self.jump + 1))[..., None], 1)
        low, low_loss = state.low.minimise(lambda net: self.low_loss(net, piece, low_key), self.optimiser)
        averages = (
            self.averaged(ema, new.params, state.step)
            for ema, new in ((state.denoiser_ema, denoiser), (state.low_ema, low))
        )
        high_ema, low_ema = averages
        state = State(denoiser, high_ema, state.step + 1, inverse, low, low_ema)
        return state, {"diffusion_loss": high_loss, "low_diffusion_loss": low_loss, **metrics}

    def low_mask(self):
        """Both ends of a piece: bool `[K + 1, 1]`."""
        row = jnp.arange(self.jump + 1)[:, None]
        return (row == 0) | (row == self.jump)

    def low_loss(self, net, x, key):
        """Of pieces `[B, K + 1, D]`, whose ends are known and have no weight."""
        mask = self.low_mask()
        return self.process.loss(net, x, key, weight=jnp.where(mask, 0.0, 1.0), project=inpaint(mask, x)).mean()

    def plan(self, state: State, spec: Spec, observation, key):
        high_key, low_key = jax.random.split(key)
        high = self.waypoints(state, spec, observation, high_key)
        n, rows, size = high.shape
        between = jnp.zeros((n, rows - 1, self.jump + 1, size))
        between = between.at[:, :, 0].set(high[:, :-1]).at[:, :, -1].set(high[:, 1:])
        denoiser = self.process.denoiser(state.low_ema)
        low = self.denoise(denoiser, low_key, between, self.low_mask(), clip_x0=(-1, 1))
        return jnp.concatenate([low[:, :, :-1].reshape(n, -1, size), high[:, -1:]], 1)

    def waypoints(self, state: State, spec: Spec, observation, key):
        """The high level's plans `[n, H, D]`, in network units."""
        start, goal = self.ends(spec, observation)
        rows = self.plan_horizon or self.horizon
        values = jnp.zeros((len(start), rows, start.shape[-1])).at[:, 0].set(start).at[:, -1].set(goal)
        mask = self.inpaint_mask(rows, self.blocks(spec))
        return self.denoise(self.process.denoiser(state.denoiser_ema), key, values, mask, clip_x0=(-1, 1))
