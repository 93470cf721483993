"""SAC with and without a synthesizer, online: python recipes/online.py [--env NAME] [--steps N] [--seeds S] [--jobs J]

Agents at the same number of environment steps: SAC with one update a step, with --ratio of them, and with as many of
which half of each batch is SynthER's; the actor and temperature of both learn once a step, as in its released code.
Beside them SAC that learns all of itself as often, and REDQ, whose critics are many. Writes OUT/online.md, .json and
.png. A run is a folder, OUT/AGENT-RATIO: what is there goes on, or is left as it is when it has all its steps.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from reverie.evaluation import bootstrap
from reverie.evaluation.plots import compared_curves, save
from reverie.training.metrics import Table

TWIN = "--critics 2 --subset 2 --policy-delay {ratio}"
"""REDQ as the SAC of SynthER's released code: two critics, and an actor that maximises their mean once a step."""
AGENTS = {
    "sac": ("sac", "", False),
    "sac-often": ("redq", TWIN, True),
    "synther-often": ("redq", f"{TWIN} --synthesizer synther", True),
    "sac-whole-often": ("sac", "", True),
    "redq-often": ("redq", "--policy-delay {ratio}", True),
}
"""The algorithm, its further settings, and whether it learns --ratio times a step, or once."""
SHORT = (
    "--hidden 64 64 --critic-hidden 64 64 --batch-size 128 --learning-rate 1e-3 "
    "--warmup 500 --update-interval 50 --log-every 500"
)
SHORT_SYNTHESIS = (
    "--synthesis.interval 1000 --synthesis.updates 2000 --synthesis.rows 10000 --synthesizer.width 128 "
    "--synthesizer.blocks 3 --synthesizer.solver dpm++2m --synthesizer.nfe 31 --synthesizer.chunk 10000 "
    "--synthesizer.learning-rate 1e-3 --synthesizer.decay-updates 2000 --synthesizer.ema-start 500"
)
"""Sizes for a task that takes thousands of steps, on a few cores. Without --short all is SynthER's paper's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="InvertedDoublePendulum-v5")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--ratio", type=int, default=20, help="updates a step of the agents that learn often")
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=AGENTS, metavar="AGENT")
    parser.add_argument("--short", action="store_true", help="small networks, short synthesizers")
    parser.add_argument("--last", type=int, default=5, help="rows of the metrics that the table averages")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/online"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda agent: train(agent, options), options.agents))
    report({called(agent, options): curve(options.out / called(agent, options)) for agent in options.agents}, options)


def called(agent: str, options: argparse.Namespace) -> str:
    return agent.replace("-often", f"-{options.ratio}")


def train(agent: str, options: argparse.Namespace) -> None:
    algorithm, more, often = AGENTS[agent]
    ratio, name = options.ratio if often else 1, called(agent, options)
    words = f"--env {options.env} --steps {options.steps} --seeds {options.seeds} --utd-ratio {ratio} --resume".split()
    words += more.format(ratio=ratio).split()
    if options.short:
        words += SHORT.split() + (SHORT_SYNTHESIS.split() if "--synthesizer" in words else [])
    command = ["online", algorithm, *words, "--out", str(options.out / name)]
    print("reverie", *command, flush=True)
    with (options.out / f"{name}.log").open("a") as log:
        subprocess.run([sys.executable, "-m", "reverie.cli", *command], check=True, stdout=log, stderr=log)


def curve(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Steps `[T]`, mean returns of the episodes that ended since the step before `[S, T]`, and minutes. Where none did,
    the returns before count."""
    columns = Table(folder / "metrics.csv").as_columns()
    seeds = len(np.unique(columns["seed"]))
    steps, returns = (columns[name].reshape(-1, seeds).T for name in ("step", "return"))
    for before, after in zip(returns.T[:-1], returns.T[1:], strict=True):
        after[np.isnan(after)] = before[np.isnan(after)]
    return steps[0], returns, columns["seconds"].max() / 60


def report(curves: dict[str, tuple[np.ndarray, np.ndarray, float]], options: argparse.Namespace) -> None:
    lines = [
        f"| agent, {options.env} | return of the last {options.last} rows, 95 % over seeds | minutes |",
        "|---|---|---|",
    ]
    found = {}
    for agent, (steps, returns, minutes) in curves.items():
        last = np.nanmean(returns[:, -options.last :], axis=1)
        lines.append(f"| {agent} | {last.mean():.0f}, {bootstrap(last)} | {minutes:.1f} |")
        found[agent] = {"steps": steps.tolist(), "returns": returns.tolist(), "minutes": minutes}
    (options.out / "online.json").write_text(json.dumps(found))
    (options.out / "online.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    shown = {agent: (steps, returns) for agent, (steps, returns, _) in curves.items()}
    figure = compared_curves(shown, f"environment steps in {options.env}", "return of the agent's own episodes")
    print(f"picture: {save(figure, options.out / 'online.png')}")


if __name__ == "__main__":
    main()
