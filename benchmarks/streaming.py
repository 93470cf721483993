"""Training on data that are read in a stream, against data in memory: python -m benchmarks.streaming --rows 100000000

Makes a folder of `--rows` random steps (17 numbers observed, 6 acted, episodes of 1000) unless it is there, and trains
each method on it in a stream, and on its first million rows in memory: in processes of their own, A B A B ..., of which
each says its updates a second after the first segment, and the most memory that it took. Where other work shares the
cores look at the ratio of CPU time, reading and all: what the rates' would be with both cores busy.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.timing import Ratio

AT_ONCE, EPISODE = 500_000, 1000
WHERE = ("stream", "memory")


def make(folder: Path, rows: int) -> None:
    """A part at a time, from one generator."""
    import numpy as np

    from reverie.data import Dataset
    from reverie.data.shard_writer import ShardWriter

    draw = np.random.default_rng(0)
    with ShardWriter(str(folder), {"name": "random"}) as writer:
        for start in range(0, rows, AT_ONCE):
            steps = min(AT_ONCE, rows - start)
            seen = draw.standard_normal((steps, 17), np.float32)
            timeouts = np.arange(steps) % EPISODE == EPISODE - 1
            timeouts[-1] = True
            acted, rewards = np.tanh(seen[:, :6]), seen[:, 0] - seen[:, 1]
            writer.append(
                Dataset.from_arrays(
                    *(seen, acted, rewards, np.zeros(steps, bool), timeouts), action_low=-1.0, action_high=1.0
                )
            )


def train(method: str, where: str, folder: Path, updates: int, segment: int, rows: int, quick: bool) -> dict[str, Any]:
    """Updates a second, by each clock, and bytes at most."""
    import reverie
    from reverie.catalogue import ALGORITHMS
    from reverie.data.shard_layout import read_header
    from reverie.data.shards import read_shards

    sizes = {"td3-bc": ("hidden", "critic_hidden"), "bc": ("hidden",)}[method]
    algorithm: Any = ALGORITHMS[method](batch_size=256, **dict.fromkeys(sizes, (16,) if quick else (256, 256)))
    data: Any = reverie.stream(f"parquet:{folder}")
    if where == "memory":
        header = read_header(str(folder))
        each = header.shards[0].rows
        data = read_shards(header, range(min(len(header.shards), max(1, rows // each))))
    marks = []

    class Marks:
        def on_segment(self, run: Any) -> dict[str, float]:
            marks.append({name: clock() for name, clock in timing.CLOCKS.items()})
            return {}

    reverie.fit(algorithm, data, steps=updates, segment=segment, callbacks=[Marks()], progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    made = updates - segment
    return {"peak": peak, **{name: made / (marks[-1][name] - marks[0][name]) for name in marks[0]}}


def child(options: argparse.Namespace, method: str, where: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.streaming", "--child", method, where, "--folder", str(options.folder)]
    words += ["--updates", str(options.updates), "--segment", str(options.segment)]
    words += ["--memory-rows", str(options.memory_rows), "--threads", str(options.threads)] + options.quick * [
        "--quick"
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(options: argparse.Namespace) -> dict[str, Any]:
    about, results, rows = timing.machine(options.threads), {}, []
    for method in options.methods:
        taken: dict[str, list[dict[str, Any]]] = {where: [] for where in WHERE}
        for _ in range(options.pairs):
            for where in WHERE:
                taken[where].append(child(options, method, where))
                print(f"  {method} {where}: {taken[where][-1]}", flush=True)
        seconds = {name: [[1 / each[name] for each in taken[where]] for where in WHERE] for name in timing.CLOCKS}
        ratios = {name: Ratio.of(*each) for name, each in seconds.items()}
        medians = [statistics.median(each["wall"] for each in taken[where]) for where in WHERE]
        peaks = [max(each["peak"] for each in taken[where]) for where in WHERE]
        figures = [*(f"{rate:.0f}" for rate in medians), *map(str, ratios.values())]
        rows.append([method, *figures, *(f"{peak / 1e6:.0f}" for peak in peaks)])
        results[method] = taken | {name: vars(ratio) for name, ratio in ratios.items()}
    head = ("", "stream, updates a second", "memory", "stream / memory", "of CPU time", "stream, peak MB", "memory")
    text = timing.markdown(head, rows) + "\n" + timing.caption(about)
    print(text)
    timing.write(options.out, "streaming", text, {"about": about, "rows": options.rows, "results": results})
    return results


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--memory-rows", type=int, default=1_000_000, help="of these in memory")
    parser.add_argument("--folder", type=Path, help="kept if given; else made in OUT and deleted at the end")
    parser.add_argument("--methods", nargs="+", default=["td3-bc", "bc"], choices=("td3-bc", "bc"))
    parser.add_argument("--updates", type=int, default=12_000, help="of a process")
    parser.add_argument("--segment", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.quick:
        options.rows, options.memory_rows, options.updates, options.segment, options.pairs = 20_000, 10_000, 40, 10, 1
    return options


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    if options.child:
        sizes = options.updates, options.segment, options.memory_rows, options.quick
        print(json.dumps(train(*options.child, options.folder, *sizes)))
        return
    kept = options.folder is not None
    options.folder = options.folder or options.out / "streaming-data"
    begun = time.perf_counter()
    if not (options.folder / "dataset.json").exists():
        make(options.folder, options.rows)
        print(f"  {options.rows} rows written in {time.perf_counter() - begun:.0f} s", flush=True)
    try:
        run(options)
    finally:
        if not kept:
            shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
