"""CQL (Kumar et al. 2020, "Conservative Q-Learning for Offline Reinforcement Learning"), the variant CQL(H)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Adam
from reverie.data import Spec
from reverie.rl import Critic, QNetwork, SoftActor, SoftActorCritic, conservatism
from reverie.settings import Count, LearningRate, NonNegative


class State(eqx.Module):
    actor: SoftActor
    critic: Critic


@dataclass(frozen=True)
class CQL(SoftActorCritic):
    """CQL: soft actor-critic whose Q is pushed down everywhere and up at the data's actions."""

    name: ClassVar = "cql"
    role: ClassVar = "baseline"
    paper: ClassVar = "Kumar et al. 2020"

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    actor_learning_rate: LearningRate = 3e-5
    """Adam's step size for the actor and its temperature: a tenth of the critics', so that it does not run after their
    errors. CORL's, in locomotion."""
    conservative_weight: NonNegative = 5.0
    """Alpha of the paper; 5 to 10 in locomotion."""
    sampled_actions: Count = 10
    """Actions of each kind (uniform, of the policy here, of the policy at the next state) for the log-sum-exp."""

    @property
    def optimiser(self):
        """The actor's."""
        return Adam(
            learning_rate=self.actor_learning_rate, decay_updates=self.decay_updates, gradient_clip=self.gradient_clip
        ).optimiser

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        return State(self.init_actor(actor_key, spec), self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        """Without the entropy in the target, and without the Lagrangian that tunes alpha, as in most released runs."""
        next_key, penalty_key, actor_key = jax.random.split(key, 3)
        next_actions, _ = state.actor.policy.params(batch["next_observations"]).sample_and_log_prob(next_key)
        next_value = state.critic.target(batch["next_observations"], next_actions).min(0)
        candidates, log_density = self.candidates(state, batch, penalty_key)

        def penalty(q: QNetwork):
            return self.conservative_weight * conservatism(q, batch, candidates, log_density)

        critic, metrics = self.learn_q(state.critic, batch, next_value, penalty)
        actor, more = self.learn_actor(state.actor, critic.online.params, batch, actor_key)
        return State(actor, critic), metrics | more

    def candidates(self, state: State, batch, key):
        """Actions [3n, B, action] and their log densities [3n, B]: uniform, and the policy's at s and at s'."""
        uniform_key, here_key, next_key = jax.random.split(key, 3)
        shape = (self.sampled_actions,)
        uniform = jax.random.uniform(uniform_key, shape + batch["actions"].shape, minval=-1, maxval=1)
        flat = jnp.full(uniform.shape[:-1], -math.log(2) * uniform.shape[-1])
        policy = state.actor.policy.params
        here = policy(batch["observations"]).sample_and_log_prob(here_key, shape)
        there = policy(batch["next_observations"]).sample_and_log_prob(next_key, shape)
        actions, densities = zip((uniform, flat), here, there, strict=True)
        return jax.lax.stop_gradient((jnp.concatenate(actions), jnp.concatenate(densities)))

    def choose(self, state, spec, observation, key):
        return state.actor.policy.params(observation).mode
