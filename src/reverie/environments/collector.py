"""Environments in which agents go on and on, stepped together: what online training lives on."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.environments.registry import make
from reverie.errors import ReverieError

if TYPE_CHECKING:
    import gymnasium


class Collector:
    """E environments for each of S seeds; an episode that ends is followed by the next one."""

    def __init__(
        self,
        env: "str | Callable[[], gymnasium.Env]",
        seeds: tuple[int, ...],
        envs: int,
        entropy: int = 0,
        signals: tuple[str, ...] = ("reward", "cost"),
    ):
        """The environments of seed s start as (s, number, `entropy`) says, whichever other seeds there are. `signals`
        are what the feedback of a step has: "reward", "cost" and entries of the environment's info.

        Raises ReverieError for an unknown environment, or one whose observations or actions are no vectors of
        continuous numbers.
        """
        from gymnasium.vector import AutoresetMode, SyncVectorEnv

        self.seeds, self.envs = seeds, envs
        makers = [partial(make, env)] * (len(seeds) * envs)
        self.all = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        space: Any = self.all.single_action_space
        self.name = env if isinstance(env, str) else _name(self.all.envs[0])
        check_vectors(self.all.single_observation_space, space, self.name)
        self.low, self.high = space.low, space.high
        starts = [np.random.SeedSequence([s, e, entropy]).generate_state(1) for s in seeds for e in range(envs)]
        observations, _ = self.all.reset(seed=[int(start[0]) for start in starts])
        self.observations = self._by_seed(observations)
        self.returns = np.zeros((len(seeds), envs))
        self.ends = np.zeros((len(seeds), envs), bool)
        """Whether the episode has ended with the last step, and another has begun: `[S, E]`."""
        self.feedback = {name: np.zeros((len(seeds), envs), np.float32) for name in signals}
        """What the last step brought, `[S, E]` each; 0 at an episode's start."""
        self.has_costs: bool | None = None
        """Whether steps have `costs`: where the first of all has info["cost"]."""
        self.ended: list[list[float]] = [[] for _ in seeds]
        """For every seed the returns of the episodes that have ended, in the order of their ends."""

    def random_actions(self, rngs: list[np.random.Generator]) -> np.ndarray:
        """Uniform in the bounds, by one generator a seed: `[S, E, action]`."""
        return np.stack([rng.uniform(self.low, self.high, (self.envs, *self.low.shape)) for rng in rngs])

    def step(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """One step of all environments with the actions `[S, E, action]`, clipped to their bounds: the transitions
        `[S, E, ...]` as a data set has them, with `costs` where the environment reports info["cost"].

        Raises ReverieError where it does so, but not from the first step on.
        """
        before = self.observations
        # A sample near a bound may round across it.
        actions = np.clip(np.asarray(actions, np.float32), self.low, self.high)
        stepped: Any = self.all.step(actions.reshape(-1, *self.low.shape))
        after, rewards, terminals, timeouts = (self._by_seed(each) for each in stepped[:4])
        self.observations = after
        ends = terminals | timeouts
        if ends.any():
            after = after.copy()
            # The last observation of an episode, in whose place the next one's first came.
            after[ends] = np.stack(stepped[4]["final_obs"][ends.reshape(-1)]).astype(np.float32)
        self._note(rewards, ends)
        brought = {**stepped[4], "reward": rewards.reshape(-1)}
        for name in self.feedback:
            value = self._by_seed(np.asarray(brought.get(name, np.zeros(ends.size)), np.float32))
            self.feedback[name] = np.where(ends, np.float32(0), value)
        self.ends = ends
        return {
            "observations": before,
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "next_observations": after,
            "terminals": terminals,
            "timeouts": timeouts & ~terminals,
            **self._costs(stepped[4], ends),
        }

    def _costs(self, infos: dict[str, Any], ends: np.ndarray) -> dict[str, np.ndarray]:
        """Float32 `[S, E]`; a step that reports none costs 0. That of an episode's last step is in "final_info", as
        the other infos are of the next one's start."""
        costs, found = np.zeros(ends.size, np.float32), np.zeros(ends.size, bool)
        for each, there in ((infos, ~ends), (infos.get("final_info", {}), ends)):
            if "cost" in each:
                own = there.reshape(-1) & each["_cost"]
                costs[own], found[own] = each["cost"][own], True
        if self.has_costs is None:
            self.has_costs = bool(found.any())
        if found.any() and not self.has_costs:
            raise ReverieError(
                f"{self.name} reports info['cost'], but did not in its first step; report it in every step, with 0 "
                "where there is none."
            )
        return {"costs": costs.reshape(ends.shape)} if self.has_costs else {}

    def steps(self, choose: Callable[[np.ndarray], np.ndarray], n: int) -> dict[str, np.ndarray]:
        """n steps of every environment, whose actions `choose(observations [S, E, ...])` gives: `[S, n, E, ...]`."""
        made = [self.step(choose(self.observations)) for _ in range(n)]
        return {name: np.stack([each[name] for each in made], axis=1) for name in made[0]}

    def _note(self, rewards: np.ndarray, ends: np.ndarray) -> None:
        self.returns += rewards
        for s, e in np.argwhere(ends):
            self.ended[s].append(float(self.returns[s, e]))
        self.returns[ends] = 0

    def _by_seed(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        x = x.astype(np.float32) if x.dtype == np.float64 and x.ndim > 1 else x
        return x.reshape(len(self.seeds), self.envs, *x.shape[1:])

    def close(self) -> None:
        self.all.close()


def _name(env: Any) -> str:
    """As it is registered, or its class's."""
    return getattr(env.spec, "id", type(env.unwrapped).__name__)


def check_vectors(observations: Any, actions: Any, name: str) -> None:
    """Raise ReverieError where observations or actions are no vectors of continuous numbers."""
    from gymnasium.spaces import Box

    for what, space in (("observations", observations), ("actions", actions)):
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ReverieError(
                f"{name} has {what} {space}; agents learn online from vectors of continuous numbers only."
            )
