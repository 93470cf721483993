"""Chunks that come late: python recipes/delays.py RUN --env pusht

A chunk that takes so many steps to choose is executed from there on; until then the one before goes on. How well does a
policy of chunks act with such a delay, and how smoothly, where a new chunk

- replaces the old one (`replace`),
- is averaged with all before, chosen at every step (`ensemble`),
- is denoised so that it goes on from the old one (`real-time`)?

Also without a delay, how well by how many executed actions a chunk. A jump is the distance from one action to the next.
What is in OUT.json is not measured again. Writes OUT.json, OUT.md and OUT.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.errors import ReverieError
from reverie.evaluation import RunPolicy
from reverie.evaluation.plots import page, save
from reverie.evaluation.scores import estimate

WAYS = ("replace", "ensemble", "real-time")


class Recorded(RunPolicy):
    """Remembers its actions `[steps, n, action]`."""

    def reset(self, n: int) -> None:
        super().reset(n)
        self.actions: list[np.ndarray] = []

    def act(self, observations: Any, feedback: Any = None) -> np.ndarray:
        self.actions.append(super().act(observations, feedback))
        return self.actions[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a policy of chunks")
    parser.add_argument("--env", required=True)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 1, 2, 4, 6])
    parser.add_argument("--executed", type=int, nargs="+", default=[1, 2, 4, 8], help="actions of a chunk, no delay")
    parser.add_argument("--action-horizon", type=int, default=8, help="actions of a chunk, with a delay")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/delays"), help="without a suffix")
    options = parser.parse_args()
    run = reverie.load(options.run)
    for wanted, changes in settings(options):
        once(options.out.with_suffix(".json"), wanted, lambda changes=changes: measured(run, changes, options))
    rows = read(options.out.with_suffix(".json"))
    options.out.with_suffix(".md").write_text(markdown(rows))
    print(markdown(rows))
    draw(rows, options.out.with_suffix(".png"))


def settings(options: argparse.Namespace) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What is measured, and by what it is acted. Temporal ensembling chooses at every step, or as soon as it can."""
    found = []
    for delay in options.delays:
        for way in WAYS:
            steps = max(1, delay) if way == "ensemble" else options.action_horizon
            changes = {"chunking": way, "inference_delay": delay, "action_horizon": steps}
            found.append(({"panel": "delay", "way": way, "x": delay}, changes))
    for steps in options.executed:
        found.append(({"panel": "executed", "way": "replace", "x": steps}, {"action_horizon": steps}))
    return found


def measured(run: Any, changes: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    try:
        changed = replace(run.acting(**changes), path=None)
    except ReverieError as error:  # a delay that the chunk has no room for
        return {"refused": str(error)}
    policy = Recorded(changed, 0)
    scores = reverie.evaluate(policy, options.env, options.episodes, max_steps=options.max_steps)
    found = scores.estimates
    name = next(each for each in ("best reward", "success", "return") if each in found)
    acting = changed.algorithm
    when = acting.action_horizon, acting.inference_delay
    jumps, seams = jerk(np.stack(policy.actions), scores.lengths.ravel(), *when)
    score = estimate(scores.returns) if name == "return" else found[name]
    interval = [score.episodes.low, score.episodes.high]
    return {"score": name, "mean": score.mean, "interval": interval, "jump": jumps, "seam": seams}


def jerk(actions: np.ndarray, lengths: np.ndarray, interval: int, delay: int) -> tuple[float, float]:
    """The mean jump of actions `[T, n, A]`, over all steps of the episodes, and at the first own action of a chunk."""
    jumps = np.linalg.norm(np.diff(actions, axis=0), axis=-1)
    step = np.arange(1, len(actions))[:, None]
    inside = step < lengths
    seam = inside & (step >= interval) & ((step - delay) % interval == 0)
    return float(jumps[inside].mean()), float(jumps[seam].mean()) if seam.any() else float("nan")


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| | | score | 95 % | jump | jump at a chunk's begin |", "|---|---|---|---|---|---|"]
    for row in rows:
        label = f"delay {row['x']}, {row['way']}" if row["panel"] == "delay" else f"{row['x']} actions a chunk"
        if "refused" in row:
            lines.append(f"| {label} | refused: {row['refused']} | | | | |")
            continue
        low, high = row["interval"]
        numbers = f"{row['mean']:.1f} | {low:.1f} to {high:.1f} | {row['jump']:.3g} | {row['seam']:.3g}"
        lines.append(f"| {label} | {row['score']} | {numbers} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    rows = [row for row in rows if "refused" not in row]
    with page(10.5, 3.2) as figure:
        left, middle, right = figure.subplots(1, 3)
        for way in WAYS:
            chosen = sorted(
                (row for row in rows if (row["panel"], row["way"]) == ("delay", way)), key=lambda row: row["x"]
            )
            _line(left, chosen, "mean", way)
            _line(middle, chosen, "seam", way)
        _line(right, [row for row in rows if row["panel"] == "executed"], "mean", "replace")
        name = rows[0]["score"] if rows else ""
        left.set(xlabel="inference delay (steps)", title=name)
        middle.set(xlabel="inference delay (steps)", title="jump at a chunk's begin")
        right.set(xlabel="actions executed a chunk, no delay", title=name)
        left.legend(frameon=False, fontsize=8)
        save(figure, path)


def _line(axes: Any, rows: list[dict[str, Any]], key: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: row["x"])
    x, y = [row["x"] for row in rows], [row[key] for row in rows]
    (line,) = axes.plot(x, y, marker="o", markersize=4, label=label)
    if key == "mean" and rows:
        low, high = zip(*(row["interval"] for row in rows), strict=True)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


if __name__ == "__main__":
    main()
