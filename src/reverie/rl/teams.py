"""Policies of several agents in a row: one network for each, or one for all together."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec
from reverie.data.agents import Team, columns, kept_sizes, team_of, team_of_spec
from reverie.data.views import Transitions
from reverie.protocols import Feedback

from .actors import Normal
from .policy import StepPolicy


class TeamActor(eqx.Module):
    """Actions of A agents, side by side: `[..., A * d] -> [..., A * action]`, or a distribution of such.

    Independent, each agent's are those of the same network for its own observation and its number; `joint`, one network
    has all agents' observations and gives all actions. Beyond an agent's own columns actions are 0, and count nothing
    in a likelihood.
    """

    net: Any
    team: Team = eqx.field(static=True)
    joint: bool = eqx.field(static=True)

    @staticmethod
    def sizes(team: Team, joint: bool) -> tuple[int, int]:
        """What `net` takes, and what it gives."""
        (observed, acted), count = team.widths, team.size
        return (count * observed, count * acted) if joint else (observed + count * (count > 1), acted)

    def __call__(self, observation) -> Any:
        lead = observation.shape[:-1]
        if self.joint:
            return self.own(self.net(own_columns(observation, self.team).reshape(observation.shape)))
        return self.own(jax.tree.map(lambda x: x.reshape(*lead, -1), self.net(told_which(observation, self.team))))

    def own(self, actions) -> Any:
        """Actions side by side, or a distribution of such, without what is beyond an agent's own columns."""
        own = columns(self.team.actions, self.team.widths[1]).reshape(-1)
        return actions.only(own) if isinstance(actions, Normal) else jnp.where(own, actions, 0)


def own_columns(observation, team: Team) -> jax.Array:
    """Observations side by side, `[..., A * d]`, apart and with 0 beyond an agent's own columns: `[..., A, d]`."""
    return _own(observation.reshape(*observation.shape[:-1], team.size, -1), team.observations)


def _own(apart, sizes: tuple[int, ...]) -> jax.Array:
    """`[..., A, d]` with 0 beyond an agent's own columns."""
    return jnp.where(columns(sizes, apart.shape[-1]), apart, 0)


def told_which(observation, team: Team) -> jax.Array:
    """The same, each with its agent's number as a one-hot: `[..., A, d + A]`; of one agent without."""
    apart = own_columns(observation, team)
    if team.size == 1:
        return apart
    who = jnp.broadcast_to(jnp.eye(team.size), (*apart.shape[:-1], team.size))
    return jnp.concatenate([apart, who], -1)


def each_agent(batch: dict[str, jax.Array], team: Team) -> dict[str, jax.Array]:
    """Transitions `[B]` of a team as `[B * A]` of its agents, each by what it sees (`told_which`) and with the team's
    reward. `own` `[B * A, action]` is 1 in the columns of an agent's actions, and 0 beyond."""
    rows = {name: jnp.repeat(batch[name], team.size, 0) for name in ("rewards", "terminals")}
    for name in ("observations", "next_observations"):
        rows[name] = told_which(batch[name], team).reshape(len(rows["rewards"]), -1)
    rows["actions"] = batch["actions"].reshape(len(rows["rewards"]), -1)
    own = columns(team.actions, team.widths[1]).astype("float32")
    return rows | {"own": jnp.tile(own, (len(batch["rewards"]), 1))}


@dataclass(frozen=True)
class TeamPolicy(StepPolicy):
    """A policy without memory of several agents, that sees their columns side by side. What is beyond an agent's own is
    0 in its batches, in network units as well, and in what it does."""

    def spec(self, data: Dataset) -> Spec:
        spec = super().spec(data)
        return replace(spec, kept=spec.kept | kept_sizes(team_of(data)))

    def prepare(self, data: Dataset, spec: Spec | None = None):
        team = team_of(data)
        view, spec = super().prepare(data, spec)
        rows = dict(view.rows)
        for name, x in rows.items():
            if x.ndim == 3:
                # A filling 0 need not be one in network units, where bounds or a mean are not symmetric.
                sizes = team.actions if name == "actions" else team.observations
                rows[name] = _own(x, sizes).reshape(len(x), -1)
        return Transitions(rows), spec

    def act(self, state, spec: Spec, observation, carry, feedback: Feedback, key):
        n = len(observation)
        seen = spec.normalise("observations", observation).reshape(n, -1)
        action = self.choose(state, spec, seen, key).reshape(n, *spec.action.shape)
        return _own(spec.denormalise("actions", jnp.clip(action, -1, 1)), team_of_spec(spec).actions), carry
