"""What is loaded by a name: data sets from files, from Minari or made here, and runs to go on with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reverie.catalogue import from_config
from reverie.data import Dataset
from reverie.data.readers import read, read_d4rl
from reverie.data.schemes import EXAMPLES
from reverie.data.streaming import Streamed
from reverie.errors import DataError, RunError
from reverie.paths import cache_folder
from reverie.training import Run, beginning, fit, folder, hosts
from reverie.training.callbacks import Callback
from reverie.training.online import resume_online
from reverie.training.settings import Training


def load_dataset(source: str) -> Dataset:
    """Reads a data set, with every check of `Dataset.from_arrays`.

    - `"d4rl:PATH.hdf5"`, `"minari:ID"`, `"ogbench:PATH.npz"`, `"robomimic:PATH.hdf5"`, `"lerobot:FOLDER"`,
      `"parquet:FOLDER"`: see `data.readers.read`.
    - a bare name, such as `"pointmaze-umaze"`: generated on first use, then kept under $REVERIE_CACHE
      (else ~/.cache/reverie).
    - of OGBench's sets, files and names, with the rewards of a task: `"cube-single-play-singletask-task2"`.
    - any of these with `@best=0.1` or `@every=10` after it: the tenth of its episodes with the highest returns, or
      every tenth episode; with `@times=20`: all of it twenty times; or with `@chunk=4`: four actions in a row as one,
      for the environment "NAME@chunk=4".
    - several of these, joined by +, as `"d4rl:real.hdf5+d4rl:synthetic.hdf5"`.

    Raises DataError, naming the source, where it is unknown, missing, damaged or incomplete, and where several do not
    match.
    """
    from reverie.collection.ogbench import tasks  # not before it is used: simulators' interfaces come with it

    return read(source, generated, {"ogbench": tasks.read_file})


def stream(source: str, block_rows: int | None = None) -> Streamed:
    """A data set that need not fit into memory, `"parquet:FOLDER"`, to train on while it is read.

    `block_rows` are about those that are trained on at a time; as many as take 64 MB if not given. Of memory there are
    a block and the next, and while that is read two more. Raises DataError for another kind of source, and where the
    folder is none that a `ShardWriter` has finished.
    """
    scheme, _, folder = source.partition(":")
    if scheme != "parquet" or not folder:
        raise DataError(
            f"{source!r} cannot be read in a stream; write it as parquet:FOLDER first, by `data.save` or a ShardWriter."
        )
    return Streamed(folder, block_rows)


def generated(name: str) -> Dataset:
    """A data set that is made here: on first use, then from the cache. Raises DataError for another name."""
    from reverie.collection.ogbench import tasks

    made, task = tasks.split_name(name)
    data = _kept(made, name)
    data = tasks.single_task(data, task) if task else data
    return replace(data, attributes={**data.attributes, "source": name})


def _kept(name: str, asked: str) -> Dataset:
    from reverie.collection.datasets import DATASETS, VALIDATION, making, nearest
    from reverie.collection.parts import digest
    from reverie.compilation import cores

    if name not in DATASETS and name not in VALIDATION:
        examples = ", ".join(f"'{scheme}:{what}'" for scheme, what in EXAMPLES.items())
        raise DataError(
            f"{asked!r} is no data set that Reverie generates: {nearest(asked)} For data of your own write {examples}."
        )
    recipe = (DATASETS.get(name) or VALIDATION[name]).recipe
    path = cache_folder() / "datasets" / f"{name}-{digest(recipe)}.hdf5"
    if not path.exists():
        with making(name, jobs=cores(), progress=True) as made:
            made.save(f"d4rl:{path}")
    return read_d4rl(str(path))


def resume(
    path: str | Path,
    data: Dataset | Streamed | str | None = None,
    steps: int | None = None,
    *,
    devices: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Run:
    """Go on with the run in the folder, to the recorded number of updates (of environment steps online) or to `steps`.

    Without `data` they are read again from the source that the run recorded; where that has moved, `data` may be the
    source. `devices` are those recorded if not given, and all where several processes go on together; `callbacks` are
    those of `fit`. Raises RunError when the folder holds no run, when no source is recorded,
    when the data are not those the run was started with or the run is online and has none, and when another version
    wrote settings that this one lacks.
    """
    config = folder.read_config(Path(path))
    if "online" in config:
        given = config["data"]["fingerprint"] is not None
        if data is not None and not given:
            raise RunError(f"The run in {str(path)!r} learns online, from its own replay: go on with it without data.")
        beside: Any = _recorded_source(path, config) if given and data is None else data
        beside = load_dataset(beside) if isinstance(beside, str) else beside
        return resume_online(path, steps, beside, callbacks=callbacks, progress=progress)
    if config["training"].pop("tensorboard", False):  # as 0.1 wrote it
        config["training"]["loggers"] = ["tensorboard"]
    recorded = dict(folder.known_settings(config, "training", Training))
    numbers, block_rows = recorded.pop("seeds"), recorded.pop("block_rows", None)
    recorded["devices"] = devices or (None if hosts.several() else recorded["devices"])
    source: Any = _recorded_source(path, config) if data is None else data
    if isinstance(source, str):
        name = source
        source = hosts.in_turn(lambda: stream(name, block_rows) if block_rows else load_dataset(name))
    if isinstance(source, Streamed) != bool(block_rows):
        raise RunError(
            f"The run in {str(path)!r} has its data {'in a stream' if block_rows else 'in memory'}; give the data by "
            "their source, or leave them out."
        )
    return fit(
        from_config(config["algorithm"], config["versions"]["reverie"]),
        source,
        out=path,
        resume=True,
        initial=beginning.recorded(Path(path), config),
        callbacks=callbacks,
        progress=progress,
        seed=numbers[0],
        seeds=len(numbers),
        **(recorded if steps is None else recorded | {"steps": steps}),
    )


def _recorded_source(path: str | Path, config: dict[str, Any]) -> str:
    if config["data"]["source"] is None:
        raise RunError(f"The run in {str(path)!r} does not say where its data came from; give data= as well.")
    return config["data"]["source"]
