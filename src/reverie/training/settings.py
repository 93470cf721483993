"""How runs are trained: what `fit` and `fit_online` are told, as it is kept in config.json."""

from dataclasses import dataclass
from typing import Any

from reverie.errors import RunError
from reverie.settings import Count, Fraction, Natural, Settings
from reverie.training.loop import SeedsBy

LONGEST_SEGMENT = 1000


@dataclass(frozen=True)
class Training:
    """How a run is trained; kept in its config.json, from where `resume` takes it."""

    steps: int
    seeds: tuple[int, ...]
    segment: int
    seeds_by: SeedsBy
    devices: int | None
    checkpoint_every: int | None
    keep: int
    host_data: bool = False
    shard_data: bool = False
    loggers: tuple[str, ...] = ()
    block_rows: int | None = None
    """Of data that are read in a stream; None of those in memory."""
    block_updates: int | None = None


@dataclass(frozen=True)
class Synthesis(Settings):
    """How a synthesizer helps an agent; the numbers are those of SynthER's paper."""

    interval: Count = 10_000
    """Environment steps of a seed between two trainings of a fresh synthesizer on its replay, the first after as many;
    till then batches are the replay's alone."""
    updates: Count = 100_000
    """Of each such training."""
    rows: Count = 1_000_000
    """Transitions generated after it, in place of those before."""
    ratio: Fraction = 0.5
    """Part of every batch that is synthetic, once there are such."""


@dataclass(frozen=True)
class Collecting(Settings):
    """How agents act and learn in turn."""

    steps: Count
    """Environment steps of each seed, all its environments together."""
    envs: Count = 1
    """Environments of each seed, stepped together."""
    warmup: Natural = 5000
    """Steps before the first update: with uniformly random actions, or with those of the run to begin from."""
    update_interval: Count = 50
    """Steps of a seed between two rounds of updates."""
    until: float | None = None
    """Stop once the mean return of the last 20 episodes has reached this in every seed."""
    log_every: Count = 1000
    """Steps in a row of the metrics."""

    def __post_init__(self):
        super().__post_init__()
        every = self.update_interval
        if every % self.envs:
            raise RunError(f"update_interval={every} steps do not divide among envs={self.envs}; choose a multiple.")
        for name in ("warmup", "log_every", "steps"):
            if getattr(self, name) % every:
                raise RunError(f"{name}={getattr(self, name)} must be a multiple of update_interval={every}.")
        if not every <= self.warmup < self.steps:
            raise RunError(
                f"warmup={self.warmup} must be at least update_interval={every} and below steps={self.steps}."
            )

    @property
    def updates(self) -> int:
        """In one round."""
        return 1


@dataclass(frozen=True)
class Online(Collecting):
    """How agents that learn from a replay do."""

    utd_ratio: float = 1.0
    """Updates for one environment step (update-to-data ratio). SynthER's agents make 20."""
    capacity: Count | None = None
    """Steps that the replay has room for; all if not given."""
    data_share: Fraction = 0.5
    """Part of every batch that is drawn from the data set beside the replay, where one is given."""

    def __post_init__(self):
        super().__post_init__()
        every = self.update_interval
        updates = self.utd_ratio * every
        # 0.58 * 50 is 28.999999999999996.
        if round(updates) < 1 or abs(updates - round(updates)) > 1e-6:
            raise RunError(
                f"utd_ratio={self.utd_ratio} times update_interval={every} must be a whole number of updates."
            )

    @property
    def updates(self) -> int:
        """In one round."""
        return round(self.utd_ratio * self.update_interval)


@dataclass(frozen=True)
class Rounds(Collecting):
    """How agents that learn from what they just did (`protocols.OnPolicy`) do: one update of a whole round."""

    warmup: Natural = 2048
    """Steps before the first round, of which nothing but the units is learned: with uniformly random actions, or with
    those of the run to begin from."""
    update_interval: Count = 2048
    """Steps of a seed in a round."""
    log_every: Count = 2048
    """Steps in a row of the metrics."""


def default_segment(steps: int) -> int:
    """The largest divisor of `steps` up to the longest segment and a twentieth of the steps.

    A divisor, since a last segment of another length would be compiled anew; unless all are so small that the
    host's part would be felt.
    """
    longest = min(LONGEST_SEGMENT, max(1, steps // 20))
    best = max(length for length in range(1, longest + 1) if steps % length == 0)
    return best if best >= longest // 4 else longest


def check_at_least_one(**values: int | None) -> None:
    """Raise RunError for a value below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise RunError(f"{name}={value} must be at least 1.")


def settings_of(algorithm: Any) -> type[Collecting]:
    """What an algorithm, or its class, is told of online training."""
    return Rounds if hasattr(algorithm, "recorded") else Online
