"""FPO (McAllister et al. 2025, "Flow Matching Policy Gradients"): PPO for a flow policy, without a likelihood.

The flow matching loss of an action bounds its negative log-likelihood. So PPO's ratio is the exponential of how much
that loss has fallen since the action was taken, at the same noises and times, which are kept with the action. The flow
explores by the noise that it begins with.

The policy is learned from nothing here, in running units as PPO's is. Evaluation begins at noise 0 (as in FPO++).

Beside the released code: gradients are clipped, the flow sees the time as it is (there by eight sines and cosines),
weights begin as PyTorch's (there uniform by LeCun's variance), and a minibatch is of single steps (there of 1024 pieces
of 30 steps each). Advantages are GAE's, once a round; there each minibatch has its own, by V as it is then, of another
recursion: an advantage is the reward and the lambda-return after it, less V.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import sample
from reverie.learning import Optimised
from reverie.networks import torch_default
from reverie.rl import FlowActor, OnPolicyActor, OnPolicyState, Running, clipped_surrogate
from reverie.settings import Count, Fraction, NonNegative, Positive

OUTPUT_SCALE = 0.25
"""Of the network's velocities (released code): the flow begins near doing nothing."""


@dataclass(frozen=True)
class FPO(FlowActor, OnPolicyActor):
    """FPO: a flow policy learned online, whose flow matching loss stands in for a likelihood in PPO's ratio."""

    name: ClassVar = "fpo"
    role: ClassVar = "policy"
    paper: ClassVar = "McAllister et al. 2025"
    activation: ClassVar = staticmethod(jax.nn.silu)
    initialiser: ClassVar = staticmethod(torch_default)
    critic_activation: ClassVar = staticmethod(jax.nn.silu)

    hidden: tuple[int, ...] = (32, 32, 32, 32)
    """Widths of the flow's hidden layers."""
    losses: Count = 8
    """Noises and times at which the loss of an action is measured."""
    clip: Positive = 0.05
    """How far the ratio may go from 1 and be of use."""
    discount: Fraction = 0.995
    """Of a reward one step later."""
    batch_size: Count = 256
    """Steps in a minibatch."""
    epochs: Count = 16
    """Times that a round is gone through."""
    critic_hidden: tuple[int, ...] = (256, 256, 256, 256, 256)
    """Widths of V's hidden layers."""
    gradient_clip: NonNegative = 0.5
    """Largest norm of a gradient; 0 for any."""
    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1 in the warm-up already."""

    def init(self, key, spec: Spec) -> OnPolicyState:
        flow_key, critic_key = jax.random.split(key)
        flow = Optimised.create(self.flow_network(flow_key, spec), self.optimiser)
        return OnPolicyState(flow, self.init_critic(critic_key, spec), Running.of(spec.observation_dim))

    def columns(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        return {"sample": (spec.action_dim,), "eps": (self.losses, spec.action_dim), "t": (self.losses,)}

    def explore(self, state, spec: Spec, observation, key):
        noise_key, eps_key, time_key = jax.random.split(key, 3)
        shape = (*observation.shape[:-1], spec.action_dim)
        action = self.end(state.actor.params, observation, jax.random.normal(noise_key, shape))
        eps = jax.random.normal(eps_key, (*shape[:-1], self.losses, spec.action_dim))
        # The times that the flow is integrated at.
        t = jax.random.randint(time_key, eps.shape[:-1], 1, self.flow_steps + 1) / self.flow_steps
        return action, {"sample": action, "eps": eps, "t": t}

    def recalled(self, state, rows):
        return {"loss": self.loss_of(state.actor.params, rows)}

    def bounded(self, action):
        """As in the released code; by a cut all that is beyond a bound would be one action."""
        return jnp.tanh(action)

    def velocity(self, flow):
        return lambda x, t, observation: OUTPUT_SCALE * flow(x, t, observation)

    def end(self, flow, observation, noise) -> jax.Array:
        """Where the flow takes the noise: `[..., action]`."""
        denoiser, unused = self.process.denoiser(self.velocity(flow), observation), jax.random.key(0)
        return sample(self.process, denoiser, unused, noise.shape, nfe=self.flow_steps, solver="euler", noise=noise)

    def matching_loss(self, flow, observation, action, eps, t) -> jax.Array:
        """Of actions `[n, action]` at noises `[n, losses, action]` and times `[n, losses]`: `[n]`, a mean over both and
        over the action's entries. The error is that of the noise that the velocity tells, as in the released code."""
        x = self.process.perturb(action[..., None, :], t, eps)
        velocity = self.velocity(flow)(x, t, observation[..., None, :])
        found = x + (1 - t[..., None]) * velocity
        return jnp.square(found - eps).mean((-2, -1))

    def loss_of(self, flow, rows) -> jax.Array:
        """Of a round's rows `[B, ...]`: `[B]`."""
        return self.matching_loss(flow, *(rows[name] for name in ("observations", "sample", "eps", "t")))

    def policy_loss(self, actor, state, rows):
        loss = self.loss_of(actor, rows)
        surrogate, metrics = clipped_surrogate(rows["loss"] - loss, rows["advantages"], self.clip)
        return surrogate, metrics | {"flow_loss": loss.mean()}

    def choose(self, state, spec: Spec, observation, key):
        return self.end(state.actor.params, observation, jnp.zeros((*observation.shape[:-1], spec.action_dim)))
