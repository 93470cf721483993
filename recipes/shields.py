"""Obstacles that training has not seen: python recipes/shields.py --out FOLDER

The planner of `reverie demo` has learned to drive a ball through the U maze. Then a disc stands in the way, another one
in every episode: where the plan without a shield goes, but so that there is room beside it. What does each way of
minding it come to: none, plain gradients, moving the finished plan row by row, SafeDiffuser's three variants, moving it
as a whole, and that with guidance through the denoiser before?

Of plans: the share of their states in the disc, the share of plans that have any, and of those that have some on the
lines between states, and of those with a trap, a row at the boundary with a step to the next that is half as long again
as the data's longest. Of what is driven after them,
which is another matter: the share of episodes in which the ball's centre was in the disc, and the score. Shields are
tried with several margins. Writes OUT/shields.json, .md and .png; what is there is not made again.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.collection import make_dataset
from reverie.demo import MAZE, PLANNER, STEPS, UPDATES
from reverie.environments.pointmaze import find_maze
from reverie.evaluation import RunPolicy
from reverie.evaluation.mazes import draw_walls
from reverie.evaluation.plots import INK, page, save
from reverie.planners.shielded import shield_run

RADII = (0.12, 0.2)
"""In m, least and largest: in a corridor of 1 m the ball, of radius 0.1, has room of 0.2 m or more on one side."""
CLEAR = 0.1
"""Least distance in m of a disc from start and goal."""
AT = 0.05
"""Distance in m from a boundary at which a row is at it, beyond the margin."""
WAYS: dict[str, dict[str, Any]] = {
    each: {"shield": each} for each in ("none", "gradient", "afterwards", "robust", "relaxed", "time-varying", "smooth")
}
WAYS["smooth, guided"] = {"shield": "smooth", "barrier_guidance": 10.0}
TRAP = 1.5
"""How many times the data's longest step the one to or from a trap is."""
PLAIN = ("none", "gradient")
"""Ways that a margin does not change."""


class Driven:
    """A policy that notes its plans and where it was."""

    def __init__(self, run: Any, seed: int = 0):
        self.policy, self.run, self.name = RunPolicy(run, seed), run, run.name

    def reset(self, n: int) -> None:
        self.policy.reset(n)
        self.seen: list[np.ndarray] = []
        self.plans: np.ndarray | None = None

    def act(self, observations: dict[str, np.ndarray], feedback: Any = None) -> np.ndarray:
        self.seen.append(observations["observation"][:, :2].copy())
        actions = self.policy.act(observations, feedback)
        if self.plans is None:
            rows = getattr(self.policy.carries, "own", self.policy.carries).rows[0]
            self.first = {name: part.copy() for name, part in observations.items()}
            self.plans = np.asarray(self.run.algorithm.states_of(self.run.spec, rows))[..., :2]
        return actions

    def milliseconds(self) -> float:
        """Of a plan, of as many as there are episodes at once: the median of 5, compiled before."""
        times = []
        for _ in range(5):
            self.policy.reset(len(self.first["observation"]))
            begun = time.perf_counter()
            self.policy.act(self.first)
            times.append(1e3 * (time.perf_counter() - begun) / len(self.first["observation"]))
        return float(np.median(times))

    @property
    def paths(self) -> np.ndarray:
        return np.stack(self.seen, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/shields"))
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of data")
    parser.add_argument("--updates", type=int, default=UPDATES, help="of the planner")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--margins", type=float, nargs="+", default=[0.01, 0.15], help="m")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    measure(parser.parse_args())


def measure(options: argparse.Namespace) -> None:
    data = make_dataset(MAZE, steps=options.steps, seed=0, progress=True)
    run = reverie.fit(PLANNER, data, steps=options.updates, out=options.out / "run", resume=True)
    run = replace(run, path=None)  # scores go into this script's own file
    free = Driven(run, seed=1)  # of other noise than the plans that are measured
    reverie.evaluate(free, MAZE, options.episodes, max_steps=1)
    discs, longest = obstacles(free.plans), longest_step(data, run.algorithm.stride)
    file = options.out / "shields.json"
    for number, margin in enumerate(options.margins):
        for way in options.ways if number == 0 else [each for each in options.ways if each not in PLAIN]:
            wanted = {"shield": way, "margin": margin}
            once(file, wanted, lambda way=way, margin=margin: driven(run, way, margin, discs, longest, options.out))
    (options.out / "shields.md").write_text(markdown(read(file)))
    print(markdown(read(file)))
    draw(discs, options, options.out / "shields.png")


def obstacles(plans: np.ndarray, seed: int = 0) -> np.ndarray:
    """A disc `[x, y, radius]` on each of the plans `[n, H, 2]`, away from its start and its goal: `[n, 3]`."""
    random, found = np.random.default_rng(seed), []
    for plan in plans:
        apart = np.minimum(*(np.linalg.norm(plan - plan[end], axis=1) for end in (0, -1)))
        radius = min(random.uniform(*RADII), max(apart.max() - CLEAR, 0.02))
        found.append([*plan[random.choice(np.flatnonzero(apart >= min(radius + CLEAR, apart.max())))], radius])
    return np.array(found, np.float32)


def longest_step(data: Any, stride: int) -> float:
    """The furthest that two states of an episode are apart, `stride` steps after each other, in m."""
    ends = data.timeouts if data.terminals is None else data.timeouts | data.terminals
    episode = np.cumsum(ends) - ends  # a last row is of the episode that it ends
    together = episode[:-stride] == episode[stride:]
    places = data.observations[:, :2]
    return float(np.linalg.norm(places[stride:] - places[:-stride], axis=1)[together].max())


def driven(run: Any, way: str, margin: float, discs: np.ndarray, longest: float, out: Path) -> dict[str, Any]:
    """What the way comes to; its plans and paths are kept in the folder."""
    policy = Driven(shield_run(run, ["disc"], **WAYS[way], barrier_margin=margin, disc=discs[:, None]))
    policy.name = f"{way}, margin {margin:g}"
    scores = reverie.evaluate(policy, MAZE, len(discs), seed=0)
    np.savez(kept(out, way, margin), plans=policy.plans, paths=policy.paths)
    plans, lines, paths = (distance(discs, each) for each in (policy.plans, finely(policy.plans), policy.paths))
    planned, jumps = plans[:, 1:-1], np.linalg.norm(np.diff(policy.plans, axis=1), axis=-1)
    at = np.minimum(plans[:, :-1], plans[:, 1:]) < margin + AT
    interval = scores.estimates["normalised"].episodes
    return {
        "states_inside": 100 * float((planned < -1e-6).mean()),
        "plans_inside": 100 * float((planned < -1e-6).any(1).mean()),
        "lines_inside": 100 * float((lines < -1e-3).any(1).mean()),
        "worst": float(planned.min()),
        "trapped": 100 * float((at & (jumps > TRAP * longest)).any(1).mean()),
        "episodes_inside": 100 * float((paths < 0).any(1).mean()),
        "success": 100 * float(scores.successes.mean()),
        "normalised": float(scores.normalised.mean()),
        "interval": [interval.low, interval.high],
        "milliseconds": policy.milliseconds(),
    }


def kept(out: Path, way: str, margin: float) -> Path:
    return out / f"{way}-{margin:g}.npz"


def finely(plans: np.ndarray, places: int = 8) -> np.ndarray:
    """Plans `[n, H, 2]` with places on the straight lines between their rows: `[n, (H - 1) * places, 2]`."""
    steps = np.linspace(0, 1, places, endpoint=False)[:, None]
    return (plans[:, :-1, None] + steps * np.diff(plans, axis=1)[:, :, None]).reshape(len(plans), -1, 2)


def distance(discs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Of places `[n, T, 2]` from the episodes' discs: `[n, T]`."""
    return np.linalg.norm(places - discs[:, None, :2], axis=-1) - discs[:, None, 2]


HEAD = ("shield", "margin, m", "states inside, %", "plans inside, %", "their lines, %", "worst, m", "trapped plans, %")
HEAD += ("episodes inside, %", "goals reached, %", "normalised return", "a plan, ms")


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for row in rows:
        margin = "" if row["shield"] in PLAIN else f"{row['margin']:g}"
        low, high = row["interval"]
        numbers = [f"{row[key]:.1f}" for key in ("states_inside", "plans_inside", "lines_inside")]
        numbers += [f"{row['worst']:.3f}", *(f"{row[key]:.0f}" for key in ("trapped", "episodes_inside", "success"))]
        numbers += [f"{row['normalised']:.1f} ({low:.1f} to {high:.1f})", f"{row['milliseconds']:.2f}"]
        lines.append(f"| {' | '.join((row['shield'], margin, *numbers))} |")
    return "\n".join(lines) + "\n"


def draw(discs: np.ndarray, options: argparse.Namespace, path: Path, episodes: int = 2) -> None:
    """Plans as dots and what was then driven as lines, with the last margin: a column each, an episode a row."""
    from matplotlib.patches import Circle

    ways, maze = options.ways, find_maze(MAZE)
    files = {way: kept(options.out, way, options.margins[0 if way in PLAIN else -1]) for way in ways}
    with np.load(files[ways[0]]) as file:
        chosen = np.argsort(distance(discs, file["plans"]).min(1))[:episodes]  # those deepest in without a shield
    with page(1.9 * len(ways), 1.9 * episodes) as figure:
        grid = figure.subplots(episodes, len(ways), squeeze=False)
        for line, episode in zip(grid, chosen, strict=True):
            for axes, way in zip(line, ways, strict=True):
                with np.load(files[way]) as file:
                    plan, driven_path = file["plans"][episode], file["paths"][episode]
                draw_walls(axes, maze, [driven_path], plan[0], plan[-1])
                axes.scatter(*plan.T, s=8, facecolor="white", edgecolor=INK, linewidths=0.6, zorder=3)
                axes.add_patch(Circle(discs[episode, :2], discs[episode, 2], color="#c0392b", alpha=0.35, linewidth=0))
                axes.set_title(way, fontsize=9)
        save(figure, path)


if __name__ == "__main__":
    main()
