"""Stitched steps a second: python -m benchmarks.stitches [--clock cpu] [--threads 1]

DiffStitch at the size of the table of augmentation, with random weights and random data of Hopper's sizes and episodes.
A pass tries so many bridges, and keeps those that it accepts. It accepts nearly all here, which no trained one does:
the table also says what is left where one in twenty is.
"""

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.timing import percentile

TABLE = Path(__file__).parents[1] / "recipes" / "tables" / "augmentation.toml"
QUICK: dict[str, Any] = {"width": 8, "multipliers": (1,), "horizon": 16, "longest_bridge": 12, "attempts": 4}
QUICK |= {"diffusion_steps": 2, "hidden": (8,), "ensemble_hidden": (8,), "members": 2, "elites": 2}
EPISODE, ROWS = 400, 20_000
"""Steps of an episode and of the data: a tenth of Hopper's mixture."""
ACCEPTED = 0.05


def of_table() -> Any:
    """DiffStitch as the table trains it."""
    import tyro

    from reverie.synthesizers import DiffStitch

    words = tomllib.loads(TABLE.read_text())["synthesizers"]["diffstitch"]["train"].split()[1:]
    return tyro.cli(tyro.conf.OmitArgPrefixes[DiffStitch], args=words)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import jax
    import numpy as np

    from benchmarks.workloads import Untrained, random_data

    algorithm: Any = replace(of_table(), nearness=1e9, deviation=1e12)
    if options.quick:
        algorithm = replace(algorithm, **QUICK)
    data = random_data(11, 3, ROWS, EPISODE)
    # Without ends of the task, which random weights would find everywhere.
    endless = {"terminals": np.zeros(ROWS, bool), "timeouts": data.terminals | data.timeouts}
    ours = Untrained.of(algorithm, replace(data, **endless, next_observations=data.observations))
    ready, key, made = algorithm.ready(ours.state, ours.spec), jax.random.key(0), []

    def work() -> None:
        made.append(len(algorithm.episodes(ready, ours.spec, key)["rewards"]))

    taken = percentile(timing.interleaved({"pass": work}, options.pairs, options.least)["pass"], 50)
    rate = made[-1] / taken
    about = timing.machine(options.threads)
    found = {"about": about, "seconds": taken, "attempts": algorithm.attempts, "steps": made[-1], "rate": rate}
    head = ("bridges a pass", "a pass", "steps kept", "steps a second", f"where {ACCEPTED:.0%} are accepted")
    row = [str(algorithm.attempts), timing.span(taken), f"{made[-1]:,}", f"{rate:,.0f}", f"{ACCEPTED * rate:,.0f}"]
    text = f"{timing.markdown(head, [row])}\nRandom weights; median of {options.pairs}; {timing.caption(about)}"
    timing.write(options.out, "stitches", text, found)
    print(text)
    return found


def main(words: list[str] | None = None) -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.3, help="seconds of a sample")
    options = parser.parse_args(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
