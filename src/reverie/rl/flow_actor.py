"""A flow of the behaviour, from noise to actions, which flow Q-learning and its heirs learn."""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import rectified_flow, sample
from reverie.networks import MLP, xavier
from reverie.networks.layers import concatenate
from reverie.settings import Count

from .policy import StepPolicy


class Flow(eqx.Module):
    """The velocity of x at time t, given the observation; all three side by side, the time as it is."""

    net: MLP

    def __call__(self, x, t, observation):
        return self.net(concatenate(observation, x, jnp.asarray(t)[..., None]))


@dataclass(frozen=True)
class FlowActor(StepPolicy):
    """A flow that clones the behaviour, integrated by Euler's method (Park et al. 2025). Time runs from the data at 0
    to noise at 1; the released code's runs the other way."""

    activation: ClassVar[Any] = staticmethod(jax.nn.gelu)
    initialiser: ClassVar[Any] = staticmethod(xavier)
    """Of the flow's linear layers, and of a policy's beside it, as in their released code."""

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the flow's hidden layers, and of a policy's beside it."""
    flow_steps: Count = 10
    """Euler steps of the flow."""

    @property
    def process(self):
        # Training times cover all of [0, 1]; the sampler's t_min makes its last step as long as the others.
        return rectified_flow(t_min=1 / self.flow_steps, feature=lambda t: t, draw=jax.random.uniform)

    def flow_network(self, key, spec: Spec) -> Flow:
        size = spec.observation_dim + spec.action_dim + 1
        sizes: Any = {"hidden": self.hidden, "activation": self.activation, "init": self.initialiser}
        return Flow(MLP(key, size, spec.action_dim, **sizes))

    def flow_loss(self, flow: Flow, batch, key) -> jax.Array:
        """Flow matching of a batch's actions, a scalar; where it says which are `inside` an episode, the others have no
        error."""
        weight = batch.get("inside", 1.0)
        return self.process.loss(flow, batch["actions"], key, batch["observations"], weight=weight).mean()

    def integrate(self, flow: Flow, observation, noise) -> jax.Array:
        """Where the flow takes the noise, within the bounds: `[..., action]`."""
        denoiser, unused = self.process.denoiser(flow, observation), jax.random.key(0)
        end = sample(self.process, denoiser, unused, noise.shape, nfe=self.flow_steps, solver="euler", noise=noise)
        return jnp.clip(end, -1, 1)

    def flow_candidates(self, flow: Flow, observation, key, n: int, action_dim: int) -> jax.Array:
        """n actions of the behaviour for each observation `[..., observation]`: `[..., n, action]`."""
        noise = jax.random.normal(key, (*observation.shape[:-1], n, action_dim))
        return self.integrate(flow, observation[..., None, :], noise)
