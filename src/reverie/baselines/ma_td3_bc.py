"""TD3+BC of several agents (as in Pan et al. 2022, "Plan Better Amid Conservatism"): each acts by what it sees, and a
critic that sees what all see and do values them together. The code released for that paper has no such baseline: the
loss is TD3+BC's own, with its defaults."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.baselines.td3_bc import TD3BC
from reverie.data import Spec
from reverie.data.agents import team_of_spec
from reverie.learning import Optimised
from reverie.rl import DelayedState, DeterministicActor, QNetwork, TeamActor, TeamPolicy


@dataclass(frozen=True)
class MATD3BC(TD3BC, TeamPolicy):
    """TD3+BC of several agents, with critics of all."""

    name: ClassVar = "ma-td3-bc"
    paper: ClassVar = "Pan et al. 2022"

    def init(self, key, spec: Spec) -> DelayedState:
        actor_key, critic_key = jax.random.split(key)
        team = team_of_spec(spec)
        net = DeterministicActor(actor_key, *TeamActor.sizes(team, joint=False), hidden=self.hidden)
        actor = TeamActor(net, team, joint=False)
        critic = self.init_critic(critic_key, spec)
        return DelayedState(Optimised.create(actor, self.optimiser), actor, critic, jnp.zeros((), jnp.int32))

    def q_network(self, key, spec: Spec) -> QNetwork:
        team = team_of_spec(spec)
        return self.q_network_of(key, team.size * sum(team.widths))

    def next_actions(self, state: DelayedState, batch, key):
        return state.target.own(super().next_actions(state, batch, key))

    def distance(self, net: TeamActor, action, wanted):
        """The mean over the agents' own columns; beyond them both are 0."""
        return jnp.square(action - wanted).sum(-1).mean() / sum(net.team.actions)
