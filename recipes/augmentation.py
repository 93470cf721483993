"""What augmented data is worth: python recipes/augmentation.py --data FOLDER [--short] [--times 5] [--jobs 2] ...

Takes every tenth episode of the sets in recipes/tables/augmentation.toml; trains each synthesizer on these; writes the
tenth, and the tenth with `--times` as many rows of each synthesizer beside it, into OUT/data; and trains and evaluates
every method on each of them, and on the complete set, as recipes/table.py does, whose options come after `--`. What is
there is not made again. OUT/data.png is the table as a picture, a panel a method.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import table

from reverie.data import concatenate
from reverie.loading import load_dataset

FILE = table.OFFLINE.with_name("augmentation.toml")
PLAN = tomllib.loads(FILE.read_text())
TENTH = "-tenth"
CORES: "SimpleQueue[list[int] | None]" = SimpleQueue()
"""Those that no training has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the HDF5 files")
    parser.add_argument("--out", type=Path, default=Path("runs/augmentation"))
    parser.add_argument("--only", nargs="+", default=["hopper-mixture", "halfcheetah-mixture"], metavar="SET")
    parser.add_argument("--times", type=int, default=5, help="synthetic rows for each real one")
    parser.add_argument("--short", action="store_true", help="small networks for few updates")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("rest", nargs="*", help="further options of recipes/table.py, after --")
    options = parser.parse_args()
    (options.out / "data").mkdir(parents=True, exist_ok=True)
    for name in options.only:
        tenth(name, options)
    for cores in table.shares(options.jobs):
        CORES.put(cores)
    pairs = [(name, each) for name in options.only for each in PLAN["synthesizers"]]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda pair: augment(*pair, options), pairs))
    sets = [name for name in PLAN["sets"] if name.split(TENTH)[0] in options.only]
    chosen = ["--plan", str(FILE), "--data", str(options.out / "data"), "--out", str(options.out), "--sets", *sets]
    table.main([*chosen, "--jobs", str(options.jobs), *(["--short"] if options.short else []), *options.rest])
    rows = [by_data(row) for row in json.loads((options.out / "table.json").read_text())]
    if rows:
        table.draw(rows, options.out / "data.png")


def tenth(name: str, options: argparse.Namespace) -> None:
    """Every tenth episode, and beside it a link to the complete set, which tells how much there is to win."""
    target, complete = options.out / "data" / f"{name}{TENTH}.hdf5", options.out / "data" / f"{name}.hdf5"
    if not complete.exists():
        complete.symlink_to((options.data / f"{name}.hdf5").resolve())
    if not target.exists():
        data = load_dataset(f"d4rl:{options.data / name}.hdf5")
        data.take_episodes(range(0, len(data.episodes), 10)).save(f"d4rl:{target}")


def augment(name: str, synthesizer: str, options: argparse.Namespace) -> None:
    """The tenth and what the synthesizer makes of it, in one file."""
    folder, row = options.out / "data", PLAN["synthesizers"][synthesizer]
    real, target = folder / f"{name}{TENTH}.hdf5", folder / f"{name}{TENTH}-{synthesizer}.hdf5"
    if target.exists():
        return
    run, made = options.out / synthesizer / name, options.out / synthesizer / f"{name}.hdf5"
    words = f"{row['train']} --steps {row['steps']} {row['short'] if options.short else ''}".split()
    rows = options.times * len(load_dataset(f"d4rl:{real}"))
    run.parent.mkdir(parents=True, exist_ok=True)
    cores = CORES.get()
    with (run.parent / f"{name}.log").open("a") as log:
        for command in (
            ["train", *words, "--data", f"d4rl:{real}", "--out", str(run), "--resume"],
            ["generate", str(run), "-n", str(rows), "--out", f"d4rl:{made}"],
        ):
            print("reverie", *command, flush=True)
            process = subprocess.Popen([sys.executable, "-m", "reverie.cli", *command], stdout=log, stderr=log)
            if cores is not None:
                os.sched_setaffinity(process.pid, cores)
            if process.wait():
                sys.exit(f"reverie {' '.join(command)} failed; its output is in {log.name}")
    CORES.put(cores)
    concatenate(load_dataset(f"d4rl:{real}"), load_dataset(f"d4rl:{made}")).save(f"d4rl:{target}")


def by_data(row: dict) -> dict:
    """The row of a table whose lines are the data and whose panels are the methods."""
    name, tenth, made = row["set"].partition(TENTH)
    data = f"a tenth{made.replace('-', ' + ')}" if tenth else "all"
    return row | {"set": f"{row['method']}, {name}", "method": data}


if __name__ == "__main__":
    main()
