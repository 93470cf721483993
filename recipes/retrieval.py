"""Fewer calls by stored plans: python recipes/retrieval.py --out FOLDER

How few network calls does a plan need where the chain of denoising begins at a stored plan? The planner of `reverie
demo` drives a ball from random starts to random goals, its plans made in so many calls

- from noise, by fewer and larger steps of DDIM,
- from the nearest of the data's windows, noised by so many levels,
- from the nearest of its own plans that have led to their goals, which are collected over `--rounds` rounds.

All drive the same episodes, others than those of the rounds. Writes OUT/retrieval.json and .md; the planner in OUT/run,
where there is one, is not trained again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reverie
from reverie.collection import make_dataset
from reverie.demo import MAZE, PLANNER, STEPS, UPDATES, Recorder
from reverie.evaluation import RunPolicy
from reverie.planning import remember


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/retrieval"))
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of data")
    parser.add_argument("--updates", type=int, default=UPDATES, help="of the planner")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 5, 20], help="network calls a plan")
    parser.add_argument("--stored", type=int, default=2000, help="plans in a store")
    parser.add_argument("--rounds", type=int, default=5, help="in which plans are collected, `--episodes` each")
    parser.add_argument("--episodes", type=int, default=100)
    measure(parser.parse_args())


def measure(options: argparse.Namespace) -> None:
    data = make_dataset(MAZE, steps=options.steps, seed=0, progress=True)
    run = reverie.fit(PLANNER, data, steps=options.updates, out=options.out / "run", resume=True)
    run = replace(run, path=None)  # scores go into this script's own file
    rows = []
    for calls in options.calls:
        ways = {
            "noise": run.acting(nfe=calls, solver="ddim"),
            "the data's windows": with_windows(run, data, options.stored).acting(retrieval_steps=calls),
            "own plans": with_own_plans(run.acting(retrieval_steps=calls), options),
        }
        rows += [{"from": name, "calls": calls} | scores(way, options.episodes) for name, way in ways.items()]
        print(markdown(rows[-len(ways) :]))
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    (options.out / "retrieval.json").write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
    (options.out / "retrieval.md").write_text(markdown(rows))


def with_windows(run: Any, data: Any, n: int) -> Any:
    """The run with n of the data's windows as its stored plans."""
    view, _ = run.algorithm.prepare(data, run.spec)
    windows = run.algorithm.blocks(run.spec).join(view.draw(jax.random.key(0), n))
    return replace(run, spec=remember(run.spec, windows, n))


def with_own_plans(run: Any, options: argparse.Namespace) -> Any:
    """The run with the plans of its own that led to their goals (all, where none did), made in rounds: the first from
    noise in all its calls, each of the others from the plans before it."""
    planner = run.acting(retrieval_steps=0)
    for number in range(1, options.rounds + 1):
        recorder = Recorder(planner, number)
        reached = reverie.evaluate(recorder, MAZE, options.episodes, seed=number).successes[0]
        plans = np.asarray(recorder.policy.carries.rows[0])
        planner = run = replace(run, spec=remember(run.spec, plans[reached | ~reached.any()], options.stored))
    return planner


def scores(run: Any, episodes: int) -> dict[str, Any]:
    found = reverie.evaluate(RunPolicy(run, 0), MAZE, episodes, seed=0)
    return {"success": 100 * float(found.successes.mean()), "return": float(found.returns.mean())}


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| begins at | calls a plan | success, % | mean return |", "|---|---|---|---|"]
    lines += [f"| {row['from']} | {row['calls']} | {row['success']:.0f} | {row['return']:.1f} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
