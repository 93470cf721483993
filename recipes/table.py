"""Methods x data sets: python recipes/table.py --data FOLDER [--plan FILE] [--steps N] [--seeds S] [--jobs J] ...

Trains and evaluates every cell of the plan (recipes/tables/offline.toml) and writes OUT/table.md, table.json and
table.png from the last checkpoints. A cell is a run's folder, OUT/METHOD/SET: what is trained is not trained again,
what was stopped goes on from its last checkpoint, and what is missing is missing in the table. With --minutes a cell's
training is stopped after so long.
"""

import argparse
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

OFFLINE = Path(__file__).parent / "tables" / "offline.toml"


@dataclass(frozen=True)
class Cell:
    """One method on one data set."""

    method: str
    data: str
    options: argparse.Namespace

    @property
    def folder(self) -> Path:
        return self.options.out / self.method / self.data

    @property
    def plan(self) -> dict:
        return self.options.plan

    @property
    def label(self) -> str:
        return f"{self.method} on {self.data}"

    def train_command(self) -> list[str]:
        row, options = self.plan["sets"][self.data], self.options
        method = self.plan["methods"][self.method]
        parts = (method["train"], row.get(self.method, ""), method["short"] if options.short else "")
        words = [word for part in parts for word in part.split()]
        words += ["--data", f"d4rl:{options.data}/{self.data}.hdf5", "--steps", str(options.steps)]
        return ["train", *words, "--seeds", str(options.seeds), "--out", str(self.folder), "--resume"]

    def eval_command(self) -> list[str]:
        return [
            *("eval", str(self.folder), "--env", self.plan["sets"][self.data]["env"]),
            *("--episodes", str(self.options.episodes)),
            *(("--max-steps", str(self.options.max_steps)) if self.options.max_steps else ()),
        ]

    def scores(self) -> dict | None:
        """The last evaluation with as many episodes of the last checkpoint; None where there is none."""
        file = self.folder / "evaluation.json"
        found = json.loads(file.read_text())[self.plan["sets"][self.data]["env"]] if file.exists() else []
        trained = self.updates()
        wanted = {"step": trained, "max_steps": self.options.max_steps}
        found = [row for row in found if all(row[key] == value for key, value in wanted.items())]
        found = [row for row in found if len(row["returns"][0]) == self.options.episodes]
        return found[-1] if found else None

    def metrics(self) -> list[dict[str, float]]:
        file = self.folder / "metrics.csv"
        if not file.exists():
            return []
        head, *lines = file.read_text().splitlines()
        return [dict(zip(head.split(","), map(float, line.split(",")), strict=True)) for line in lines]

    def updates(self) -> int:
        """Of the last checkpoint."""
        folders = (self.folder / "checkpoints").glob("[0-9]*")
        return max((int(folder.name) for folder in folders), default=0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=lambda file: tomllib.loads(Path(file).read_text()), default=str(OFFLINE))
    parser.add_argument("--data", type=Path, required=True, help="folder of the HDF5 files")
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="all of the plan if not given")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="all of the plan if not given")
    parser.add_argument("--steps", type=int, default=1_000_000, help="updates of each seed; the papers' 1,000,000")
    parser.add_argument("--short", action="store_true", help="small networks and fast targets, for few updates")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--max-steps", type=int, help="cut episodes after so many steps")
    parser.add_argument("--minutes", type=float, help="stop each cell's training after so long")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, each on its share of the cores")
    parser.add_argument("--only-report", action="store_true", help="write the table of what is there")
    options = parser.parse_args(arguments)
    for name in ("methods", "sets"):
        known = options.plan[name]
        setattr(options, name, getattr(options, name) or list(known))
        if unknown := [each for each in getattr(options, name) if each not in known]:
            parser.error(f"there is no {unknown[0]!r} among the {name} {', '.join(known)}")
    for name in ("steps", "seeds", "episodes", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} must be at least 1")
    missing = [name for name in options.sets if not (options.data / f"{name}.hdf5").is_file()]
    if missing and not options.only_report:
        parser.error(f"there is no {options.data / missing[0]}.hdf5; name the folder of the sets, or others by --sets")
    cells = [Cell(method, data, options) for method in options.methods for data in options.sets]
    failed = [] if options.only_report else work(cells, options)
    report(cells, options)
    if failed:
        sys.exit(
            f"{len(failed)} of {len(cells)} cells failed: {'; '.join(failed)}. Their output is in OUT/METHOD/SET.log."
        )


def work(cells: list[Cell], options: argparse.Namespace) -> list[str]:
    """Do what is missing of the cells, several at once; the labels of those that failed."""
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    failed: list[str] = []
    done = [0]
    begun = time.perf_counter()

    def worker(cores: list[int] | None) -> None:
        while not waiting.empty():
            try:
                cell = waiting.get_nowait()
            except queue.Empty:
                return
            if cell.scores() is None or (cell.updates() < options.steps and options.minutes is None):
                try:
                    perform(cell, cores)
                except subprocess.CalledProcessError:
                    failed.append(cell.label)
            done[0] += 1
            minutes = (time.perf_counter() - begun) / 60
            state = "failed" if cell.label in failed else f"done at {cell.updates()} updates"
            print(f"[{minutes:5.1f} min] {done[0]}/{len(cells)} {cell.label}: {state}", flush=True)

    workers = [threading.Thread(target=worker, args=(cores,), daemon=True) for cores in shares(options.jobs)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return failed


def shares(jobs: int) -> list[list[int] | None]:
    """The cores of each job: two programs on a core each do more than one program on two, for networks this small."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [cores[i :: min(jobs, len(cores))] for i in (j % len(cores) for j in range(jobs))]


def perform(cell: Cell, cores: list[int] | None) -> None:
    """Train and evaluate one cell, with the output in a log beside its folder."""
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    reverie(cell, cell.train_command(), cores, cell.options.minutes)
    if cell.scores() is None:
        reverie(cell, cell.eval_command(), cores)


def reverie(cell: Cell, arguments: list[str], cores: list[int] | None, minutes: float | None = None) -> None:
    command = [sys.executable, "-m", "reverie.cli", *arguments]
    with (cell.folder.parent / f"{cell.data}.log").open("a") as log:
        print("reverie", *arguments, file=log, flush=True)
        process = subprocess.Popen(command, stdout=log, stderr=log)
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        try:
            status = process.wait(None if minutes is None else 60 * minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            status = process.wait()
            status = 0 if status == 130 else status
    if status:
        raise subprocess.CalledProcessError(status, command)


def report(cells: list[Cell], options: argparse.Namespace) -> None:
    """The table as Markdown, JSON and a picture, of the cells that are evaluated."""
    rows = [summary(cell, scores) for cell in cells if (scores := cell.scores())]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = markdown(rows, options)
    (options.out / "table.md").write_text(text)
    print(text)
    if rows:
        draw(rows, options.out / "table.png")


def summary(cell: Cell, scores: dict) -> dict:
    metrics = cell.metrics()
    estimates = scores["estimates"]
    rates = [row["updates_per_second"] for row in metrics][len(scores["seeds"]) :]  # the first segment compiles
    return {
        "method": cell.method,
        "set": cell.data,
        "environment": scores["environment"],
        "updates": scores["step"],
        "seeds": len(scores["seeds"]),
        "episodes": len(scores["returns"][0]),
        "return": estimates["return"],
        "normalised": estimates["normalised"],
        "by_seed": [statistics.mean(returns) for returns in scores["normalised"]],
        "updates_per_second": statistics.median(rates) * len(scores["seeds"]) if rates else None,
        "minutes": metrics[-1]["seconds"] / 60 if metrics else None,
        "train": " ".join(cell.train_command()[1:-2]).replace(str(cell.options.data), "FOLDER"),
    }


def markdown(rows: list[dict], options: argparse.Namespace) -> str:
    """Normalised score with its interval over seeds, a row a method and a column a set; then what it took."""
    found = {(row["method"], row["set"]): row for row in rows}
    sets = [name for name in options.sets if any(row["set"] == name for row in rows)]
    methods = [name for name in options.methods if any(row["method"] == name for row in rows)]
    lines = [f"| method | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 2) + "|"]
    for method in methods:
        cells = [found.get((method, name)) for name in sets]
        means = [row["normalised"]["mean"] for row in cells if row]
        mean = f"{statistics.mean(means):.1f}" if len(means) == len(sets) else ""
        lines.append(f"| {method} | {' | '.join(score(row) for row in cells)} | {mean} |")
    lines += ["", "| method | set | updates | return | updates/s, all seeds | minutes |", "|---|---|---|---|---|---|"]
    for row in rows:
        rate = f"{row['updates_per_second']:.0f}" if row["updates_per_second"] else ""
        took = f"{row['updates']:,} | {row['return']['mean']:.0f} | {rate} | {row['minutes']:.1f}"
        lines.append(f"| {row['method']} | {row['set']} | {took} |")
    return "\n".join(lines) + "\n"


def score(row: dict | None) -> str:
    if row is None:
        return "not run"
    low, high = (row["normalised"]["seeds"][key] for key in ("low", "high"))
    return f"{row['normalised']['mean']:.1f}" + (f", {low:.1f} to {high:.1f}" if low is not None else "")


def draw(rows: list[dict], path: Path) -> None:
    """Every seed as a dot, the mean as a bar's end, and the interval over seeds."""
    from reverie.evaluation.plots import grouped_scores, save

    save(grouped_scores(rows), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
