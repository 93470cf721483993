"""Online training: agents act, their steps are kept in a replay on the device, and they learn from it.

The host steps the environments; everything between two rounds of steps is one compiled program for all seeds. A
synthesizer may learn the replay anew every now and then and fill a part of every batch (Lu et al. 2023, SynthER).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

import jax

from reverie.catalogue import ALGORITHMS, from_config, to_config
from reverie.data import Dataset
from reverie.environments.collector import Collector
from reverie.errors import RunError
from reverie.learning import stages_of
from reverie.protocols import ChecksOnline, Explorer, InOrder, OnPolicy, Synthesizer
from reverie.terminal import Interrupt, Progress, say
from reverie.training import beginning, folder, hosts, release
from reverie.training.callbacks import Callback
from reverie.training.inputs import signals_of
from reverie.training.loggers import check_loggers
from reverie.training.online_loop import OnlineLoop
from reverie.training.round_loop import RoundLoop
from reverie.training.run import Run
from reverie.training.settings import Collecting, Online, Synthesis, settings_of
from reverie.training.store import Store
from reverie.version import __version__


class OnlineSettings(TypedDict, total=False):
    """The fields of `Online` but for `steps`."""

    envs: int
    warmup: int
    update_interval: int
    until: float | None
    log_every: int
    utd_ratio: float
    capacity: int | None
    data_share: float


def fit_online(
    algorithm: Any,
    env: str | Callable[[], Any],
    *,
    steps: int,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    initial: Run | None = None,
    data: Dataset | None = None,
    synthesizer: Any = None,
    synthesis: Synthesis | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[str] = (),
    progress: bool = True,
    **settings: Unpack[OnlineSettings],
) -> Run:
    """Let an agent for each of the seeds seed ... seed + seeds - 1 learn in the environment for `steps` of its steps.

    env: a name for `environments.make`, or a function that returns an environment.
    settings: further fields of `Online`: envs, warmup, update_interval, until, log_every, utd_ratio, capacity,
        data_share. A method on policy (`protocols.OnPolicy`) learns once from each round of update_interval steps, and
        has none of the last three; see `Rounds` for its defaults.
    initial: the run to begin from, such as one of `fit` on a data set (offline to online); see `fit`. One of the same
        method acts in the warm-up, and its units stay; so does one that a `protocols.Tuner` begins from, but for the
        units of rewards, which are the tuner's (in DSRL's warm-up the cloned policy acts).
        From one of another method, training begins after a random warm-up.
    data: a data set of the same task, from which `data_share` of each batch is drawn (Ball et al. 2023, RLPD), from
        offline to online.
    synthesizer: an algorithm that generates data. Every `synthesis.interval` steps a fresh one learns from all that
        each seed has collected; then `synthesis.ratio` of each batch is what it made.
    callbacks: called with every row of the metrics; see `Callback`.
    loggers: where else the metrics go; see `fit`.
    out: the run's folder, where checkpoints and each seed's replay (`replay/`, in D4RL's layout) are kept. With
        `resume` the run there goes on: with the same networks and replay but in new episodes, as simulators cannot
        be put back exactly, and with a synthesizer trained afresh.

    The metrics' column `step` counts environment steps of a seed; `return` is the mean over the episodes that ended
    since the last row, of the policy as it explores. A `Run` as from `fit`; `histories` of it hold the data collected.
    Raises RunError for an algorithm that only learns from data sets, and for settings or a folder that cannot be used.
    """
    _check_methods(algorithm, synthesizer, data)
    check_loggers(loggers, out)
    release.check_whole(initial)
    online = _settings(algorithm, steps, settings)
    numbers = tuple(range(seed, seed + seeds))
    training = OnlineTraining(
        algorithm,
        env,
        online,
        numbers,
        synthesizer,
        synthesis or Synthesis(),
        initial,
        data,
        tuple(callbacks),
        tuple(loggers),
    )
    if out is None:
        return _train(training, Store(None), progress)
    path = Path(out)
    with folder.locked(path):
        training.settle(path, resume)
        with closing(Store(path)) as store:
            return _train(training, store, progress)


def _settings(algorithm: Any, steps: int, given: Mapping[str, Any]) -> Collecting:
    known = OnlineSettings.__annotations__
    if unknown := given.keys() - known:
        raise RunError(f"fit_online has no setting {min(unknown)!r}; it has {', '.join(known)}.")
    kind = settings_of(algorithm)
    if meaningless := given.keys() - {field.name for field in fields(kind)}:
        raise RunError(
            f"{algorithm.name} makes one update of each round of steps and keeps no replay; leave {min(meaningless)} "
            "out, and choose update_interval."
        )
    settings = kind(steps=steps, **given)
    capacity = getattr(settings, "capacity", None)
    in_order = isinstance(algorithm, InOrder)
    if capacity is not None and capacity % settings.envs and in_order:
        raise RunError(
            f"capacity={capacity} steps do not divide among envs={settings.envs}, and {algorithm.name} learns from "
            "steps in a row; choose a multiple."
        )
    if isinstance(algorithm, ChecksOnline):
        algorithm.check_online(settings)
    return settings


def _check_methods(algorithm: Any, synthesizer: Any, data: Dataset | None) -> None:
    explores, in_order = (isinstance(algorithm, each) for each in (Explorer, InOrder))
    if not explores:
        raise RunError(f"{algorithm.name} learns from a data set; {', '.join(_agents())} learn online.")
    if synthesizer is not None and not isinstance(synthesizer, Synthesizer):
        raise RunError(f"{synthesizer.name} is a {synthesizer.role} and generates no data; use synther.")
    methods: list[Any] = [each for each in (algorithm, synthesizer) if each is not None]
    if len(methods) > 1 and settings_of(algorithm) is not Online:
        raise RunError(
            f"{algorithm.name} learns from what its present policy does, and not from what {methods[1].name} makes; "
            "use sac."
        )
    if data is not None and (synthesizer is not None or settings_of(algorithm) is not Online):
        alone = f"{algorithm.name} learns from its present policy's steps alone"
        why = alone if synthesizer is None else "synthesizer= as well"
        raise RunError(f"data= fills a part of each batch, and {why}; leave one of the two out.")
    if synthesizer is not None and in_order:
        raise RunError(f"{algorithm.name} learns from steps in a row, which {methods[1].name} does not make; use sac.")
    if hosts.several():
        raise RunError(f"{algorithm.name} learns online in one process, and {jax.process_count()} train together here.")
    for each in methods:
        if (count := len(stages_of(each))) > 1:
            raise RunError(f"{each.name} learns in {count} stages, for which data must be there at once; use `fit`.")


def _agents() -> list[str]:
    return [name for name, cls in ALGORITHMS.items() if hasattr(cls, "exploring")]


def resume_online(
    path: str | Path,
    steps: int | None = None,
    data: Dataset | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Run:
    """Go on with the online run in the folder, to the recorded number of steps or to `steps`; with the data set that
    it had beside its replay."""
    config = folder.read_config(Path(path))
    algorithm, numbers = from_config(config["algorithm"], config["versions"]["reverie"]), config["training"]["seeds"]
    recorded = folder.known_settings(config, "online", settings_of(algorithm))
    if config["data"]["attributes"]["environment"] is None:
        raise RunError(f"The run in {str(path)!r} was made in an environment without a name; call fit_online again.")
    made = config["synthesizer"]
    return fit_online(
        algorithm,
        config["data"]["attributes"]["environment"],
        seed=numbers[0],
        seeds=len(numbers),
        out=path,
        resume=True,
        initial=beginning.recorded(Path(path), config),
        data=data,
        synthesizer=made and from_config(made, config["versions"]["reverie"]),
        synthesis=Synthesis(**folder.known_settings(config, "synthesis", Synthesis)),
        callbacks=callbacks,
        loggers=config["training"].get("loggers", ()),
        progress=progress,
        **(recorded if steps is None else recorded | {"steps": steps}),
    )


@dataclass(frozen=True)
class OnlineTraining:
    """All that a run depends on."""

    algorithm: Any
    env: Any
    online: Any
    """Of `settings.settings_of` the algorithm."""
    seeds: tuple[int, ...]
    synthesizer: Any
    synthesis: Synthesis
    initial: Run | None
    data: Dataset | None
    callbacks: tuple[Callback, ...]
    loggers: tuple[str, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        name = self.env if isinstance(self.env, str) else None
        given = {
            "fingerprint": self.data and self.data.fingerprint,
            "source": self.data and self.data.attributes.get("source"),
        }
        return {
            "algorithm": to_config(self.algorithm),
            "data": given | {"attributes": self.attributes | {"environment": name}},
            "training": {"seeds": self.seeds, "steps": self.online.steps, "loggers": self.loggers},
            "online": asdict(self.online),
            "synthesizer": None if self.synthesizer is None else to_config(self.synthesizer),
            "synthesis": asdict(self.synthesis),
            "initial": beginning.provenance(self.initial),
            "versions": {"reverie": __version__, "jax": jax.__version__},
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the data that the agents collect."""
        name = self.env if isinstance(self.env, str) else "an environment"
        return {"name": f"replay of {self.algorithm.name} in {name}", "environment": name}

    def settle(self, path: Path, resume: bool) -> None:
        """Raise RunError where this run may not begin, or go on, in the folder."""
        if not folder.goes_on(path, resume):
            return
        recorded, wanted = (_decisive(each) for each in (folder.read_config(path), json.loads(json.dumps(self.config))))
        for key, after in wanted.items():
            if recorded[key] != after:
                raise RunError(
                    f"The run in {str(path)!r} was begun with {key} = {recorded[key]} and not {after}; give the same, "
                    "or another folder."
                )

    def record(self, path: Path | None) -> None:
        """Write config.json; where a run goes on, what it began from stays."""
        if path is not None:
            begun_from = folder.read_config(path).get("initial") if folder.holds_run(path) else None
            folder.write_config(path, self.config | ({"initial": begun_from} if begun_from else {}))


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """What a run that goes on must have in common with the one in its folder."""
    online = config.get("online")
    return {key: config.get(key) for key in ("algorithm", "synthesizer", "synthesis")} | {
        "online": online and online | {"steps": 0, "until": None},
        "seeds": config["training"]["seeds"],
        "environment": config["data"].get("attributes", {}).get("environment"),
        "data": config["data"].get("fingerprint"),
    }


def _train(training: OnlineTraining, store: Store, show: bool) -> Run:
    done = store.latest() or 0
    if done > training.online.steps:
        raise RunError(f"The run in {str(store.path)!r} is at step {done}, past steps={training.online.steps}.")
    signals = signals_of(training.algorithm)
    env = Collector(training.env, training.seeds, training.online.envs, entropy=done, signals=signals)
    with closing(env):
        if not done:
            training.record(store.path)
        kind = RoundLoop if isinstance(training.algorithm, OnPolicy) else OnlineLoop
        agents = kind(training, store, env, done)
        if done:
            # Only now that all of the run could be read: one that cannot go on stays as it is.
            training.record(store.path)
        store.open_loggers(training.loggers, training.config, done)
        title = f"{training.algorithm.name} in {env.name}"
        bar = Progress(title, training.online.steps, agents.step, show=show, unit="steps", note="compiling")
        with bar, Interrupt(active=store.path is not None) as stop:
            while not agents.over and not stop.asked:
                agents.round()
                if agents.step % training.online.log_every == 0 or agents.over or stop.asked:
                    agents.log(bar)
                if agents.due or agents.over or stop.asked:
                    agents.save()
        if stop.asked:
            again = f"reverie train --resume {store.path}"
            say(f"Stopped; step {agents.step} of {training.online.steps} is saved. Go on with: {again}")
            raise KeyboardInterrupt
        return agents.run
