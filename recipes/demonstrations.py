"""Two ways to do the same: python recipes/demonstrations.py [--start SEED] [--out FILE.png]

The fork's demonstrations, and Push-T's controller in its two styles from the same start: the disc's path, with the
block where it was after each push and where it ended.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from reverie.collection import make_dataset
from reverie.collection.fork import EPISODE
from reverie.collection.pushing import Pusher
from reverie.collection.pusht import Settings
from reverie.data import Dataset
from reverie.environments import fork
from reverie.environments.pusht import GOAL, SIZE, PushT, outline
from reverie.evaluation.plots import BLUE, DISTINCT, page, save

COLOURS = {-1: DISTINCT[1], 1: BLUE}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/demonstrations.png"))
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(save(draw(options.start), options.out))


def draw(start: int) -> Any:
    with page(13.0, 4.6) as figure:
        left, *right = figure.subplots(1, 3)
        draw_fork(left, make_dataset("fork", steps=40 * EPISODE))
        for panel, style in zip(right, (1, -1), strict=True):
            draw_push(panel, style, *demonstrate(style, start))
    return figure


def draw_fork(panel: Any, data: Dataset) -> None:
    from matplotlib.patches import Circle

    for first, stop in data.episodes:
        panel.plot(*data.observations[first:stop].T, color=COLOURS[int(data.infos["side"][stop - 1])], lw=0.8)
    panel.add_patch(Circle(fork.OBSTACLE, fork.OBSTACLE_RADIUS, color="#8a919c"))
    panel.add_patch(Circle(fork.GOAL, fork.GOAL_RADIUS, color="#90ee90"))
    panel.set(title=f"fork: {len(data.episodes)} demonstrations", aspect="equal")


def demonstrate(style: int, start: int) -> tuple[np.ndarray, list[tuple]]:
    """The disc's path `[n, 2]`, and the block's poses at the start and after each push."""
    env, pusher = PushT(), Pusher(style, np.random.default_rng(start), Settings())
    env.reset(seed=start)
    path, poses, ended = [env.simulation.position], [env.simulation.pose], False
    while not ended:
        for target in pusher.decide(env.simulation):
            _, _, done, cut, _ = env.step(target)
            path.append(env.simulation.position)
            if ended := done or cut:
                break
        poses.append(env.simulation.pose)
    return np.array(path), poses


def draw_push(panel: Any, style: int, path: np.ndarray, poses: list[tuple]) -> None:
    panel.fill(*outline(GOAL).T, color="#90ee90")
    for number, pose in enumerate(poses):
        panel.fill(*outline(pose).T, facecolor="none", edgecolor="#778899", lw=0.6 + 1.2 * number / len(poses))
    panel.plot(*path.T, color=COLOURS[style], lw=1.2)
    panel.plot(*path[0], "o", color=COLOURS[style])
    name = {1: "clockwise", -1: "anticlockwise"}[style]
    panel.set(title=f"{name}: {len(poses) - 1} pushes, {len(path) - 1} steps", aspect="equal")
    panel.set(xlim=(0, SIZE), ylim=(SIZE, 0))


if __name__ == "__main__":
    main()
