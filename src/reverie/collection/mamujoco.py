"""Multi-agent MuJoCo's data: what one agent did with a whole body, as what a team saw and did.

In the papers' sets a team acts that was trained as one. Here an agent that sees the whole body moves all joints, so
that its team's agents act by more than each of them is shown.
"""

from dataclasses import dataclass
from typing import Any

from reverie.collection.locomotion import MEDIUM, Rollouts, shipped
from reverie.collection.recipe import Entry, Rows, Suite
from reverie.data import Dataset
from reverie.environments.mamujoco import BODIES, whose


@dataclass(frozen=True)
class Split(Rollouts):
    """The rollouts of the body's agents, cut up."""

    team: str = "mamujoco-halfcheetah"

    @property
    def task(self) -> str:
        return self.team.removeprefix("mamujoco-")

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        seen, done = whose(self.team)
        split: Any = {name: rows[name] for name in ("rewards", "terminals", "timeouts")}
        split |= {name: rows[name][:, seen] for name in ("observations", "next_observations")}
        split |= {"actions": rows["actions"][:, done]}
        bounds = {name: rows[name][0][done] for name in ("action_low", "action_high")}
        about = {"name": self.name, "environment": self.team, "agents": list(self.agents), "steps": steps, "seed": seed}
        return Dataset.from_arrays(**split, **bounds, attributes=about)


def suite() -> Suite:
    found = {}
    for team in BODIES:
        agents = shipped(team.removeprefix("mamujoco-"))
        kinds = {"medium": (MEDIUM,), "mixture": agents}
        for kind, chosen in kinds.items():
            about = f"the agents of {', '.join(map(str, chosen))} % move the whole body, of which each sees its part"
            found[f"{team}-{kind}"] = Entry(
                Split(f"{team}-{kind}", "HalfCheetah-v5", chosen, team=team), 1_000_000, about, 110, 3
            )
    return Suite("Multi-agent MuJoCo: a body's agents as a team", "Gymnasium (MIT), MuJoCo (Apache-2.0)", found)
