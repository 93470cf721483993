"""ReinFlow (Zhang et al. 2025, "ReinFlow: Fine-tuning Flow Matching Policy with Online Reinforcement Learning").

A flow is deterministic from its noise on. A second network adds noise to each of its Euler steps, so that they are a
Markov chain of Gaussians and PPO has a likelihood; it learns how much. Who acts after training leaves that noise out.

Beside the released code: the chain and its likelihood share one grid of times; neither the steps' means nor the chain's
end are kept within the bounds (a mean that is cut has no gradient, and early ones are noise still); one action is
chosen at once; the noise's bounds stay as they are; and there is no pull towards the flow that training begins from.
Noise is computed from x too, where the released network, of two hyperbolic tangent layers of 64, sees the observation
and the time's embedding alone; and rates stay as they are, where there they fall and rise in cycles.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import draw_chain, flow_step, log_density, steps_of_chain
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.networks import MLP, mish
from reverie.networks.layers import concatenate
from reverie.rl import Flow, FlowActor, OnPolicyActor, OnPolicyState, behaviour_of, clipped_surrogate
from reverie.settings import Count, LearningRate, NonNegative, Positive

LOG_DENSITY = (-1.0, 1.0)
"""Within which a chain's log density is kept, in nats an entry (released code)."""
LARGEST_NOISE = 3.0
"""In standard deviations, of a step that explores (released code)."""


class NoisyFlow(eqx.Module):
    """The flow, and what its steps' noise is computed by."""

    flow: Flow
    noise: MLP


@dataclass(frozen=True)
class ReinFlow(FlowActor, OnPolicyActor):
    """ReinFlow: a flow policy that goes on learning, by PPO over all of its steps, which are made noisy for it."""

    name: ClassVar = "reinflow"
    role: ClassVar = "policy"
    paper: ClassVar = "Zhang et al. 2025"
    begins_from: ClassVar = "a run of fql, ifql or qam"
    critic_activation: ClassVar = staticmethod(mish)

    flow_steps: Count = 4
    """Euler steps of the flow, as many or as few as one likes."""
    noise_hidden: tuple[int, ...] = (16, 16)
    """Widths of the noise network's hidden layers."""
    least_std: Positive = 0.1
    """Smallest standard deviation of a step's noise."""
    largest_std: Positive = 0.24
    """Largest standard deviation of a step's noise."""
    entropy: NonNegative = 0.03
    """Weight of the chain's entropy, in nats an entry."""
    clip: Positive = 0.01
    """How far the ratio of a chain's new probability to the old one may go from 1 and be of use; log densities are
    means over the chain's entries, as in the released code."""
    batch_size: Count = 512
    """Environment steps in a minibatch."""
    epochs: Count = 5
    """Times that a round is gone through."""
    learning_rate: LearningRate = 4.5e-5
    """Adam's step size for the flow and its noise."""
    critic_learning_rate: LearningRate = 6.5e-4
    """Adam's step size for V."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of V's hidden layers."""

    def __post_init__(self):
        super().__post_init__()
        if self.least_std > self.largest_std:
            raise ReverieError(f"least_std = {self.least_std} exceeds largest_std = {self.largest_std}")

    def init(self, key, spec: Spec) -> OnPolicyState:
        flow_key, noise_key, critic_key = jax.random.split(key, 3)
        size = spec.observation_dim + spec.action_dim + 1
        noise = MLP(noise_key, size, spec.action_dim, hidden=self.noise_hidden)
        actor = Optimised.create(NoisyFlow(self.flow_network(flow_key, spec), noise), self.optimiser)
        return OnPolicyState(actor, self.init_critic(critic_key, spec), None)

    def init_from(self, key, spec: Spec, other, state) -> OnPolicyState:
        """With the run's flow. Raises RunError for a run of another kind."""
        flow, fresh = behaviour_of(self, FlowActor, other, state), self.init(key, spec)
        actor = NoisyFlow(flow, fresh.actor.params.noise)
        return replace(fresh, actor=Optimised.create(actor, self.optimiser))

    def kernel_of(self, net: NoisyFlow, observation):
        """Euler's steps for the observations, with noise between the bounds."""
        low, high = jnp.log(self.least_std), jnp.log(self.largest_std)

        def kernel(row, x, x0):
            t = jnp.broadcast_to(row.start.t, (*x.shape[:-1], 1))
            way = (1 + jnp.tanh(net.noise(concatenate(observation, x, t)))) / 2
            return flow_step(row, x, x0), jnp.exp(low + (high - low) * way)

        return kernel

    def columns(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        return {"chain": (self.flow_steps + 1, spec.action_dim)}

    def explore(self, state, spec: Spec, observation, key):
        net, shape, n = state.actor.params, (*observation.shape[:-1], spec.action_dim), self.flow_steps
        denoiser, kernel = self.process.denoiser(net.flow, observation), self.kernel_of(net, observation)
        chain = draw_chain(self.process, denoiser, kernel, key, shape, nfe=n, kept=n, largest_noise=LARGEST_NOISE)
        return chain[..., -1, :], {"chain": chain}

    def recalled(self, state, rows):
        return {"log_prob": self.log_prob(state.actor.params, rows["observations"], rows["chain"])[0]}

    def log_prob(self, net: NoisyFlow, observation, chain) -> tuple[jax.Array, jax.Array]:
        """Of chains `[n, flow_steps + 1, action]`, the first noise among their states, a mean over all of a chain's
        entries: `[n]`; and the mean logarithm of the steps' standard deviations."""
        seen = observation[..., None, :]
        denoiser, kernel = self.process.denoiser(net.flow, seen), self.kernel_of(net, seen)
        mean, std = steps_of_chain(self.process, denoiser, kernel, chain, nfe=self.flow_steps)
        first, steps = log_density(chain[..., :1, :], 0.0, 1.0), log_density(chain[..., 1:, :], mean, std)
        each = jnp.concatenate([first, steps], -2).mean((-2, -1))
        return jnp.clip(each, *LOG_DENSITY), jnp.log(std).mean()

    def policy_loss(self, actor, state, rows):
        log_prob, log_std = self.log_prob(actor, rows["observations"], rows["chain"])
        loss, metrics = clipped_surrogate(log_prob - rows["log_prob"], rows["advantages"], self.clip)
        # A Gaussian's entropy is the logarithm of its standard deviation, and a constant; the first noise's is one.
        entropy = log_std * self.flow_steps / (self.flow_steps + 1)
        return loss - self.entropy * entropy, metrics | {"step_std": jnp.exp(log_std)}

    def choose(self, state, spec: Spec, observation, key):
        noise = jax.random.normal(key, (*observation.shape[:-1], spec.action_dim))
        return self.integrate(state.actor.params.flow, observation, noise)
