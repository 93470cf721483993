"""Stitched ways through the fork: python recipes/stitches.py --out FOLDER

In the data `fork-halves` nobody goes from the start to the goal: half of the episodes go from the start to beside the
obstacle and then astray, the others come from the edge and go on to the goal. DiffStitch makes episodes that leave the
one and go on with the other. What are they worth to those who learn from them: behaviour cloning, a planner whose plan
is one window, and a method that learns values?

Of bridges, by the bound of the filter: how many of those that found a target it keeps, and what becomes of them when
their actions are taken in the fork itself, from the same start: how far off the target they end, and how many touch the
obstacle. Of what is learned from the halves alone, and from both: the share of episodes that reach the goal.

Writes OUT/stitches.json, .md and .png; what is there is not made again.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measured import once, read

import reverie
from reverie.baselines import BC, TD3BC
from reverie.collection import make_dataset
from reverie.data import Dataset, concatenate
from reverie.environments import fork
from reverie.evaluation.plots import BLUE, DISTINCT, page, save
from reverie.planners import DecisionDiffuser
from reverie.synthesizers import DiffStitch

DISCOUNT = 0.98
WINDOWS: dict[str, Any] = {
    "horizon": 32,
    "width": 16,
    "multipliers": (1, 2, 4),
    "diffusion_steps": 20,
    "batch_size": 32,
    "discount": DISCOUNT,
    "termination_penalty": 0.0,
    "learning_rate": 1e-3,
    "ema_start": 500,
    "ema_decay": 0.97,
}
STITCHER = DiffStitch(
    **WINDOWS,
    units="minmax",
    hidden=(128, 128),
    ensemble_hidden=(64, 64),
    rows_left=0,  # an episode has some thirty
    targets=0.4,
    shortest_bridge=4,
    longest_bridge=24,
    deviation=3e-3,
    kept="episode",
    attempts=64,
    chunk=5000,
)
LEARNERS: dict[str, tuple[Any, int, int]] = {
    "BC": (BC(hidden=(128, 128)), 1, 6),
    "TD3+BC": (TD3BC(hidden=(128, 128), critic_hidden=(128, 128)), 2, 6),
    "Decision Diffuser": (DecisionDiffuser(**WINDOWS, hidden=(128, 128)), 1, 2),
}
"""How many times the `updates` each takes, and how many seeds."""
BOUNDS = (1e-4, 1e-3, 3e-3, 1e-2, 1e-1, np.inf)
TRIED = 10
"""Passes of bridges that the bounds are measured on."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/stitches"))
    parser.add_argument("--updates", type=int, default=3000, help="of the stitcher, and of the planner")
    parser.add_argument("--rows", type=int, default=30_000, help="stitched")
    parser.add_argument("--episodes", type=int, default=50, help="of each seed")
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    measure(parser.parse_args(arguments))


def measure(options: argparse.Namespace) -> None:
    halves, file = make_dataset("fork-halves"), options.out / "stitches.json"
    run = reverie.fit(STITCHER, halves, steps=options.updates, out=options.out / "stitcher", resume=True)
    found = tried(run)
    once(file, {"what": "bridges"}, lambda: bridges(found, halves))
    stitched = made(run, options)
    sets = {"halves": halves, "halves + stitched": concatenate(halves, stitched)}
    for learner in options.learners:
        for name, data in sets.items():
            wanted = {"what": "scores", "learner": learner, "data": name}
            once(file, wanted, lambda learner=learner, data=data: scores(learner, data, options))
    (options.out / "stitches.md").write_text(markdown(read(file)))
    print(markdown(read(file)))
    draw(found, halves, options.out / "stitches.png")


def tried(run: Any) -> dict[str, np.ndarray]:
    """Bridges, before anything is refused."""
    ready = run.algorithm.ready(run.state(), run.spec)
    passes = [run.algorithm.stitches(ready, run.spec, jax.random.key(i)) for i in range(TRIED)]
    return {name: np.concatenate([each[name] for each in jax.device_get(passes)]) for name in passes[0]}


def bridges(found: dict[str, np.ndarray], halves: Dataset) -> dict[str, Any]:
    """What the bounds keep of those that found a target, last and are better, and what becomes of that in the fork."""
    possible = np.flatnonzero(found["near"] & found["lasting"] & found["better"])
    off, touched = np.array([replayed(found, i) for i in possible]).T
    rows = []
    for bound in BOUNDS:
        kept = found["error"][possible] < bound
        some = kept.any()
        rows.append(
            {
                "bound": bound if np.isfinite(bound) else None,
                "kept": 100 * float(kept.mean()),
                "off": [float(x) for x in np.quantile(off[kept], (0.5, 0.9))] if some else None,
                "touching": 100 * float(touched[kept].mean()) if some else None,
            }
        )
    half = halves.infos["half"]
    return {
        "bridges": len(found["near"]),
        "near": 100 * float(found["near"].mean()),
        "possible": 100 * len(possible) / len(found["near"]),
        "across": 100 * float((half[found["start"][possible]] < half[found["target"][possible]]).mean()),
        "steps": float(found["steps"][possible].mean()),
        "bounds": rows,
    }


def replayed(found: dict[str, np.ndarray], i: int) -> tuple[float, bool]:
    """How far from the target a bridge's actions end in the fork, and whether they touch the obstacle."""
    place, steps = found["states"][i, 0].astype(float), found["steps"][i]
    touched = False
    for action in found["actions"][i, :steps]:
        after = np.clip(place + action, -fork.SIZE, fork.SIZE)
        touched |= fork.nearest(place, after, fork.OBSTACLE) <= fork.OBSTACLE_RADIUS
        place = after
    return float(np.linalg.norm(place - found["states"][i, steps])), touched


def made(run: Any, options: argparse.Namespace) -> Dataset:
    file = options.out / "stitched.hdf5"
    if not file.exists():
        run.write(f"d4rl:{file}", options.rows)
    return reverie.load_dataset(f"d4rl:{file}")


def scores(learner: str, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    algorithm, times, seeds = LEARNERS[learner]
    name = f"{learner}-{len(data)}".replace(" ", "-").lower()
    run = reverie.fit(
        *(algorithm, data), steps=times * options.updates, seeds=seeds, out=options.out / name, resume=True
    )
    found = reverie.evaluate(replace(run, path=None), "fork", options.episodes)
    return {"reached": [100 * float(each) for each in found.successes.mean(1)], "episodes": options.episodes}


def markdown(rows: list[dict[str, Any]]) -> str:
    (of_bridges,) = (row for row in rows if row["what"] == "bridges")
    lines = [
        f"{of_bridges['bridges']} bridges: {of_bridges['near']:.0f} % find a target; {of_bridges['possible']:.0f} % "
        f"also last and return more, {of_bridges['across']:.0f} % of those from one half to the other, in "
        f"{of_bridges['steps']:.1f} steps on average.",
        "",
        "| bound | kept, % | off the target, median | 90 % | touching the obstacle, % |",
        "|---|---|---|---|---|",
    ]
    for row in of_bridges["bounds"]:
        bound = "none" if row["bound"] is None else f"{row['bound']:g}"
        numbers = [f"{row['kept']:.0f}", "", "", ""]
        if row["off"]:
            numbers[1:] = [*(f"{each:.4f}" for each in row["off"]), f"{row['touching']:.0f}"]
        lines.append(f"| {bound} | {' | '.join(numbers)} |")
    lines += ["", "| | " + " | ".join(names := ["halves", "halves + stitched"]) + " |", "|---" * 3 + "|"]
    reached = {(row["learner"], row["data"]): row["reached"] for row in rows if row["what"] == "scores"}
    for learner in dict.fromkeys(learner for learner, _ in reached):
        cells = [", ".join(f"{each:.0f}" for each in reached[learner, name]) for name in names]
        lines.append(f"| {learner}, goals reached, % | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, np.ndarray], halves: Dataset, path: Path, stitches: int = 8) -> None:
    """The data, and stitched episodes: what is real of one, the bridge, and what is real of the other."""
    from matplotlib.patches import Circle

    half = halves.infos["half"]
    crossing = found["accepted"] & (half[found["start"]] < half[found["target"]])
    with page(6.2, 3.9) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for begin, end in halves.episodes[:60]:
            panels[0].plot(*halves.observations[begin:end].T, color=DISTINCT[half[begin] + 1], lw=0.5)
        for i in np.flatnonzero(crossing)[:stitches]:
            begin = halves.episodes[:, 0][halves.episodes[:, 0] <= found["start"][i]].max()
            target, steps = found["target"][i], found["steps"][i]
            panels[1].plot(*halves.observations[begin : found["start"][i] + 1].T, color=DISTINCT[1], lw=1.2)
            panels[1].plot(*halves.observations[target : target + found["rest"][i]].T, color=BLUE, lw=1.2)
            panels[1].plot(*found["states"][i, : steps + 1].T, color="#c0392b", lw=1.2, marker="o", ms=2.5)
        for panel, title in zip(panels, ("halves", f"{stitches} stitched, bridges with dots"), strict=True):
            panel.add_patch(Circle(fork.OBSTACLE, fork.OBSTACLE_RADIUS, color="#c9cdd4"))
            panel.add_patch(Circle(fork.GOAL, fork.GOAL_RADIUS, color="#90ee90"))
            panel.set(title=title, aspect="equal", xlim=(-0.5, 1.5), ylim=(-1.2, 1.2))
        save(figure, path)


if __name__ == "__main__":
    main()
