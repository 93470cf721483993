"""Chunks: actions of several steps that are chosen at once, from an observation history, and executed in part.

A chunk is `[..., horizon, action]` in network units, and begins at the oldest observation of the history, as in
Diffusion Policy (Chi et al. 2023): with an observation horizon of 2, row 1 is the action for the newest observation.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Adam, Encoders
from reverie.data import Dataset, MinMax, Spec, windows
from reverie.diffusion.process import expand
from reverie.errors import ReverieError
from reverie.learning import Optimised, where_due
from reverie.networks import ObservationEncoder
from reverie.protocols import Actor, Feedback
from reverie.settings import Acting, Choices, Count, Natural, NonNegative, Settings
from reverie.wishes import Wishes


class ChunkCarry(NamedTuple):
    """What is remembered from one step to the next."""

    observations: Any
    """The observation history, in network units: `[n, observation_horizon, ...]` each."""
    rows: jax.Array
    """The chunks that are being executed `[n, horizon, action]`, in network units."""
    chosen: jax.Array
    """How many chunks each row is the average of, int32 `[n, horizon]`."""
    step: jax.Array
    """Actions executed of each chunk, int32 `[n]`; 0 where there is no chunk yet."""
    told: Any = None
    """What a method that can be asked for something was asked for, `[n, ...]` each."""


class Overlap(NamedTuple):
    """What a new chunk meets of the one that is being executed."""

    rows: jax.Array
    """The chunk before, moved so that its rows are of the new one's times: `[n, horizon, action]`."""
    frozen: jax.Array
    """Rows that are executed before the new chunk is there, bool `[n, horizon]`."""
    weight: jax.Array
    """How much each row counts: 1 where it is frozen, less the further away, 0 beyond the overlap; `[n, horizon]`."""


@dataclass(frozen=True)
class ChunkActor(Settings, Actor):
    """The frame of whatever acts by chunks. An algorithm adds `init`, `update` and `choose`.

    Networks see actions, and vectors of the observations, in [-1, 1] by the range of the data, and images as they are.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    observation_horizon: Count = 2
    """Observations that are seen: the current one and those before."""
    horizon: Count = 16
    """Actions of a chunk, from that of the oldest observation on."""
    action_horizon: Acting[Count] = 8
    """Actions that are executed of a chunk before the next one is."""
    mask_padding: bool = False
    """Whether actions beyond an episode's end are left out of the loss; else the last action stands for them."""
    chunking: Acting[Annotated[str, Choices(("replace", "ensemble"))]] = "replace"
    """What a new chunk does to the one before: it replaces it, or is averaged with all that were chosen for a step
    (temporal ensembling, Zhao et al. 2023; meant for an action horizon of 1)."""
    ensemble_decay: Acting[NonNegative] = 0.01
    """Of temporal ensembling: a chunk's weight is exp(-decay i), where i counts from the oldest."""
    inference_delay: Acting[Natural] = 0
    """Steps until a new chunk is there; meanwhile actions of the one before are executed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = (self.current, self.inference_delay, self.action_horizon)
        if sum(parts) > self.horizon:
            raise ReverieError(
                f"horizon = {self.horizon} is too short for observation_horizon - 1 + inference_delay + action_horizon "
                f"= {' + '.join(map(str, parts))} = {sum(parts)}; shorten one of them"
            )
        if self.inference_delay > self.action_horizon:
            raise ReverieError(
                f"inference_delay = {self.inference_delay} exceeds action_horizon = {self.action_horizon}: the next "
                f"chunk would be begun before this one is there"
            )

    @property
    def current(self) -> int:
        """The chunk's row of the newest observation."""
        return self.observation_horizon - 1

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or Spec.fit(data, observations=MinMax, actions=MinMax)
        view = windows(
            *(data, spec, self.horizon - self.current),
            history=self.current,
            pad="edge",
            pad_left="edge",
            columns=("observations", "actions"),
            past=("observations",),
        )
        return view, spec

    def error(self, batch, each) -> jax.Array:
        """The mean over a batch's chunks, a scalar, of what each row costs `[B, horizon]`."""
        inside = batch["mask"] if self.mask_padding else jnp.ones_like(batch["mask"])
        return (inside * each).sum() / inside.sum()

    def choose(self, state, spec: Spec, observations, overlap: Overlap, key) -> jax.Array:
        """Chunks `[n, horizon, action]` for observation histories `[n, observation_horizon, ...]`, in network units."""
        raise NotImplementedError

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> ChunkCarry:
        seen = spec.normalise("observations", spec.blank(n))
        rows, none = jnp.zeros((n, self.horizon, spec.action_dim)), jnp.zeros((n, self.horizon), jnp.int32)
        return ChunkCarry(repeated(seen, self.observation_horizon), rows, none, jnp.zeros(n, jnp.int32))

    def act(self, state, spec: Spec, observation, carry: ChunkCarry, feedback: Feedback, key):
        carry = self.seen(spec, observation, carry)
        due = (carry.step == 0) | (carry.step >= self.action_horizon)
        chosen = where_due(due.any(), lambda carry: self.next_chunk(state, spec, carry, key), carry)
        carry = jax.tree.map(lambda new, old: jnp.where(expand(due, new), new, old), chosen, carry)
        return self.action(spec, carry), carry._replace(step=carry.step + 1)

    def action(self, spec: Spec, carry: ChunkCarry) -> jax.Array:
        """That of the current step, `[n, action]` in the environment's units."""
        row = jnp.take_along_axis(carry.rows, (self.current + carry.step)[:, None, None], 1)[:, 0]
        return spec.denormalise("actions", jnp.clip(row, -1, 1))

    def seen(self, spec: Spec, observation, carry: ChunkCarry) -> ChunkCarry:
        """With the observations `[n, ...]`, in the environment's units, as the newest; before an episode's first stands
        that one again."""
        filled = repeated(spec.normalise("observations", observation), self.observation_horizon)

        def history(old, all_newest):
            moved = jnp.concatenate([old[:, 1:], all_newest[:, -1:]], 1)
            return jnp.where(expand(carry.step == 0, moved), all_newest, moved)

        return carry._replace(observations=jax.tree.map(history, carry.observations, filled))

    def anew(self, carry: ChunkCarry) -> ChunkCarry:
        """As if all of each chunk were executed, for another wish: the next action is of a new chunk, of which none of
        the old one is a part. What was seen remains."""
        return carry._replace(step=jnp.where(carry.step > 0, self.horizon, 0))

    def next_chunk(self, state, spec: Spec, carry: ChunkCarry, key) -> ChunkCarry:
        """The chunks chosen anew, and what becomes of those before."""
        overlap, chosen = self.overlap(carry)
        new = self.choose(state, spec, carry.observations, overlap, key)
        merged = self.merged(new, overlap, chosen)
        chosen = jnp.where(overlap.frozen, chosen, chosen + 1)
        return carry._replace(rows=merged, chosen=chosen, step=jnp.zeros_like(carry.step))

    def overlap(self, carry: ChunkCarry) -> tuple[Overlap, jax.Array]:
        """With chunks that are chosen now, and how many each row of the old ones is the average of."""
        step, row = carry.step[:, None], jnp.arange(self.horizon)
        known, at = row < self.horizon - step, jnp.minimum(row + step, self.horizon - 1)
        old = jnp.take_along_axis(carry.rows, at[..., None], 1)
        chosen = jnp.where((step > 0) & known, jnp.take_along_axis(carry.chosen, at, 1), 0)
        start = self.current + self.inference_delay
        weight = jnp.where(step > 0, soft_mask(start, self.horizon - step, self.horizon), 0.0)
        return Overlap(old, (step > 0) & known & (row < start), weight), chosen

    def merged(self, new, overlap: Overlap, chosen) -> jax.Array:
        """The rows that are executed: the old ones where they are frozen, and averages in temporal ensembling."""
        if self.chunking == "ensemble":
            newest = jnp.exp(-self.ensemble_decay * chosen)
            before = (1 - newest) / -jnp.expm1(-self.ensemble_decay) if self.ensemble_decay else chosen
            new = new + (before / (before + newest))[..., None] * (overlap.rows - new)
        return jnp.where(overlap.frozen[..., None], overlap.rows, new)


@dataclass(frozen=True)
class ChunkPolicy(ChunkActor, Encoders):
    """Policies of chunks that imitate."""

    role: ClassVar[str] = "imitation"


class Fitted(eqx.Module):
    """A network in training, which acts as it is."""

    net: Optimised


@dataclass(frozen=True)
class FittedChunks(Adam, ChunkPolicy):
    """Policies of chunks with one network and one loss. An algorithm adds `network`, `loss` and `choose`."""

    def network(self, key, spec: Spec) -> Any:
        raise NotImplementedError

    def loss(self, net, batch, key) -> jax.Array:
        """Of a batch, a scalar."""
        raise NotImplementedError

    def encoder(self, key, spec: Spec) -> ObservationEncoder:
        return ObservationEncoder(key, spec.observation_space, self.encoding)

    def init(self, key, spec: Spec) -> Fitted:
        return Fitted(Optimised.create(self.network(key, spec), self.optimiser))

    def update(self, state: Fitted, batch, key):
        net, value = state.net.minimise(lambda net: self.loss(net, batch, key), self.optimiser)
        return Fitted(net), {"loss": value}


def in_a_row(tokens) -> jax.Array:
    """What observations `[..., T, F]` say, side by side: `[..., T F]`."""
    return tokens.reshape(*tokens.shape[:-2], -1)


def soft_mask(start, end, horizon: int) -> jax.Array:
    """1 before `start`, falling to 0 at `end`: `[..., horizon]` for ends `[..., 1]` (Black et al. 2025, eq. 5)."""
    row, start = jnp.arange(horizon), jnp.minimum(start, end)
    ramp = jnp.clip((start - 1 - row) / (end - start + 1) + 1, 0, 1)
    return jnp.where(row < end, ramp * jnp.expm1(ramp) / jnp.expm1(1.0), 0.0)


def repeated(tree, count: int):
    """`[n, ...]` each, as `[n, count, ...]`."""
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], count, 1), tree)


__all__ = ["ChunkActor", "ChunkCarry", "ChunkPolicy", "Fitted", "FittedChunks", "Overlap", "in_a_row", "soft_mask"]
