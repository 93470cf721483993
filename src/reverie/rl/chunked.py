"""Actions that are chosen several at once, as one, and executed in a row: for any method that learns a Q."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reverie.data import ChunkReplay, Dataset, Spec, chunk_transitions
from reverie.data.fields import vector
from reverie.data.replay import Replay
from reverie.learning import where_due
from reverie.protocols import Feedback
from reverie.settings import Count
from reverie.wishes import Wishes

from .critics import ActorCritic


class Queue(NamedTuple):
    """What is being executed."""

    actions: jax.Array
    """`[n, chunk_size, action]`, in network units."""
    step: jax.Array
    """How many of them are executed, int32 `[n]`."""


@dataclass(frozen=True)
class ChunkedActions(ActorCritic):
    """A method over chunks of actions, of which it sees each as one action (Li et al. 2025): its networks, losses and
    choices are those of the class beside. Execution is open loop."""

    chunk_size: Count = 5
    """Actions that are chosen at once, and executed before the next are."""

    @property
    def successor_discount(self) -> float:
        """The successor is `chunk_size` steps away."""
        return self.discount**self.chunk_size

    def as_one(self, spec: Spec) -> Spec:
        """The specification of chunks `[chunk_size * action]`."""
        return replace(spec, action=vector(self.chunk_size * spec.action_dim))

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or self.spec(data)
        return chunk_transitions(data, spec, self.chunk_size, self.discount), spec

    def online_view(self, replay: Replay) -> ChunkReplay:
        """What batches are drawn from online."""
        return ChunkReplay(replay, self.chunk_size, self.discount)

    def init(self, key, spec: Spec):
        return super().init(key, self.as_one(spec))  # type: ignore[misc]  # of the class beside

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Queue:
        return Queue(jnp.zeros((n, self.chunk_size, spec.action_dim)), jnp.full(n, self.chunk_size, jnp.int32))

    def act(self, state, spec: Spec, observation, carry: Queue, feedback: Feedback, key):
        due = carry.step >= self.chunk_size

        def chosen(actions):
            chunk = self.choose(state, self.as_one(spec), spec.normalise("observations", observation), key)
            return chunk.reshape(actions.shape)

        new = where_due(due.any(), chosen, carry.actions)
        actions, step = jnp.where(due[:, None, None], new, carry.actions), jnp.where(due, 0, carry.step)
        action = jnp.take_along_axis(actions, step[:, None, None], 1)[:, 0]
        return spec.denormalise("actions", jnp.clip(action, -1, 1)), Queue(actions, step + 1)
