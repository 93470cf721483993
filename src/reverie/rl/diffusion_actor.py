"""A policy that denoises actions, given the observation: what behaviour cloning by diffusion and its heirs share."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax

from reverie.configs import SampleOptions, Sampling
from reverie.data import Spec
from reverie.diffusion import Process, sample, vp_diffusion_ql
from reverie.errors import ReverieError, RunError
from reverie.networks import DenoisingMLP, LayerNormResNet
from reverie.settings import Count

from .policy import StepPolicy, behaviour_of


@dataclass(frozen=True)
class DiffusionActor(Sampling, StepPolicy):
    """The process, its denoising loss and its samples. An algorithm adds `process` and `network`."""

    sampling: ClassVar[SampleOptions] = {"clip_x0": (-1.0, 1.0)}
    """Further options of the sampler: what it keeps within the bounds, mostly."""

    def network(self, key, spec: Spec) -> Any:
        """The denoising network `(x, t, observation) -> [..., action]`."""
        raise NotImplementedError

    def denoising_loss(self, net, batch, key) -> jax.Array:
        """The behaviour cloning loss, each example's `[B]`."""
        return self.process.loss(net, batch["actions"], key, batch["observations"])

    def sample(self, net, observation, key, shape: tuple[int, ...], **options) -> jax.Array:
        """Actions of `shape` `[..., action]` for observations `[..., observation]` that broadcast to it. `options` of
        the sampler go beyond the method's own."""
        return self.denoise(self.process.denoiser(net, observation), key, shape, **options)

    def denoise(self, denoiser, key, shape: tuple[int, ...], **options) -> jax.Array:
        """Actions of `shape` by a denoiser (x_t, t) -> x0_hat."""
        nfe, options = self.nfe or self.process.steps or 0, {**self.sampling, **options}
        return sample(self.process, denoiser, key, shape, nfe=nfe, solver=self.solver, **options)

    def sample_candidates(self, net, observation, key, n: int, action_dim: int, **options) -> jax.Array:
        """n actions for each observation `[..., observation]`: `[..., n, action]`."""
        return self.sample(net, observation[..., None, :], key, (*observation.shape[:-1], n, action_dim), **options)


@dataclass(frozen=True)
class DiscreteDiffusionActor(DiffusionActor):
    """With a fixed number of noise levels; Diffusion-QL's (Wang et al. 2023)."""

    diffusion_steps: Count = 5
    """Noise levels."""

    @property
    def process(self) -> Process:
        return vp_diffusion_ql(self.diffusion_steps)


@dataclass(frozen=True)
class BackboneActor(DiscreteDiffusionActor):
    """With a choice of the denoising network."""

    name: ClassVar[str]

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the mlp's hidden layers, or of the resnet's blocks, which are all of one width."""
    backbone: Literal["mlp", "resnet"] = "mlp"
    """Diffusion-QL's network, or IDQL's with layer norms and residual blocks (without its dropout)."""

    def __post_init__(self):
        super().__post_init__()
        if self.backbone == "resnet" and len(set(self.hidden)) != 1:
            raise ReverieError(
                f"hidden = {self.hidden}, but the resnet's blocks are of one width; give it once a block"
            )

    def cloned(self, other, state) -> Any:
        """The network that a seed of the run `other` has learned. Raises RunError for a run of another kind of method,
        or with other noise levels."""
        net, theirs = behaviour_of(self, DiscreteDiffusionActor, other, state), other.algorithm.diffusion_steps
        if theirs != self.diffusion_steps:
            raise RunError(
                f"The run to begin from has diffusion_steps={theirs} and this {self.name} {self.diffusion_steps}; give "
                "it as many."
            )
        return net

    def network(self, key, spec: Spec):
        sizes = (spec.action_dim, spec.observation_dim)
        if self.backbone == "resnet":
            return LayerNormResNet(key, *sizes, width=self.hidden[0], blocks=len(self.hidden))
        return DenoisingMLP(key, *sizes, hidden=self.hidden)
