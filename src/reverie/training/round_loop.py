"""The loop of training on policy: agents of all seeds act for a round, learn from the whole of it, and forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.data.replay import in_network_units
from reverie.environments.collector import Collector
from reverie.training import loop
from reverie.training.online_loop import OnlineLoop
from reverie.training.store import Store

if TYPE_CHECKING:
    from reverie.training.online import OnlineTraining


class RoundLoop(OnlineLoop):
    """An `OnlineLoop` without a replay: what is kept of a round beyond it are the histories on the host."""

    def __init__(self, training: OnlineTraining, store: Store, env: Collector, done: int):
        self.columns: list[dict[str, np.ndarray]] = []
        """What was recorded at each step of the round so far, `[S, E, ...]`."""
        super().__init__(training, store, env, done)

    def fill(self, done: int) -> None:
        """Nothing: no replay is kept."""

    @property
    def is_its_own(self) -> bool:
        return False

    def explore(self, observations: np.ndarray) -> np.ndarray:
        actions = super().explore(observations)
        self.columns.append(jax.device_get(self.recorded))
        return actions

    def round(self) -> None:
        """Some steps in the environments, then one update with what was done in them."""
        training, online = self.training, self.training.online
        self.columns = []
        steps = self.env.steps(self.explore, online.update_interval // online.envs)
        self.note(steps)
        # As many updates as there are entries in the leading axis: the one of this round.
        batch = jax.tree.map(lambda x: x[None], self.batch(steps))
        self.states, metrics, finite = loop.advance_on(
            training.algorithm, self.states, self.each, np.uint32(self.updates), batch, seeds_by=self.seeds_by
        )
        self.learned(metrics, finite)

    def batch(self, steps: dict[str, np.ndarray]) -> dict[str, Any]:
        """The round as `OnPolicy` has it, `[S, T, E, ...]`, of its steps in the environments' units."""
        timeouts = steps["timeouts"].astype(np.float32)
        rows = in_network_units({name: x for name, x in steps.items() if name != "timeouts"}, self.spec)
        recorded = jax.tree.map(lambda *each: np.stack(each, axis=1), *self.columns)
        return rows | {"timeouts": timeouts} | recorded
