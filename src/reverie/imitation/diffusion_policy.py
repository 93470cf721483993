"""Diffusion Policy (Chi et al. 2023): chunks of actions are denoised, given the last observations.

With `FlowPolicy` the process is rectified flow. Real-time chunking (Black et al. 2025) denoises the next chunk so that
it agrees with the one that is being executed.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import AdamW, RisingEMA, SampleOptions, Sampling, SolverName
from reverie.data import Spec
from reverie.diffusion import SOLVERS, Process, rectified_flow, sample, soft_inpaint, vp_cosine
from reverie.learning import Optimised
from reverie.networks import ChunkTransformer, ObservationEncoder, TemporalUNet
from reverie.networks.unet import check_horizon
from reverie.planning.chunks import ChunkPolicy, Overlap, in_a_row
from reverie.planning.windows import DenoiserState
from reverie.settings import Acting, Choices, Count, Fraction, LearningRate, Natural, NonNegative, Positive


class Network(eqx.Module):
    """Reads an observation history, and denoises chunks given what it read."""

    encoder: ObservationEncoder
    denoiser: TemporalUNet | ChunkTransformer

    def read(self, observations, key=None) -> jax.Array:
        """The condition: what all observations say in a row for the U-Net, and a token for each for the transformer."""
        tokens = self.encoder(observations, key=key)
        return tokens if isinstance(self.denoiser, ChunkTransformer) else in_a_row(tokens)


@dataclass(frozen=True)
class ChunkDenoising(RisingEMA, Sampling, AdamW, ChunkPolicy):
    """Behaviour cloning by denoised chunks of actions, whatever the process."""

    betas: ClassVar = (0.95, 0.999)
    sampling: ClassVar[SampleOptions] = {"clip_x0": (-1.0, 1.0)}

    backbone: Literal["unet", "transformer"] = "unet"
    """The network: a temporal U-Net whose channels are scaled and shifted by the observations, or a transformer that
    attends to them."""
    width: Count = 256
    """Channels of the U-Net's first level, or the transformer's width."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the U-Net's levels, in multiples of the width."""
    depth: Count = 8
    """Layers of the transformer."""
    heads: Count = 4
    """Heads of the transformer's attention."""
    dropout: Fraction = 0.1
    """Of what the transformer's layers add, in training."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size."""
    warmup_updates: Natural = 500
    """Updates over which the learning rate rises from 0."""
    weight_decay: NonNegative = 1e-6
    """Of the weights, at each update, in units of the learning rate."""
    chunking: Acting[Annotated[str, Choices(("replace", "ensemble", "real-time"))]] = "replace"
    """What a new chunk does to the one before: it replaces it, is averaged with all that were chosen for a step
    (temporal ensembling), or is denoised so that it goes on from it (real-time chunking)."""
    overlap_scale: Acting[Positive] = 5.0
    """Of real-time chunking: the largest weight by which the overlap guides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone == "unet":
            check_horizon(self.horizon, len(self.multipliers) - 1)

    def network(self, key, spec: Spec) -> Network:
        encoder_key, key = jax.random.split(key)
        encoder, steps = (
            ObservationEncoder(encoder_key, spec.observation_space, self.encoding),
            self.observation_horizon,
        )
        if self.backbone == "transformer":
            sizes: Any = {"width": self.width, "heads": self.heads, "depth": self.depth, "rate": self.dropout}
            told = {"cond_dim": encoder.dim, "cond_tokens": steps}
            return Network(encoder, ChunkTransformer(key, spec.action_dim, self.horizon, **sizes, **told))
        sizes = {"width": self.width, "multipliers": self.multipliers, "film": True}
        return Network(encoder, TemporalUNet(key, spec.action_dim, cond_dim=steps * encoder.dim, **sizes))

    def init(self, key, spec: Spec) -> DenoiserState:
        net = self.network(key, spec)
        return DenoiserState(Optimised.create(net, self.optimiser), net, jnp.zeros((), jnp.int32))

    def update(self, state: DenoiserState, batch, key):
        crop_key, dropout_key, key = jax.random.split(key, 3)

        def loss(net: Network):
            def denoiser(x, t, condition):
                dropped = {"key": dropout_key} if self.backbone == "transformer" else {}
                return net.denoiser(x, t, condition, **dropped)

            condition = net.read(batch["observations"], crop_key)
            mask = batch["mask"][..., None] if self.mask_padding else None
            return self.process.loss(denoiser, batch["actions"], key, condition, mask=mask).mean()

        denoiser, value = state.denoiser.minimise(loss, self.optimiser)
        ema = self.averaged(state.denoiser_ema, denoiser.params, state.step)
        return DenoiserState(denoiser, ema, state.step + 1), {"diffusion_loss": value}

    def choose(self, state: DenoiserState, spec: Spec, observations, overlap: Overlap, key):
        net: Any = state.denoiser_ema
        denoiser = self.process.denoiser(net.denoiser, net.read(observations))
        if self.chunking == "real-time":
            weight = overlap.weight[..., None]
            denoiser = soft_inpaint(self.process, denoiser, overlap.rows, weight, largest=self.overlap_scale)
        nfe = self.nfe or self.process.steps or 0
        return sample(self.process, denoiser, key, overlap.rows.shape, nfe=nfe, solver=self.solver, **self.sampling)


@dataclass(frozen=True)
class DiffusionPolicy(ChunkDenoising):
    """Diffusion Policy: behaviour cloning by diffusion of chunks of actions."""

    name: ClassVar = "diffusion-policy"
    paper: ClassVar = "Chi et al. 2023"

    diffusion_steps: Count = 100
    """Noise levels."""

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps)


@dataclass(frozen=True)
class FlowPolicy(ChunkDenoising):
    """Diffusion Policy with flow matching: straight paths from noise to chunks, in few steps."""

    name: ClassVar = "flow-policy"
    paper: ClassVar = "Chi et al. 2023; Lipman et al. 2023"

    nfe: Acting[Count] = 10
    """Network function evaluations (NFE) for one chunk."""
    solver: Acting[SolverName] = "euler"
    """How chunks are denoised: a name from reverie.diffusion.SOLVERS."""

    @property
    def process(self) -> Process:
        # As many equal steps as evaluations: the last one goes from 1/nfe to the data, where the default's goes from
        # next to them and moves nothing. In a two-stage solver it has one stage, and stays short. Training times cover
        # [0, 1] whatever the steps are.
        ends = {"t_min": 1 / self.nfe} if SOLVERS[self.solver].stages == 1 else {}
        return rectified_flow(draw=jax.random.uniform, **ends)
