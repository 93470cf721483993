"""CompDiffuser (Luo, Mishra, Du & Xu 2025, "Generative Trajectory Stitching through Diffusion Composition").

One U-Net denoises short windows of states, given noisy pieces of the two windows that it overlaps with, or a start, or
a goal. A way longer than any episode is then several windows denoised together, each seeing its neighbours.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import SOLVERS, classifier_free, inpaint
from reverie.errors import ReverieError
from reverie.networks import TemporalUNet
from reverie.planning import (
    AnewPlanner,
    GoalState,
    best_plans,
    interleaved,
    join,
    joined_rows,
    pieces,
    restoration_gaps,
    seam_gaps,
)
from reverie.planning.sides import END, NEIGHBOUR, NOTHING, ChunkUNet, Side, SideEncoder
from reverie.settings import Acting, Count, Fraction, Limit, Natural, NonNegative


@dataclass(frozen=True)
class CompDiffuser(AnewPlanner):
    """CompDiffuser: ways to goals farther than any episode reaches, of short windows denoised together."""

    name: ClassVar = "comp-diffuser"
    paper: ClassVar = "Luo et al. 2025"
    parts: ClassVar = ("observations",)

    horizon: Count = 40
    """Rows of a window, a chunk of the way; a multiple of 2^(levels - 1)."""
    stride: Count = 4
    """Environment steps between two rows."""
    overlap: Count = 14
    """Rows that a chunk shares with the next."""
    chunk_count: Acting[Count] = 3
    """Windows that make up a way."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the levels, in multiples of the width."""
    diffusion_steps: Count = 64
    """Noise levels."""
    overlaps: Literal["encoded", "aligned"] = "aligned"
    """How a window is told of its neighbours: by a code of where they overlap, as in the paper, or also by these rows
    themselves, and those of start and goal, beside its own."""
    code_width: Count = 64
    """Numbers that encode a neighbour's overlap."""
    drop: Annotated[float, Limit(0.0, 1.0)] = 0.2
    """Share of training windows that are told nothing of a side; of the others half see the neighbour, half an end."""
    lead: Natural = 1
    """Noise levels by which a neighbour is at most cleaner than the window in training; as in acting, 0 or this."""
    guidance_scale: Acting[float] = 2.0
    """1 samples what fits the neighbours; above, they count for more."""
    noise_temperature: Acting[NonNegative] = 1.0
    """Scale of the noise that every step adds. The released code's is 0: a step ends at its mean."""
    candidates: Acting[Count] = 8
    """Ways drawn for a goal, of which one is followed."""
    resampling: Acting[Count] = 1
    """How often each step from times up to `resampling_time` is taken, noised back in between, so that chunks agree; 1
    is the paper's."""
    resampling_time: Acting[Fraction] = 0.5
    """Of 1; above it steps are taken once, as repeating them alone did nothing (docs/results.md)."""
    restoration_time: Acting[Fraction] = 0.1
    """Which way is followed: the one whose pieces are all restored best when noised to this time, of 1, and denoised
    once; 0: the one whose chunks agree best where they overlap, as in the released code."""
    blend: Acting[NonNegative] = 2.0
    """Sharpness with which the left chunk gives way to the right where they overlap; 0 is a straight line."""
    parallel: Acting[bool] = False
    """Denoise all chunks of a way at once, not one after another within each level."""
    replan_distance: Acting[NonNegative] = 1.0
    """Distance from the plan's position, in the environment's units, from which on another is made; 0 for never."""
    positions_alone: bool = True
    """Plan positions and not whole observations."""
    batch_size: Count = 128
    """Windows an update."""

    def __post_init__(self):
        super().__post_init__()
        if 2 * self.overlap > self.horizon:
            raise ReverieError(
                f"overlap = {self.overlap} is more than half of horizon = {self.horizon}; a chunk overlaps with two "
                "neighbours, but these not with each other."
            )

    @property
    def plan_rows(self) -> int:
        return joined_rows(self.chunk_count, self.horizon, self.overlap)

    def network(self, key, spec: Spec) -> ChunkUNet:
        size, (key, *keys) = self.blocks(spec).size, jax.random.split(key, 3)
        left, right = (SideEncoder(each, self.overlap, size, self.code_width) for each in keys)
        aligned = self.overlaps == "aligned"
        shape: dict[str, Any] = {"width": self.width, "multipliers": self.multipliers, "attention": self.attention}
        unet = TemporalUNet(key, (1 + aligned) * size, cond_dim=2 * (self.code_width + 3), **shape)
        return ChunkUNet(unet, left, right, aligned)

    # Learning: a window's own ends, noised anew, are what its neighbours would be there (section 3.2).

    def denoising_loss(self, net: ChunkUNet, batch, key, condition=None, importance=1.0, regulariser=None):
        x = batch["observations"]
        key, kind_key, lead_key, *noise_keys = jax.random.split(key, 5)
        shares = jnp.array([self.drop, (1 - self.drop) / 2, (1 - self.drop) / 2])
        kinds = jax.random.choice(kind_key, 3, (2, len(x)), p=shares)
        leads = self.lead * jax.random.bernoulli(lead_key, 0.5, (2, len(x)))
        mask = self.ends_mask(x.shape, *(kinds == END))
        overlaps, ends = ((each[:, : self.overlap], each[:, -self.overlap :]) for each in (x, jnp.where(mask, x, 0.0)))

        def told(noisy, feature, _):
            def side(i):
                t = jnp.maximum((feature + 1 - leads[i]) / self.diffusion_steps, 0)
                noise = jax.random.normal(noise_keys[i], overlaps[i].shape)
                rows = self.process.perturb(overlaps[i], t, noise)
                rows = jnp.where((kinds[i] == END)[:, None, None], ends[i], rows)
                return Side(kinds[i], rows, self.process.time_feature(t))

            return net(noisy, feature, net.told(self.horizon, side(0), side(1)))

        options: Any = {"weight": jnp.where(mask, 0.0, 1.0), "project": inpaint(mask, x), "regulariser": regulariser}
        return (importance * self.process.loss(told, x, key, **options)).mean()

    def ends_mask(self, shape, starts, stops) -> jax.Array:
        """Entries `[..., H, D]` that are in-painted in windows that begin with the start, or end with the goal, bool
        `[...]` each: all of the first row, the goal's columns of the last."""
        row, column = jnp.arange(shape[-2])[:, None], jnp.arange(shape[-1])
        start = starts[..., None, None] & (row == 0)
        return start | (stops[..., None, None] & (row == shape[-2] - 1) & (column < self.goal_size))

    # Planning: chunks `[..., C, H, D]`, of which the first begins with the start and the last ends at the goal.

    def plan(self, state: GoalState, spec: Spec, observation, key):
        chunks = self.compose(state, spec, observation, key)
        ways = join(chunks, self.overlap, self.blend)
        ways = self.joined(ways, self.inpaint_mask(ways.shape[-2], self.blocks(spec)))
        if self.candidates == 1:
            return ways[:, 0]
        return best_plans(ways, -self.gaps(state.denoiser_ema, chunks, ways, jax.random.fold_in(key, 2)))

    def gaps(self, net: Any, chunks, ways, key) -> jax.Array:
        """How far ways `[..., rows, D]` joined of chunks are from what the data do: `[...]`."""
        if not self.restoration_time:
            return seam_gaps(chunks, self.overlap)
        windows = pieces(ways, self.horizon, max(1, self.horizon // 4))
        blank = jnp.zeros((self.overlap, ways.shape[-1]))
        told = net.told(self.horizon, *(Side(jnp.int32(NOTHING), blank, jnp.zeros(())) for _ in range(2)))
        denoiser, t = self.process.denoiser(net, told), self.restoration_time
        return restoration_gaps(self.process, denoiser, windows, t, key).max(-1)

    def compose(self, state: GoalState, spec: Spec, observation, key, history: bool = False):
        """Chunks `[n, candidates, C, H, D]`, in network units; with `history` also those after every evaluation."""
        start, goal = self.ends(spec, observation)
        shape = (len(start), self.candidates, self.chunk_count, self.horizon, start.shape[-1])
        values = jnp.zeros(shape).at[:, :, 0, 0].set(start[:, None]).at[:, :, -1, -1].set(goal[:, None])
        place = jnp.arange(self.chunk_count)
        mask = self.ends_mask(shape[2:], place == 0, place == self.chunk_count - 1)
        predict = self.predictor(state.denoiser_ema, jnp.where(mask, values, 0.0))
        solver = SOLVERS[self.solver]
        if not self.parallel:
            solver = interleaved(solver, lambda x, k, row: predict(x, k, row.level.t, row.end.t))
        denoiser = (lambda x, t: predict(x, place, t, t)) if self.parallel else (lambda x, t: x)
        how: Any = {"resampling": self.resampling, "resampling_time": self.resampling_time}
        how |= {"noise_temperature": self.noise_temperature}
        return self.denoise(denoiser, key, values, mask, solver=solver, history=history, **how)

    def predictor(self, net: Any, ends):
        """`(x [..., C, H, D], chunks' numbers, t, the left neighbours' t) -> x0_hat` of these chunks: all of
        `[..., C, H, D]` by an array of their numbers, or one, `[..., H, D]`, by a scalar. ends: chunks that are 0 but
        for start and goal."""

        def predict(x, k, t, left_t):
            last, o = self.chunk_count - 1, self.overlap
            left = jnp.concatenate([ends[..., :1, :o, :], x[..., :-1, -o:, :]], -3)
            right = jnp.concatenate([x[..., 1:, :o, :], ends[..., -1:, -o:, :]], -3)
            mine, left, right = (jnp.take(each, k, -3) for each in (x, left, right))
            lead = mine.shape[:-2]

            def told(between):
                kinds = jnp.where(k == 0, END, between), jnp.where(k == last, END, between)
                features = (self.process.time_feature(each) for each in (left_t, t))
                sides = zip(kinds, (left, right), features, strict=True)
                return net.told(self.horizon, *(Side(jnp.broadcast_to(kind, lead), *rest) for kind, *rest in sides))

            def denoise(x, t, condition):
                return self.process.denoise(net, x, t, condition)

            if self.chunk_count == 1:
                return jnp.clip(denoise(mine, t, told(NEIGHBOUR)), -1, 1)
            guided = classifier_free(denoise, told(NEIGHBOUR), told(NOTHING), self.guidance_scale)
            return jnp.clip(guided(mine, t), -1, 1)

        return predict
