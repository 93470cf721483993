"""Settings that many methods have, each a small base class: an algorithm inherits those that its paper has."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import jax
import jax.numpy as jnp

from reverie.diffusion import SOLVERS, Process
from reverie.errors import ReverieError
from reverie.learning import delayed_ema, ema, optimiser
from reverie.networks import Encoding
from reverie.settings import Acting, Choices, Count, Fraction, LearningRate, Natural, NonNegative, Settings


class SampleOptions(TypedDict, total=False):
    """Further options of `diffusion.sample` that a method may fix."""

    schedule: str
    clip_x0: tuple[float, float]
    clip_x: tuple[float, float]
    temperature: float
    noise_temperature: float
    resampling: int
    resampling_time: float


SolverName = Annotated[str, Choices(tuple(SOLVERS))]


@dataclass(frozen=True)
class Adam(Settings):
    """Batches, and the optimiser that learns from them."""

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Decays of the gradients' two averages."""

    batch_size: Count = 256
    """Rows an update."""
    learning_rate: LearningRate = 3e-4
    """Adam's step size."""
    decay_updates: Natural = 0
    """Updates over which the learning rate falls to 0 by a cosine; 0 for a constant rate."""
    gradient_clip: NonNegative = 0.0
    """Largest norm of a gradient; 0 for any."""

    @property
    def optimiser(self):
        decay: dict[str, Any] = {"schedule": "cosine", "steps": self.decay_updates} if self.decay_updates else {}
        return optimiser(self.learning_rate, betas=self.betas, clip=self.gradient_clip or None, **decay)


@dataclass(frozen=True)
class AdamW(Adam):
    """With what transformers are trained by: a rate that rises first, and weights that decay."""

    warmup_updates: Natural = 10_000
    """Updates over which the learning rate rises from 0."""
    weight_decay: NonNegative = 1e-4
    """Of the weights, at each update, in units of the learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.decay_updates <= self.warmup_updates:
            raise ReverieError(
                f"decay_updates = {self.decay_updates} must exceed warmup_updates = {self.warmup_updates}, which it "
                f"counts as well"
            )

    @property
    def optimiser(self):
        decay: dict[str, Any] = {"schedule": "cosine", "steps": self.decay_updates} if self.decay_updates else {}
        decay |= {"warmup": self.warmup_updates, "weight_decay": self.weight_decay}
        return optimiser(self.learning_rate, betas=self.betas, clip=self.gradient_clip or None, **decay)


@dataclass(frozen=True)
class Hidden(Settings):
    """An actor that is an MLP."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the actor's hidden layers."""


@dataclass(frozen=True)
class Encoders(Settings):
    """How observations are read: vectors as they are, images by small ResNets, token ids by embeddings."""

    image_features: Count = 64
    """Numbers that an image becomes."""
    image_widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the ResNet's stages, multiples of 8; every stage but the first halves the image."""
    keypoints: Count = 32
    """Places in an image that the spatial softmax reports."""
    crop: Natural = 0
    """Pixels of the side of what is read of an image, at random in training and the centre in acting; 0 for all."""
    vocabulary: Natural = 0
    """How many different token ids there are."""

    @property
    def encoding(self) -> Encoding:
        return Encoding(
            image_features=self.image_features,
            image_widths=self.image_widths,
            keypoints=self.keypoints,
            crop=(self.crop, self.crop) if self.crop else None,
            vocabulary=self.vocabulary,
        )


@dataclass(frozen=True)
class EMA(Settings):
    """The exponential moving average of the parameters that acts, or makes data."""

    ema_decay: Fraction = 0.995
    """Of the average, at each of its steps."""
    ema_every: Count = 10
    """Updates between two steps of the average."""
    ema_start: Natural = 2000
    """Updates during which the average is a copy."""

    def averaged(self, ema: Any, params: Any, step: jax.Array) -> Any:
        """The average after the update number `step` (from 0) made `params`."""
        return delayed_ema(ema, params, step, decay=self.ema_decay, every=self.ema_every, start=self.ema_start)


@dataclass(frozen=True)
class RisingEMA(Settings):
    """A moving average whose decay rises with the updates: 1 - (1 + step)^-power, no more than `ema_decay`."""

    ema_decay: Fraction = 0.9999
    """Of the average, at most."""
    ema_power: NonNegative = 0.75
    """How fast the decay rises."""

    def averaged(self, average: Any, params: Any, step: jax.Array) -> Any:
        """The average after the update number `step` (from 0) made `params`."""
        return ema(average, params, jnp.minimum(self.ema_decay, 1 - (1.0 + step) ** -self.ema_power))


@dataclass(frozen=True)
class Sampling(Settings):
    """How samples are denoised."""

    nfe: Acting[Natural] = 0
    """Network function evaluations (NFE) for one sample; 0 for one a noise level."""
    solver: Acting[SolverName] = "ddpm"
    """How samples are denoised: a name from reverie.diffusion.SOLVERS."""

    @property
    def process(self) -> Process:
        """The noising process that is sampled; to be given by the method."""
        raise NotImplementedError(f"{type(self).__name__} has no property `process`, which says what is sampled.")

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.process.steps
        if steps is not None and self.nfe > steps:
            raise ReverieError(f"nfe = {self.nfe} exceeds diffusion_steps = {steps}")


__all__ = ["EMA", "Adam", "AdamW", "Encoders", "Hidden", "RisingEMA", "SampleOptions", "Sampling", "SolverName"]
