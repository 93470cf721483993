"""Mazes for a short-sighted policy: python recipes/simulation.py [--updates 4000]

A point goes straight to the goal of a maze on a grid of 7 x 7 cells, and now and then a few steps anywhere: where walls
are in the way it succeeds by luck. Of 20,000 random mazes with a way it plays one episode each; a diffusion model
learns the mazes, and its model of success the outcomes. It then proposes mazes: any, and such as the policy should
solve with probability 0.9, 0.5 and 0.1, by guidance alone and as the nearest of four. Each is played 32 times. At last
another plays what is proposed for 0.5, a walk at random, of which the model learns every 100 episodes.

The run is kept in OUT; writes OUT.json, where what is there is not measured again, and OUT.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.environments import gridmaze
from reverie.environments.gridmaze import FARTHEST, GOAL, GOAL_RADIUS, LIMIT, START, WALL
from reverie.evaluation.plots import BLUE, DISTINCT, INK, page, save
from reverie.roles import GenerativeSimulation
from reverie.roles.proposing import Proposing
from reverie.roles.simulation import outcomes, propose

METHOD = GenerativeSimulation(width=256, blocks=3, learning_rate=1e-3, guidance_scale=8.0)
WANTED = {"easy": 0.9, "edge": 0.5, "hard": 0.1}
PLAYED = 32
"""Episodes in each maze that is judged."""
ASTRAY, STRAY_STEPS = 0.05, 8
"""Probability at a step to go anywhere for so many."""
SHOWN = 5


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mazes", type=int, default=20_000)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--proposals", type=int, default=256, help="in each row of the table")
    parser.add_argument("--out", type=Path, default=Path("runs/simulation"))
    options = parser.parse_args(arguments)
    mazes = gridmaze.random_configurations(np.random.default_rng(0), options.mazes)
    data = outcomes(gridmaze, mazes, played(mazes, np.random.default_rng(1)))
    run = reverie.fit(replace(METHOD, decay_updates=options.updates), data, steps=options.updates, out=options.out,
                      resume=True)  # fmt: skip
    results, n = options.out.with_suffix(".json"), options.proposals
    once(results, {"mazes": "random"}, lambda: judged(mazes[:n]))
    once(results, {"mazes": "any"}, lambda: proposed(run, n, None))
    for name, success in WANTED.items():
        for candidates in (1, 4):
            arm = {"mazes": name, "candidates": candidates}
            chosen = run.acting(candidates=candidates)
            once(results, arm, lambda chosen=chosen, success=success: proposed(chosen, n, success))
    once(results, {"walk": "edge"}, lambda: followed(run))
    rows = read(results)
    for row in rows:
        print({name: each for name, each in row.items() if "walk" in row or not isinstance(each, list)})
    print(draw(rows, options.out.with_suffix(".png")))


def played(mazes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether the short-sighted policy succeeds, an episode in each maze: `[n]`, 0 or 1."""
    walls, at, goal = mazes == WALL, gridmaze.centres(mazes, START), gridmaze.centres(mazes, GOAL)
    won, stray = np.zeros(len(mazes), bool), np.zeros(len(mazes), int)
    way = np.zeros_like(at)
    for _ in range(LIMIT):
        begins = (stray == 0) & (rng.random(len(mazes)) < ASTRAY)
        way[begins] = rng.uniform(-FARTHEST, FARTHEST, (begins.sum(), 2))
        stray = np.where(begins, STRAY_STEPS, np.maximum(stray - 1, 0))
        straight = np.clip(goal - at, -FARTHEST, FARTHEST)
        at = np.where(won[:, None], at, gridmaze.moved(walls, at, np.where(stray[:, None] > 0, way, straight)))
        won |= np.linalg.norm(at - goal, axis=1) <= GOAL_RADIUS
    return won.astype(np.float32)


def proposed(run: Any, n: int, success: float | None) -> dict[str, Any]:
    """What the model proposes for a probability of success, and what it thinks of it."""
    made = propose(run, gridmaze, n, success)
    found = judged(made.configurations, success)
    about = {"drawn": made.drawn, "solvable": round(made.solvable, 3), "novel": round(made.novel, 3)}
    return about | {"told": round(float(made.success.mean()), 3)} | found | {"probabilities": made.success.tolist()}


def judged(mazes: np.ndarray, wanted: float | None = None) -> dict[str, Any]:
    """How long the ways are, how often the policy succeeds, and how far that is from what was wanted."""
    rates = np.mean([played(mazes, np.random.default_rng(100 + i)) for i in range(PLAYED)], 0)
    edge = {} if wanted is None else {"off": round(float(np.abs(rates - wanted).mean()), 3)}
    return edge | {
        "success": round(float(rates.mean()), 3),
        "between 0.2 and 0.8": round(float(((rates > 0.2) & (rates < 0.8)).mean()), 3),
        "path": round(float(gridmaze.path_lengths(mazes).mean()), 2),
        "walls": round(float((mazes == WALL).mean()), 3),
        "rates": rates.round(3).tolist(),
        "shown": mazes[:SHOWN].tolist(),
    }


def followed(run: Any, rounds: int = 8, episodes: int = 100) -> dict[str, Any]:
    """Of each round's proposals how long their ways are, and how often a walk succeeds that goes on for ten steps in
    every direction that it takes; and how often in as many random mazes."""
    env = Proposing(gridmaze.GridMaze(), run, gridmaze, batch=episodes, refit_every=episodes)
    rng = np.random.default_rng(0)
    won = [walked(env, rng, {}) for _ in range(rounds * episodes)]
    mazes = gridmaze.random_configurations(rng, episodes * 3)
    return {
        "success": np.reshape(won, (rounds, episodes)).mean(1).round(2).tolist(),
        "told": [round(float(made.success.mean()), 2) for made in env.proposals],
        "path": [round(float(gridmaze.path_lengths(made.configurations).mean()), 1) for made in env.proposals],
        "solvable": [round(made.solvable, 2) for made in env.proposals],
        "random mazes": round(float(np.mean([walked(env.env, rng, {"configuration": maze}) for maze in mazes])), 2),
    }


def walked(env: Any, rng: np.random.Generator, options: dict[str, Any]) -> bool:
    """Whether an episode succeeds."""
    env.reset(options=options)
    for step in range(LIMIT):
        if step % 10 == 0:
            action = rng.uniform(-FARTHEST, FARTHEST, 2)
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    return info["success"]


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """A few mazes of each kind with a shortest way in each, and beside them how often the policy succeeds in all."""
    kinds = [row for row in rows if "mazes" in row and row.get("candidates", 4) == 4]
    with page(1.25 * SHOWN + 3.0, 1.5 * len(kinds)) as figure:
        axes = figure.subplots(len(kinds), SHOWN + 1, squeeze=False, width_ratios=[1] * SHOWN + [2])
        for row, (*panels, last) in zip(kinds, axes, strict=True):
            probabilities = row.get("probabilities", [None] * SHOWN)
            for panel, maze, rate, told in zip(panels, row["shown"], row["rates"], probabilities, strict=False):
                draw_maze(panel, np.array(maze))
                panel.set_title(f"{rate:.2f}" + ("" if told is None else f" (told {told:.2f})"), fontsize=8)
            wanted = WANTED.get(row["mazes"])
            panels[0].set_ylabel(row["mazes"] + ("" if wanted is None else f" ({wanted})"))
            last.hist(row["rates"], np.linspace(0, 1, 11), color=BLUE)
            if wanted is not None:
                last.axvline(wanted, color=DISTINCT[1], lw=1.5)
            last.set(xlim=(0, 1), yticks=[])
        axes[-1, -1].set_xlabel("success of the policy")
        return save(figure, path)


def draw_maze(panel: Any, maze: np.ndarray) -> None:
    """Walls dark, the start a dot, the goal a star, and a shortest way."""
    panel.imshow(maze == WALL, cmap="Greys", vmin=0, vmax=1.4)
    way = gridmaze.shortest_way(maze)
    panel.plot(way[:, 1], way[:, 0], color=BLUE, lw=1.2)
    panel.plot(way[0, 1], way[0, 0], "o", color=INK, markersize=4)
    panel.plot(way[-1, 1], way[-1, 0], "*", color=DISTINCT[1], markersize=8)
    panel.grid(False)
    panel.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main()
