"""A policy that denoises actions, given the observation: what behaviour cloning by diffusion and its heirs share."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from reverie.data import Spec
from reverie.diffusion import SOLVERS, Process, sample, vp_diffusion_ql
from reverie.errors import ReverieError
from reverie.networks import DenoisingMLP

from .policy import StepPolicy


@dataclass(frozen=True)
class DiffusionActor(StepPolicy):
    """The process, the network, its denoising loss and its samples; Diffusion-QL's by default (Wang et al. 2023)."""

    limits: ClassVar = StepPolicy.limits | {"diffusion_steps": 0, "calls": 0}
    acting_fields: ClassVar[tuple[str, ...]] = ("calls", "solver")
    sampling: ClassVar[dict[str, Any]] = {"clip_x0": (-1.0, 1.0)}
    """Further options of the sampler: what it keeps within the bounds, mostly."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the networks' hidden layers."""
    diffusion_steps: int = 5
    """Noise levels."""
    calls: int = 0
    """Network calls for one action; 0 for one a noise level."""
    solver: str = "ddpm"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS."""

    def __post_init__(self):
        super().__post_init__()
        if self.solver not in SOLVERS:
            raise ReverieError(f"solver {self.solver!r} is unknown; choose one of {', '.join(SOLVERS)}")
        if self.process.steps is not None and self.calls > self.diffusion_steps:
            raise ReverieError(f"calls = {self.calls} exceeds diffusion_steps = {self.diffusion_steps}")

    @property
    def process(self) -> Process:
        return vp_diffusion_ql(self.diffusion_steps)

    def network(self, key, spec: Spec):
        """The denoising network `(x, t, observation) -> [..., action]`."""
        return DenoisingMLP(key, spec.action_dim, spec.observation_dim, hidden=self.hidden)

    def denoising_loss(self, net, batch, key) -> jax.Array:
        """Behaviour cloning's loss, each example's `[B]`."""
        return self.process.loss(net, batch["actions"], key, batch["observations"])

    def sample(self, net, observation, key, shape: tuple[int, ...], **options: Any) -> jax.Array:
        """Actions of `shape` `[..., action]` for observations `[..., observation]` that broadcast to it."""
        return self.denoise(self.process.denoiser(net, observation), key, shape, **options)

    def denoise(self, denoiser, key, shape: tuple[int, ...], **options: Any) -> jax.Array:
        """Actions of `shape` by a denoiser (x_t, t) -> x0_hat."""
        calls = self.calls or self.diffusion_steps
        settings: dict[str, Any] = {"calls": calls, "solver": self.solver} | self.sampling | options
        return sample(self.process, denoiser, key, shape, **settings)

    def candidates_for(self, net, observation, key, n: int, action_dim: int) -> jax.Array:
        """n actions for each observation `[..., observation]`: `[..., n, action]`."""
        return self.sample(net, observation[..., None, :], key, (*observation.shape[:-1], n, action_dim))
