"""Behaviour cloning of several agents: each for itself by one network, or all by one that sees what all see."""

from dataclasses import dataclass
from typing import ClassVar

from reverie.baselines.bc import BC, State
from reverie.data import Spec
from reverie.data.agents import team_of_spec
from reverie.learning import Optimised
from reverie.rl import NormalActor, TeamActor, TeamPolicy


@dataclass(frozen=True)
class MABC(TeamPolicy, BC):
    """Behaviour cloning of several agents."""

    name: ClassVar = "ma-bc"

    joint: bool = False
    """Whether one network acts for all, by what all see; else each agent acts by what it sees."""

    def init(self, key, spec: Spec) -> State:
        team = team_of_spec(spec)
        net = NormalActor(key, *TeamActor.sizes(team, self.joint), per_state=True, hidden=self.hidden)
        return State(Optimised.create(TeamActor(net, team, self.joint), self.optimiser))
