"""In-painting of demonstrations' frames: the same actions, before another ground and beside other things.

So do CACTI (Mandi et al. 2022), GenAug (Chen et al. 2023) and ROSIE (Yu et al. 2023), each with a large pretrained
model of images. Here a small one learns from pictures that look different, to denoise masked pixels given the others:
what it draws comes from the conditional distribution, as far as it has learned it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import Adam, RisingEMA, Sampling, SolverName
from reverie.data import Dataset, Spec, Transitions
from reverie.diffusion import Process, inpaint, rectified_flow, sample
from reverie.errors import DataError
from reverie.learning import Optimised
from reverie.networks import ImageUNet
from reverie.networks.encoders import scale_pixels
from reverie.planning.demonstrated import rows_with_actions
from reverie.planning.windows import DenoiserState
from reverie.protocols import Synthesizer
from reverie.settings import Acting, Count, Fraction, LearningRate, NonNegative
from reverie.synthesizers import frames


@dataclass(frozen=True)
class Inpainting(RisingEMA, Sampling, Adam, Synthesizer):
    """In-painting: the demonstrations again, with other pictures of what does not matter."""

    name: ClassVar = "inpainting"
    role: ClassVar = "synthesizer"
    paper: ClassVar = "Yu et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("images",)

    image: str = ""
    """The observations' part whose frames are drawn anew; needed where several are images."""
    keep: tuple[str, ...] = ()
    """Colours of what stays as it is, as rrggbb; all else is drawn anew. Data with an info `inpaint` need none."""
    tolerance: NonNegative = 8.0
    """How far a pixel may be from a colour to count as it, in each channel, of 255."""
    everything: Fraction = 0.1
    """How often whole frames are drawn in training, whatever the mask."""
    width: Count = 32
    """Channels of the U-Net's first level, a multiple of 8."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the U-Net's levels, in multiples of the width."""
    patch: Count = 2
    """Pixels of the side of what the U-Net reads as one place."""
    batch_size: Count = 64
    """Frames an update."""
    learning_rate: LearningRate = 1e-3
    """Adam's step size."""
    nfe: Acting[Count] = 20
    """Network function evaluations (NFE) for a frame."""
    solver: Acting[SolverName] = "euler"
    """How frames are denoised: a name from reverie.diffusion.SOLVERS. One that draws noise makes frames of one episode
    differ in their looks."""
    chunk: Acting[Count] = 32
    """Frames denoised at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        frames.colours(self.keep)

    @property
    def process(self) -> Process:
        return rectified_flow()

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """The frames that are learned: of the rows without actions (the info `has_actions`), where there are any, else
        of all. The episodes that have actions stay with the run, to be drawn anew.

        Raises DataError without frames, with several cameras of which none is named, where nothing says what is to be
        drawn anew, where nothing is in the frames to learn, and where no episode has actions.
        """
        seen = frames.frames_of(data.observations, frames.camera_of(data.observation_space, self.image))
        mask, known = frames.masks(data, seen, self.keep, self.tolerance), rows_with_actions(data)
        learned = np.flatnonzero(known if known.all() else ~known)
        if not mask[learned].any():
            raise DataError(f"No pixel of the {len(learned)} frames to learn is to be drawn anew; mask some.")
        spec = spec or replace(Spec.fit(data), kept=device(frames.demonstrations(data, mask, known)))
        rows = {"frames": seen[learned], "inpaint": mask[learned], "actions": data.actions[learned]}
        return Transitions(device(rows)), spec

    def seen(self, spec: Spec, observations) -> Any:
        return frames.frames_of(observations, frames.camera_of(spec.observation_space, self.image))

    def init(self, key, spec: Spec) -> DenoiserState:
        shape = self.seen(spec, spec.blank(1)).shape
        sizes: Any = {"width": self.width, "multipliers": self.multipliers, "patch": self.patch}
        net = ImageUNet(key, shape[-1], cond_channels=1, **sizes)
        return DenoiserState(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32))

    def update(self, state: DenoiserState, batch, key) -> tuple[DenoiserState, dict[str, jax.Array]]:
        """The pixels that stay are clean at every noise level, and cost nothing."""
        all_key, key = jax.random.split(key)
        x, mask = scale_pixels(batch["frames"]), batch["inpaint"][..., None]
        mask |= jax.random.bernoulli(all_key, self.everything, (len(x), 1, 1, 1))

        def loss(net):
            told = mask.astype(jnp.float32)
            return self.process.loss(net, x, key, told, mask=told, project=inpaint(~mask, x)).mean()

        denoiser, value = state.denoiser.minimise(loss, self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return DenoiserState(denoiser, ema, state.step + 1), {"diffusion_loss": value}

    def chunks(self, state: DenoiserState, spec: Spec, key, n: int, start: int = 0) -> Iterator[Dataset]:
        """The demonstrations' episodes one after another, over and over; of the last as much as makes n rows.

        The look of the i-th, counted from 0, depends on the state and on `fold_in(key, i)` alone.
        """
        kept, row = jax.device_get(spec.kept), 0
        episodes = frames.dataset(kept, spec).episodes
        for number in itertools.count():
            first, stop = episodes[number % len(episodes)]
            begin, stop = first + max(0, start - row), min(stop, first + n - row)
            if begin < stop:
                rows = frames.taken(kept, slice(begin, stop))
                made = self.redrawn(state.denoiser_ema, spec, jax.random.fold_in(key, number), rows)
                yield frames.dataset(made, spec, name=f"synthetic data by {self.name}", synthetic=True)
            row += stop - first
            if row >= n:
                return

    def redrawn(self, net: Any, spec: Spec, key, rows: dict[str, Any]) -> dict[str, Any]:
        """Rows of an episode with another look, which is one for all of them."""
        seen, mask, made = self.seen(spec, rows["observations"]), rows[frames.MASK], []
        for first in range(0, len(seen), self.chunk):
            piece = np.minimum(np.arange(first, first + self.chunk), len(seen) - 1)
            made.append(np.asarray(self.drawn(net, seen[piece], mask[piece], key)))
        camera = frames.camera_of(spec.observation_space, self.image)
        others = frames.with_frames(rows["observations"], camera, np.concatenate(made)[: len(seen)])
        return rows | {"observations": others}

    def computed(self, state: DenoiserState, spec: Spec, key):
        seen, mask = self.seen(spec, spec.kept["observations"]), spec.kept[frames.MASK]
        return self.drawn(state.denoiser_ema, seen[: self.chunk], mask[: self.chunk], key)

    @partial(jax.jit, static_argnums=0)
    def drawn(self, net: ImageUNet, seen, mask, key) -> jax.Array:
        """Frames uint8 `[B, H, W, C]` whose pixels in the mask, bool `[B, H, W]`, are drawn anew; the others are the
        same, bit for bit."""
        mask = mask[..., None]
        denoiser = self.process.denoiser(net, mask.astype(jnp.float32))
        made = inpainted(self.process, denoiser, scale_pixels(seen), mask, key, nfe=self.nfe, solver=self.solver)
        return jnp.where(mask, jnp.clip(jnp.round((made + 1) * 127.5), 0, 255).astype(seen.dtype), seen)


def inpainted(process: Process, denoiser, x, mask, key, **options) -> jax.Array:
    """Samples that are `x` `[B, ...]` where the mask is False; all from one noise, by which an ODE solver draws alike
    what goes with alike pixels.

    denoiser: (x_t, t) -> x0_hat, for x_t that is clean outside the mask, as in training.
    """
    noise = jnp.broadcast_to(jax.random.normal(key, x.shape[1:]), x.shape)
    return sample(process, denoiser, key, x.shape, noise=noise, project=inpaint(~mask, x), **options)


def device(arrays: Any) -> Any:
    return jax.tree.map(jnp.asarray, arrays)
