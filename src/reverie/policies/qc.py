"""Q-chunking (Li, Zhou & Levine 2025): Q-learning over chunks of actions.

A chunk counts as one action, so that a td_target reaches as many steps ahead, and none of them is off the policy. QC
acts by the best of N chunks of a flow of the behaviour; QC-FQL is flow Q-learning over chunks.
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.learning import Optimised
from reverie.policies.fql import FQL
from reverie.rl import ChunkedActions, Critic, FlowActor, SamplingExplorer, select
from reverie.settings import Acting, Count, NonNegative


class State(eqx.Module):
    flow: Optimised
    critic: Critic


@dataclass(frozen=True)
class QC(FlowActor, ChunkedActions, SamplingExplorer):
    """Q-chunking: the best by Q of N chunks of the behaviour, in acting as in the td_target."""

    name: ClassVar = "qc"
    role: ClassVar = "policy"
    paper: ClassVar = "Li et al. 2025"

    critic_hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the critics' hidden layers."""
    candidates: Acting[Count] = 32
    """Chunks drawn, of which the best is taken."""

    def init(self, key, spec: Spec) -> State:
        flow_key, critic_key = jax.random.split(key)
        spec = self.as_one(spec)
        flow = self.flow_network(flow_key, spec)
        return State(Optimised.create(flow, self.optimiser), self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        next_key, flow_key = jax.random.split(key)
        then = batch["next_observations"]
        next_actions = self.best(state, then, next_key, batch["actions"].shape[-1])
        critic, metrics = self.learn_q(state.critic, batch, state.critic.target(then, next_actions).mean(0))
        flow, loss = state.flow.minimise(lambda flow: self.flow_loss(flow, batch, flow_key), self.optimiser)
        return State(flow, critic), metrics | {"flow_loss": loss}

    def best(self, state: State, observation, key, size: int) -> jax.Array:
        """Of N chunks of the behaviour that whose Q, the critics' mean, is the largest: `[..., size]`."""
        chunks = self.flow_candidates(state.flow.params, observation, key, self.candidates, size)
        return select(chunks, state.critic.online.params(observation[..., None, :], chunks).mean(0))

    def choose(self, state: State, spec: Spec, observation, key):
        return self.best(state, observation, key, spec.action_dim)


@dataclass(frozen=True)
class QCFQL(ChunkedActions, FQL):
    """Flow Q-learning over chunks: a one-step policy of chunks that maximises Q and stays near the behaviour's flow."""

    name: ClassVar = "qc-fql"
    paper: ClassVar = "Li et al. 2025"

    alpha: NonNegative = 100.0
    """Weight of the distillation loss; the authors choose it by task, and 100 in their code."""
