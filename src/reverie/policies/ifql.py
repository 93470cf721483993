"""IFQL (Park, Li & Levine 2025, appendix): implicit Q-learning's critics, and the best of N samples of a flow of the
behaviour. It is IDQL with a flow.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.learning import Optimised
from reverie.rl import ChosenStatistic, FlowActor, ImplicitCritic, select
from reverie.settings import Acting, Count, Limit


class State(eqx.Module):
    flow: Optimised
    critic: ImplicitCritic


@dataclass(frozen=True)
class IFQL(FlowActor, ChosenStatistic):
    """IFQL: the behaviour's flow, sampled often, and the sample that implicit Q-learning likes best."""

    name: ClassVar = "ifql"
    role: ClassVar = "policy"
    paper: ClassVar = "Park et al. 2025"

    critic_hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the critics' hidden layers."""
    v_layer_norm: bool = True
    """Whether V's hidden layers are normalised, as in the released code."""
    expectile: Annotated[float, Limit(1e-6, 1 - 1e-6)] = 0.9
    """Of the value loss; the paper chooses 0.7 to 0.95 a task."""
    candidates: Acting[Count] = 32
    """Actions drawn to act, of which the best by Q is taken."""

    def init(self, key, spec: Spec) -> State:
        flow_key, critic_key = jax.random.split(key)
        flow = self.flow_network(flow_key, spec)
        return State(Optimised.create(flow, self.optimiser), self.init_implicit(critic_key, spec))

    def update(self, state: State, batch, key):
        critic, metrics = self.learn_v(state.critic, batch)
        critic, more = self.learn_implicit_q(critic, batch)
        flow, loss = state.flow.minimise(lambda flow: self.flow_loss(flow, batch, key), self.optimiser)
        return State(flow, critic), metrics | more | {"flow_loss": loss}

    def behaviour_network(self, state: State):
        return state.flow.params

    def choose(self, state: State, spec: Spec, observation, key):
        actions = self.flow_candidates(state.flow.params, observation, key, self.candidates, spec.action_dim)
        return select(actions, state.critic.q.online.params(observation[..., None, :], actions).min(0))
