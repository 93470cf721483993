"""What an algorithm, an actor, an explorer and a synthesizer are: the functions that the rest of the library calls.

A class that has them is one, whatever it inherits from. State, batch and carry are pytrees of the method's own; shapes
with `n` are of environments side by side. Every random choice comes from the `key`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax

from reverie.data import Dataset, Spec
from reverie.learning import Stage
from reverie.wishes import Wish, Wishes

Metrics = dict[str, jax.Array]
"""Scalars of one update, by name."""
Feedback = Mapping[str, jax.Array]
"""What the last step brought, `[n]` each: "reward", "cost", and the step's further signals; zeros before the first."""


class Method(Protocol):
    """What everything in the catalogue has: it is configured, prepares data, and begins with a state."""

    name: ClassVar[str]
    """As on the command line."""
    role: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """What the data must have beside observations and actions."""

    @property
    def batch_size(self) -> int: ...

    def prepare(self, data: Dataset, spec: Spec | None = None) -> tuple[Any, Spec]:
        """The view that batches are drawn from, and the specification; with `spec`, that one is used, not a new one.

        Raises DataError where the data lacks what the method needs.
        """

    def init(self, key: jax.Array, spec: Spec) -> Any:
        """The state before the first update: a pytree of arrays."""


@runtime_checkable
class Learner(Method, Protocol):
    """A method whose updates are all of a kind."""

    def update(self, state: Any, batch: Any, key: jax.Array) -> tuple[Any, Metrics] | tuple[Any, Metrics, Any]:
        """One update: the new state and its metrics. A third value are columns `[B, ...]` by name that are written back
        into the rows that the batch was drawn from (its `index`)."""


@runtime_checkable
class Staged(Method, Protocol):
    """A method whose updates are of several kinds, one after another."""

    @property
    def stages(self) -> tuple[Stage, ...]: ...


Algorithm = Learner | Staged


@runtime_checkable
class Actor(Protocol):
    """A method that acts. What it remembers from one step to the next is in the carry, a row an environment."""

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Any:
        """The carry before an episode's first step; every leaf's first axis is the n environments."""

    def act(
        self, state: Any, spec: Spec, observation: Any, carry: Any, feedback: Feedback, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Actions `[n, action_dim]` for observations `[n, ...]`, both in the environment's units, and the new carry."""


@runtime_checkable
class Wishing(Actor, Protocol):
    """An actor that can be asked for something."""

    def wishes(self, spec: Spec) -> Mapping[str, Wish]:
        """What it can be asked for."""


@runtime_checkable
class Rewishing(Wishing, Protocol):
    """An actor that can be asked for something else in the middle of an episode."""

    def rewish(self, carry: Any, wishes: Wishes) -> Any:
        """The carry once other things are asked for."""


@runtime_checkable
class Signalled(Actor, Protocol):
    """An actor that is told more of a step than reward and cost."""

    signals: ClassVar[tuple[str, ...]]
    """Names of the environment's further signals, numbers in a step's info; in the feedback under these names."""


@runtime_checkable
class Noticing(Actor, Protocol):
    """An actor that may have something to say of what it did."""

    def notice(self, carry: Any) -> None:
        """On the host, after a step: warn where the carry gives reason to."""


@runtime_checkable
class GoalReaching(Actor, Protocol):
    """An actor that sees a goal beside the observation: {"observation": [n, ...], "desired_goal": [n, ...]}."""

    goals: ClassVar[bool]
    """True."""


@runtime_checkable
class GoalSizing(GoalReaching, Protocol):
    """One whose goals are no whole observations."""

    def goal_dim(self, spec: Spec) -> int:
        """Numbers of a goal; whole observations, which begin with one, will do as well."""


@runtime_checkable
class Planning(Actor, Protocol):
    """An actor that keeps plans of observations, which can be looked at."""

    def planned(self, spec: Spec, observation: Any, carry: Any) -> jax.Array:
        """The plans that the carry holds after acting on observations `[n, ...]`, in the environment's units: `[n, T,
        *observation]`, or of each observation the first columns. The first row is where they begin."""


@runtime_checkable
class Explorer(Actor, Protocol):
    """An actor that learns online."""

    @property
    def exploring(self) -> Actor:
        """How it acts while it collects data."""


@runtime_checkable
class Warming(Explorer, Protocol):
    """An explorer that has another way to act before its first update, where it begins from another method's run."""

    @property
    def warming(self) -> Actor:
        """How it acts in the warm-up."""


@runtime_checkable
class ChecksOnline(Explorer, Protocol):
    """An explorer that not all settings of online training suit."""

    def check_online(self, online: Any) -> None:
        """Raise RunError for settings (`training.Online`) by which it would not learn as it should."""


@runtime_checkable
class InOrder(Explorer, Protocol):
    """An explorer that learns from several steps in a row."""

    def online_view(self, replay: Any) -> Any:
        """What batches are drawn from, of a `data.replay.Replay`, whose rows of an environment are in time order."""


@runtime_checkable
class Writing(Protocol):
    """A method whose updates change the replay that it learns from: `update` has a third value, these columns' rows."""

    writes: ClassVar[tuple[str, ...]]


@runtime_checkable
class Copying(Protocol):
    """A method whose replay has columns that begin as copies of others."""

    copies: ClassVar[Mapping[str, str]]
    """The columns' names, and those others'."""


@runtime_checkable
class OnPolicy(Explorer, Protocol):
    """An explorer that learns from what its present policy does, a round of steps at a time, and from each step once.

    Its `update` gets the whole round as the batch, in time order: `observations, actions, rewards, next_observations,
    terminals, timeouts` (float32, 1 where an episode ends with its task, or is cut) and what was `recorded`, all
    `[T, E, ...]` of T steps in E environments, in network units.
    """

    def recorded(self, carry: Any) -> dict[str, jax.Array]:
        """What acting left in the carry to learn from the step by, such as the action's log-probability: `[n, ...]`."""


@runtime_checkable
class Synthesizer(Protocol):
    """A method that makes data."""

    def chunks(self, state: Any, spec: Spec, key: jax.Array, n: int, start: int = 0) -> Iterator[Dataset]:
        """Rows start, ..., n - 1, a chunk at a time; chunk i depends on the state and `fold_in(key, i)` alone."""


@runtime_checkable
class Divisible(Synthesizer, Protocol):
    """A synthesizer whose chunks can be made apart from each other, by several processes."""

    def pieces(self, n: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """The chunks of rows start, ..., n - 1: the first row of each, and the one after its last. `chunks` can begin
        at each of them."""


@runtime_checkable
class Computed(Synthesizer, Protocol):
    """A synthesizer that says what of a chunk is computed on the device."""

    def computed(self, state: Any, spec: Spec, key: jax.Array) -> Any:
        """Pure; reads of the state all that `chunks` reads. A run's file then has that, and no more."""


@runtime_checkable
class Successor(Protocol):
    """A method whose training may begin from a run of another method: fine-tuning, distillation."""

    def init_from(self, key: jax.Array, spec: Spec, other: Any, state: Any) -> Any:
        """The state before the first update, from the `state` that a seed of the run `other` has learned.

        `other` has the algorithm and the specification, in whose units that state's networks work.
        """


@runtime_checkable
class Tuner(Successor, Protocol):
    """A successor that goes on in the units of the run that it begins from, but for rewards where that is of another
    method, and always needs one."""

    begins_from: ClassVar[str]
    """That run, in words: "a run of diffusion-bc"."""
