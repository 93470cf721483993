"""PettingZoo's parallel environments as one environment of Gymnasium, with an axis of agents."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.errors import ReverieError

Script = Callable[[Any, str], np.ndarray]
"""What an agent that does not learn does: (the parallel environment, its name) -> action."""


class Joint(gymnasium.Env):
    """A team in a parallel environment.

    Observations are the agents' vectors, float32 `[A, d]`, actions likewise `[A, action]`; agents of fewer numbers than
    others have zeros to the right of theirs, `observation_sizes` and `action_sizes` say how many. The reward is the sum
    of the team's, or what else `reward` makes of them; the info has each agent's own, `rewards` float32 `[A]`. An
    episode ends when it does for any of the team, which must be there until then.
    """

    def __init__(
        self,
        env: Any,
        name: str,
        limit: int | None,
        *,
        team: Sequence[str] = (),
        others: Script | None = None,
        reward: Callable[[list[float]], float] = sum,
    ):
        """`env` is PettingZoo's `ParallelEnv`, `limit` the steps of an episode. `team` are the agents that act, all if
        none is named; the others do as their script says.

        Raises ReverieError for an agent that is not there, for others without a script, and for observations or actions
        that are no vectors of continuous numbers.
        """
        self.env, self.others, self.spec = env, others, EnvSpec(name, max_episode_steps=limit)
        self.reward = reward
        self.team = tuple(team or env.possible_agents)
        if missing := [agent for agent in self.team if agent not in env.possible_agents]:
            raise ReverieError(f"{name} has no agent {missing[0]!r}; it has {', '.join(env.possible_agents)}.")
        self.rest = tuple(agent for agent in env.possible_agents if agent not in self.team)
        if self.rest and others is None:
            raise ReverieError(
                f"Nobody acts for {self.rest[0]!r} in {name}; give `others` a script, or add it to the team."
            )
        seen, done = ([space(agent) for agent in self.team] for space in (env.observation_space, env.action_space))
        for what, spaces in (("observations", seen), ("actions", done)):
            _check(name, what, spaces, self.team)
        self.observation_sizes, self.action_sizes = ([space.shape[0] for space in each] for each in (seen, done))
        self.observation_space, self.action_space = _box(seen), _box(done)

    @property
    def own_actions(self) -> np.ndarray:
        """True where an action is the agent's own and no filling: bool `[A, action]`."""
        return np.arange(self.action_space.shape[1]) < np.array(self.action_sizes)[:, None]  # type: ignore[index]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        seen, _ = self.env.reset(seed=seed, options=options)
        return self._joined(seen), {"rewards": np.zeros(len(self.team), np.float32)}

    def step(self, action: ArrayLike) -> Any:
        rows = zip(self.team, np.asarray(action, np.float32), self.action_sizes, strict=True)
        actions = {agent: row[:size] for agent, row, size in rows}
        if self.others is not None:
            actions |= {agent: self.others(self.env, agent) for agent in self.rest if agent in self.env.agents}
        seen, *told = self.env.step(actions)
        rewards, ended, cut = ([each[agent] for agent in self.team] for each in told[:3])
        info = {"rewards": np.array(rewards, np.float32)}
        return self._joined(seen), float(self.reward(rewards)), any(ended), any(cut), info

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _joined(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        found = np.zeros((len(self.team), max(self.observation_sizes)), np.float32)
        for i, (agent, size) in enumerate(zip(self.team, self.observation_sizes, strict=True)):
            found[i, :size] = seen[agent]
        return found


def _check(name: str, what: str, spaces: Sequence[Any], team: Sequence[str]) -> None:
    for agent, space in zip(team, spaces, strict=True):
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ReverieError(f"{agent!r} of {name} has {what} {space}; only vectors of continuous numbers work.")


def _box(spaces: Sequence[Any]) -> Box:
    """All agents': what one has not is filled by numbers from the lowest bound to the highest of any."""
    width = max(space.shape[0] for space in spaces)
    low = np.full((len(spaces), width), min(space.low.min() for space in spaces), np.float32)
    high = np.full((len(spaces), width), max(space.high.max() for space in spaces), np.float32)
    for i, space in enumerate(spaces):
        low[i, : space.shape[0]], high[i, : space.shape[0]] = space.low, space.high
    return Box(low, high, dtype=np.float32)
