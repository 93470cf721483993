"""DPPO (Ren et al. 2025, "Diffusion Policy Policy Optimization"): PPO through a diffusion policy's denoising steps.

Every denoising step is a Gaussian step of its own, so that an action is the end of a short episode inside a step of the
environment, and PPO's ratio is taken of each denoising step. The first steps, from noise, are those of the run that
training begins from; the last `tuned_steps` are a copy's, which learns. Of runs of diffusion-ql, dac and idql that is
the network alone, without their choice among candidates.

Beside the released code: chunks, there of four actions, are the environment's (`NAME@chunk=4`), a minibatch has all the
denoising steps of its environment steps, the floor of the standard deviation is in the tuned steps only, and no round
ends early by its KL divergence.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Spec
from reverie.diffusion import draw_chain, log_density, posterior, steps_of_chain
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.networks import mish
from reverie.rl import BackboneActor, OnPolicyActor, StateValue, clipped_surrogate
from reverie.settings import Count, Fraction, LearningRate, NonNegative, Positive

LOG_DENSITY = (-5.0, 2.0)
"""Within which an entry's log density is kept (released code)."""
LARGEST_NOISE = 3.0
"""In standard deviations, of a step that explores (released code)."""
CLIP_GROWTH = 3.0
"""How fast the clip grows, as exp(growth * part of the way), from the noisiest tuned step to the last."""


class State(eqx.Module):
    actor: Optimised
    """The network of the tuned steps."""
    critic: StateValue
    base: Any
    """The network of the steps before, which stays as it was."""
    observations: None = None


@dataclass(frozen=True)
class DPPO(BackboneActor, OnPolicyActor):
    """DPPO: a diffusion policy that goes on learning, by PPO over its last denoising steps."""

    name: ClassVar = "dppo"
    role: ClassVar = "policy"
    paper: ClassVar = "Ren et al. 2025"
    begins_from: ClassVar = "a run of diffusion-bc, diffusion-ql, dac or idql"
    critic_activation: ClassVar[Any] = staticmethod(mish)

    diffusion_steps: Count = 20
    """Noise levels, as many as of the run to begin from."""
    tuned_steps: Count = 10
    """The last denoising steps, which learn."""
    least_std: NonNegative = 0.1
    """Smallest standard deviation of a tuned step while data are collected, and in their likelihood."""
    denoising_discount: Fraction = 0.99
    """Of the advantage, for every denoising step between this one and the action."""
    clip: Positive = 0.01
    """How far the ratio may go from 1 in the last denoising step; log densities are means over the action's entries."""
    clip_base: Positive = 0.01
    """The same in the first of the tuned steps: as large in the released code's locomotion, 0.001 in its Robomimic."""
    batch_size: Count = 512
    """Environment steps in a minibatch."""
    epochs: Count = 5
    """Times that a round is gone through."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size for the tuned network."""
    critic_learning_rate: LearningRate = 1e-3
    """Adam's step size for V."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of V's hidden layers."""

    def __post_init__(self):
        super().__post_init__()
        if self.tuned_steps > self.diffusion_steps:
            raise ReverieError(f"tuned_steps = {self.tuned_steps} exceeds diffusion_steps = {self.diffusion_steps}")

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net = self.network(actor_key, spec)
        return State(Optimised.create(net, self.optimiser), self.init_critic(critic_key, spec), net)

    def init_from(self, key, spec: Spec, other, state) -> State:
        """With the run's network, twice. Raises RunError for a run of another kind."""
        fresh, net = self.init(key, spec), self.cloned(other, state)
        return replace(fresh, actor=Optimised.create(net, self.optimiser), base=net)

    def tuned(self, t):
        """Whether the step that begins at time t is one of the last."""
        return self.diffusion_steps * t < self.tuned_steps + 0.5

    def denoiser_of(self, state: State, observation):
        """The one network's x0_hat or the other's, by the time."""
        base, own = (self.process.denoiser(net, observation) for net in (state.base, state.actor.params))
        if self.tuned_steps == self.diffusion_steps:
            return own
        return lambda x, t: jax.lax.cond(self.tuned(t), own, base, x, t)

    def kernel(self, row, x, x0):
        """A step of DDPM, which explores where it is tuned."""
        mean, std = posterior(row, x, x0)
        return mean, jnp.where(self.tuned(row.start.t), jnp.maximum(std, self.least_std), std)

    @property
    def grid(self) -> dict[str, Any]:
        """What a chain and its likelihood must have in common."""
        return {"nfe": self.diffusion_steps, "clip_x0": self.sampling["clip_x0"]}

    def columns(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        return {"chain": (self.tuned_steps + 1, spec.action_dim)}

    def explore(self, state: State, spec: Spec, observation, key):
        denoiser, shape = self.denoiser_of(state, observation), (*observation.shape[:-1], spec.action_dim)
        options = self.grid | {"kept": self.tuned_steps, "largest_noise": LARGEST_NOISE}
        chain = draw_chain(self.process, denoiser, self.kernel, key, shape, **options)
        return chain[..., -1, :], {"chain": chain}

    def recalled(self, state: State, rows):
        return {"log_prob": self.log_prob(state.actor.params, rows["observations"], rows["chain"])}

    def log_prob(self, net, observation, chain) -> jax.Array:
        """Of each tuned step of the chains `[n, tuned_steps + 1, action]`, a mean over the action's entries:
        `[n, tuned_steps]`."""
        denoiser = self.process.denoiser(net, observation[..., None, :])
        mean, std = steps_of_chain(self.process, denoiser, self.kernel, chain, **self.grid)
        return jnp.clip(log_density(chain[..., 1:, :], mean, std), *LOG_DENSITY).mean(-1)

    @property
    def clips(self) -> np.ndarray:
        """Of the ratio, for every tuned step from the noisiest on: `[tuned_steps]`."""
        way = np.linspace(0, 1, self.tuned_steps) if self.tuned_steps > 1 else np.ones(1)
        grown = np.expm1(CLIP_GROWTH * way) / math.expm1(CLIP_GROWTH)
        return self.clip_base + (self.clip - self.clip_base) * grown

    def policy_loss(self, actor, state: State, rows):
        log_ratio = self.log_prob(actor, rows["observations"], rows["chain"]) - rows["log_prob"]
        weight = self.denoising_discount ** np.arange(self.tuned_steps)[::-1]
        return clipped_surrogate(log_ratio, rows["advantages"][:, None] * weight, self.clips)

    def choose(self, state: State, spec: Spec, observation, key):
        return self.denoise(self.denoiser_of(state, observation), key, (*observation.shape[:-1], spec.action_dim))
