"""Which way is taken: python recipes/ways.py RUN ... [--out FILE.png]

Policies of the fork, each a panel: the paths of its episodes, coloured by the side on which they pass the obstacle, and
how many pass on the left, on the right, or touch it.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie.environments import fork
from reverie.evaluation import RunPolicy
from reverie.evaluation.plots import BLUE, DISTINCT, page, save

COLOURS = {-1: DISTINCT[1], 1: BLUE, 0: "#8a919c"}


class Followed(RunPolicy):
    """Remembers where it was, `[steps, n, 2]`."""

    def reset(self, n: int) -> None:
        super().reset(n)
        self.places: list[np.ndarray] = []

    def act(self, observations: Any, feedback: Any = None) -> np.ndarray:
        self.places.append(np.array(observations))
        return super().act(observations, feedback)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/ways.png"))
    options = parser.parse_args(arguments)
    with page(2.7 * len(options.runs), 3.6) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(options.runs), sharey=True))
        for panel, path in zip(panels, options.runs, strict=True):
            run = replace(reverie.load(path), path=None)
            paths, reached = followed(run, options.episodes)
            shares = draw(panel, paths, reached)
            panel.set(title=f"{run.name}\n{shares}", aspect="equal", xlim=(-1, 1), ylim=(-1.3, 1.3))
            print(f"{run.name}: {shares}")
    print(save(figure, options.out))


def followed(run: Any, episodes: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The paths `[T, 2]` of episodes, and whether each reached the goal."""
    policy = Followed(run, 0)
    scores = reverie.evaluate(policy, "fork", episodes)
    places = np.stack(policy.places, 1)
    paths = [place[:length] for place, length in zip(places, scores.lengths.ravel(), strict=True)]
    return paths, scores.successes.ravel()


def draw(panel: Any, paths: list[np.ndarray], reached: np.ndarray) -> str:
    """The paths, and how many went which way."""
    from matplotlib.patches import Circle

    sides = np.array([side(path) if good else 0 for path, good in zip(paths, reached, strict=True)])
    for path, way in zip(paths, sides, strict=True):
        panel.plot(*path.T, color=COLOURS[int(way)], lw=0.7)
    panel.add_patch(Circle(fork.OBSTACLE, fork.OBSTACLE_RADIUS, color="#c9cdd4"))
    panel.add_patch(Circle(fork.GOAL, fork.GOAL_RADIUS, color="#90ee90"))
    return f"{(sides < 0).sum()} left, {(sides > 0).sum()} right, {(sides == 0).sum()} failed"


def side(path: np.ndarray) -> int:
    """1 for the right and -1 for the left of the obstacle, where the path passes it."""
    passed = np.flatnonzero(path[:, 1] > fork.OBSTACLE[1])
    return int(np.sign(path[passed[0], 0])) if passed.size else 0


if __name__ == "__main__":
    main()
