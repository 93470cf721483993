"""Online training: agents act, what they live through is kept on the device, and they learn from it.

The host steps the environments; everything between two rounds of steps is one compiled program for all seeds. A
synthesizer may learn the replay anew every now and then and fill a part of every batch (Lu et al. 2023, SynthER).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

import reverie
from reverie.settings import check_fields
from reverie.environments.collector import Collector
from reverie.errors import RunError
from reverie.training import folder
from reverie.training.fitting import Store
from reverie.training.online_loop import Life
from reverie.terminal import Interrupt, Progress, say
from reverie.training.run import Run


@dataclass(frozen=True)
class Synthesis:
    """How a synthesizer helps an agent; the numbers are those of SynthER's paper."""

    every: int = 10_000
    """Environment steps of a seed between two trainings of a fresh synthesizer on its replay."""
    updates: int = 100_000
    """Of each such training."""
    rows: int = 1_000_000
    """Transitions generated after it, in place of those before."""
    share: float = 0.5
    """Part of every batch that is synthetic, once there are such."""

    def __post_init__(self):
        check_fields(self, {"every": 1, "updates": 1, "rows": 1, "share": (0.0, 1.0)})


@dataclass(frozen=True)
class Online:
    """How agents gather and learn."""

    steps: int
    """Environment steps of each seed, all its environments together."""
    envs: int = 1
    """Environments of each seed, stepped together."""
    warmup: int = 5000
    """Steps with uniformly random actions before the first update."""
    every: int = 50
    """Steps of a seed between two rounds of updates."""
    ratio: float = 1.0
    """Updates for one environment step. SynthER's agents make 20."""
    capacity: int | None = None
    """Steps that the replay has room for; all if not given."""
    until: float | None = None
    """Stop once the mean return of the last 20 episodes has reached this in every seed."""
    log_every: int = 1000
    """Steps in a row of the metrics."""

    def __post_init__(self):
        given = [
            name for name in ("steps", "envs", "every", "log_every", "capacity") if getattr(self, name) is not None
        ]
        check_fields(self, dict.fromkeys(given, 1))
        if self.every % self.envs:
            raise RunError(f"every={self.every} steps do not divide among envs={self.envs}; choose a multiple.")
        for name in ("warmup", "log_every", "steps"):
            if getattr(self, name) % self.every:
                raise RunError(f"{name}={getattr(self, name)} must be a multiple of every={self.every}.")
        if not self.every <= self.warmup < self.steps:
            raise RunError(f"warmup={self.warmup} must be at least every={self.every} and below steps={self.steps}.")
        if self.ratio * self.every < 1 or self.ratio * self.every % 1:
            raise RunError(f"ratio={self.ratio} times every={self.every} must be a whole number of updates.")

    @property
    def updates(self) -> int:
        """In one round."""
        return round(self.ratio * self.every)


def fit_online(
    algorithm: Any,
    env: str | Callable[[], Any],
    *,
    steps: int,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    synthesizer: Any = None,
    synthesis: Synthesis | None = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Let an agent for each of the seeds seed ... seed + seeds - 1 learn in the environment for `steps` of its steps.

    env: a name for `environments.make`, or a function that returns an environment.
    settings: further fields of `Online`: envs, warmup, every, ratio, capacity, until, log_every.
    synthesizer: an algorithm that generates data. Every `synthesis.every` steps a fresh one learns each seed's
        replay; then `synthesis.share` of each batch is what it made.
    out: the run's folder, where checkpoints and each seed's replay (`replay/`, in D4RL's layout) are kept. With
        `resume` the run there goes on: with the same networks and replay but in new episodes, as simulators cannot
        be put back exactly, and with a synthesizer trained afresh.

    The metrics' column `step` counts environment steps of a seed; `return` is the mean over the episodes that ended
    since the last row, of the policy as it gathers. A `Run` as from `fit`; `histories` of it hold the data gathered.
    Raises RunError for an algorithm that only learns from data sets, and for settings or a folder that cannot be used.
    """
    if not hasattr(algorithm, "exploring"):
        raise RunError(f"{algorithm.name} learns from a data set; {', '.join(_agents())} learns online.")
    if synthesizer is not None and not hasattr(synthesizer, "chunks"):
        raise RunError(f"{synthesizer.name} is a {synthesizer.role} and generates no data; use synther.")
    online = Online(steps=steps, **settings)
    numbers = tuple(range(seed, seed + seeds))
    training = Training(algorithm, env, online, numbers, synthesizer, synthesis or Synthesis())
    if out is None:
        return _train(training, Store(None), progress)
    path = Path(out)
    with folder.locked(path):
        training.settle(path, resume)
        folder.write_config(path, training.config)
        with closing(Store(path)) as store:
            return _train(training, store, progress)


def _agents() -> list[str]:
    from reverie.catalogue import ALGORITHMS

    return [name for name, cls in ALGORITHMS.items() if hasattr(cls, "exploring")]


def resume_online(path: str | Path, steps: int | None = None, *, progress: bool = True) -> Run:
    """Go on with the online run in the folder, to the recorded number of steps or to `steps`."""
    from reverie.catalogue import from_config

    config = folder.read_config(Path(path))
    recorded, numbers = config["online"], config["training"]["seeds"]
    if config["data"]["attributes"]["environment"] is None:
        raise RunError(f"The run in {str(path)!r} was made in an environment without a name; call fit_online again.")
    made = config["synthesizer"]
    return fit_online(
        from_config(config["algorithm"]),
        config["data"]["attributes"]["environment"],
        seed=numbers[0],
        seeds=len(numbers),
        out=path,
        resume=True,
        synthesizer=made and from_config(made),
        synthesis=Synthesis(**config["synthesis"]),
        progress=progress,
        **(recorded if steps is None else recorded | {"steps": steps}),
    )


@dataclass(frozen=True)
class Training:
    """All that a run depends on."""

    algorithm: Any
    env: Any
    online: Online
    seeds: tuple[int, ...]
    synthesizer: Any
    synthesis: Synthesis

    @property
    def config(self) -> dict[str, Any]:
        from reverie.catalogue import to_config

        name = self.env if isinstance(self.env, str) else None
        return {
            "algorithm": to_config(self.algorithm),
            "data": {"fingerprint": None, "source": None, "attributes": self.attributes | {"environment": name}},
            "training": {"seeds": self.seeds, "steps": self.online.steps},
            "online": asdict(self.online),
            "synthesizer": None if self.synthesizer is None else to_config(self.synthesizer),
            "synthesis": asdict(self.synthesis),
            "versions": {"reverie": reverie.__version__, "jax": jax.__version__},
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the data that the agents gather."""
        name = self.env if isinstance(self.env, str) else "an environment"
        return {"name": f"replay of {self.algorithm.name} in {name}", "environment": name}

    def settle(self, path: Path, resume: bool) -> None:
        """Raise RunError where this run may not begin, or go on, in the folder."""
        if not folder.holds_run(path):
            folder.check_vacant(path)
            return
        if not resume:
            raise RunError(f"{str(path)!r} already holds a run; go on with it by --resume, or give another folder.")
        recorded, config = folder.read_config(path), json.loads(json.dumps(self.config))
        for key in ("algorithm", "synthesizer", "synthesis", "online"):
            before, after = recorded.get(key), config[key]
            if key == "online" and before:
                before, after = ({**each, "steps": 0, "until": None} for each in (before, after))
            if before != after:
                raise RunError(
                    f"The run in {str(path)!r} was begun with another {key} ({before}) than {after}; give the same, or "
                    "another folder."
                )


def _train(training: Training, store: Store, show: bool) -> Run:
    done = store.latest() or 0
    if done > training.online.steps:
        raise RunError(f"The run in {str(store.path)!r} is at step {done}, past steps={training.online.steps}.")
    env = Collector(training.env, training.seeds, training.online.envs, entropy=done)
    with closing(env):
        life = Life(training, store, env, done)
        title = f"{training.algorithm.name} in {env.name}"
        bar = Progress(title, training.online.steps, life.step, show=show, unit="steps", note="compiling")
        with bar, Interrupt(active=store.path is not None) as stop:
            while not life.over and not stop.asked:
                life.round()
                if life.step % training.online.log_every == 0 or life.over or stop.asked:
                    life.log(bar)
                if life.due or life.over or stop.asked:
                    life.save()
        if stop.asked:
            again = f"reverie train --resume {store.path}"
            say(f"Stopped; step {life.step} of {training.online.steps} is saved. Go on with: {again}")
            raise KeyboardInterrupt
        return life.run
