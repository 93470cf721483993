"""PPO (Schulman et al. 2017, "Proximal Policy Optimization Algorithms"), with what makes it work in MuJoCo.

That is: observations and rewards in running units, orthogonal weights and a small last layer, advantages of unit
variance in every minibatch.

Beside the best known implementations: V's loss is not clipped, V has an optimiser of its own, and there is no bonus for
entropy, whose weight they have at 0 here.
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised
from reverie.networks import MLP
from reverie.rl import Normal, OnPolicyActor, OnPolicyState, Running, clipped_surrogate, orthogonal_mlp
from reverie.settings import NonNegative


class GaussianPolicy(eqx.Module):
    """`[..., observation]` to a Gaussian over actions whose standard deviation is one for all states."""

    net: MLP
    log_std: jax.Array

    def __call__(self, observation) -> Normal:
        mean = self.net(observation)
        return Normal(mean, jnp.broadcast_to(jnp.exp(self.log_std), mean.shape))


@dataclass(frozen=True)
class PPO(Hidden, OnPolicyActor):
    """PPO: a Gaussian policy and V, learned from one round of steps after another."""

    name: ClassVar = "ppo"
    role: ClassVar = "baseline"
    paper: ClassVar = "Schulman et al. 2017"

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    gradient_clip: NonNegative = 0.5
    """Largest norm of a gradient; 0 for any."""
    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1 in the warm-up already."""

    def init(self, key, spec: Spec) -> OnPolicyState:
        actor_key, critic_key = jax.random.split(key)
        net = orthogonal_mlp(actor_key, spec.observation_dim, spec.action_dim, hidden=self.hidden, gain=0.01)
        policy = GaussianPolicy(net, jnp.zeros(spec.action_dim))
        actor = Optimised.create(policy, self.optimiser)
        return OnPolicyState(actor, self.init_critic(critic_key, spec), Running.of(spec.observation_dim))

    def columns(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        return {"sample": (spec.action_dim,), "log_prob": ()}

    def explore(self, state, spec: Spec, observation, key):
        policy = state.actor.params(observation)
        sample = policy.sample(key)
        return sample, {"sample": sample, "log_prob": policy.log_prob(sample)}

    def policy_loss(self, actor, state, rows):
        policy = actor(rows["observations"])
        log_ratio = policy.log_prob(rows["sample"]) - rows["log_prob"]
        loss, metrics = clipped_surrogate(log_ratio, rows["advantages"], self.clip)
        return loss, metrics | {"std": policy.std.mean()}

    def choose(self, state, spec: Spec, observation, key):
        return state.actor.params(observation).mode
