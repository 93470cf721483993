"""A Gymnasium wrapper whose episodes are those that a model of configurations proposes for whoever plays them."""

from typing import Any

import gymnasium
import jax
import numpy as np

from reverie.errors import ReverieError
from reverie.roles.simulation import GenerativeSimulation, Proposals, Space, State


class Proposing(gymnasium.Wrapper):
    """Every reset takes the next configuration that was proposed; every episode's end is remembered. None is proposed
    twice.

    After `refit_every` episodes the model of success learns from the last `memory` of them, and other configurations
    are proposed. `reset(options={"configuration": ...})` plays another, which is remembered as well.

    Args:
        env: takes `reset(options={"configuration": ...})` and has "success" in the info of an episode's last step.
        run: of GenerativeSimulation; it is not changed.
        space: how its configurations are encoded, such as `environments.gridmaze`.
        success: the probability that is asked for; None for any.
        batch: configurations that are proposed at a time.
        refit_every: episodes between two calls of `refit`; 0 for none.
        updates: of the model of success, in a refit.
        memory: episodes that it learns from, at most.
        seed: of the proposals and of the refits.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        run: Any,
        space: Space,
        *,
        success: float | None = 0.5,
        batch: int = 64,
        refit_every: int = 0,
        updates: int = 200,
        memory: int = 4096,
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        self.algorithm: GenerativeSimulation = run.algorithm
        self.state: State = run.state()
        self.model_spec, self.space, self.target, self.batch = run.spec, space, success, batch
        self.refit_every, self.updates, self.key = refit_every, updates, jax.random.key(seed)
        self.x, self.won = np.zeros((memory, run.spec.action_dim), np.float32), np.zeros(memory, np.float32)
        self.episodes = 0
        """That have ended."""
        self.waiting: list[np.ndarray] = []
        self.configuration: np.ndarray | None = None
        self.proposals: list[Proposals] = []
        """All so far."""
        self.seen = self.algorithm.known(run.spec, space)
        """The data's configurations and all that were proposed, by their `tobytes`."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        options = dict(options or {})
        if "configuration" not in options:
            options["configuration"] = self.next_configuration()
        self.configuration = np.asarray(options["configuration"])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        seen, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self.record(info)
        return seen, reward, terminated, truncated, info

    def next_configuration(self) -> np.ndarray:
        """The next that was proposed; others are proposed where none waits."""
        if not self.waiting:
            self.key, now = jax.random.split(self.key)
            given = (self.state, self.model_spec, self.space, now, self.batch, self.target)
            made = self.algorithm.propose(*given, self.seen)
            self.seen |= {each.tobytes() for each in made.configurations}
            self.proposals.append(made)
            self.waiting = list(made.configurations)
        return self.waiting.pop(0)

    def record(self, info: dict[str, Any]) -> None:
        """Remember how the episode ended. Raises ReverieError where the environment does not say."""
        if "success" not in info:
            raise ReverieError("The environment's info has no 'success', of which proposals are made; add it.")
        if self.configuration is None:
            return
        place = self.episodes % len(self.won)
        self.x[place], self.won[place] = self.space.encode(self.configuration[None])[0], float(info["success"])
        self.episodes, self.configuration = self.episodes + 1, None
        if self.refit_every and self.episodes % self.refit_every == 0:
            self.refit()

    def refit(self) -> None:
        """Learn what the policy can do now; what was proposed before and not played is dropped. Raises ReverieError
        before the first episode has ended."""
        if not self.episodes:
            raise ReverieError("No episode has ended, so there is nothing to learn success from; play one first.")
        self.key, now = jax.random.split(self.key)
        count = min(self.episodes, len(self.won))
        self.state = self.algorithm.refitted(self.state, self.model_spec, self.x, self.won, count, now, self.updates)
        self.waiting = []
