"""What an expert wants: python recipes/relative_reward.py

In the U maze a base's data go from anywhere to anywhere, and an expert's to one goal; both stay where they arrive. A
diffuser learns from each, and a relative reward from the two. Where is it high? And how many of the base's plans, led
by it, end where the expert's do? Plans are of 1.8 s, from states at rest drawn at random. The planners, replanning at
every step, then drive: how many reach the goal of `pointmaze-umaze-single`, which is the expert's?

Runs are kept in OUT; writes OUT.json, where what is there is not measured again, and OUT.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measured import once, read

import reverie
from reverie.collection.pointmaze import Point, draw_position
from reverie.data import Dataset, Gaussian, Spec, windows
from reverie.environments.pointmaze import GOAL_NOISE, MAZES, Settings, WaypointController
from reverie.evaluation.mazes import draw_walls
from reverie.evaluation.plots import page, save
from reverie.planners import Diffuser
from reverie.roles import RelativeReward
from reverie.roles.relative_reward import pair_runs, steer_run

MAZE = MAZES["pointmaze-umaze-single"]
STEPS = 200
"""Of an episode."""
STARTS = 400
SCALES = (0.0, 0.5, 1.0, 2.0)


class Arriving(Diffuser):
    """Whose windows, beyond an episode's end, stay where it was."""

    name = "arriving-diffuser"

    def prepare(self, data: Dataset, spec: Spec | None = None) -> Any:
        spec = spec or Spec.fit(data, observations=Gaussian, actions=Gaussian)
        return windows(data, spec, self.horizon, self.stride, pad="edge", discount=self.discount), spec


PLANNER = Arriving(
    horizon=16, stride=12, width=16, multipliers=(1, 2), diffusion_steps=10, action_weight=1.0, value_updates=0,
    guidance_scale=0.0, candidates=1, learning_rate=1e-3, batch_size=64, ema_start=500, ema_decay=0.97,
)  # fmt: skip
REWARD = RelativeReward.like(PLANNER, padding="edge", learning_rate=1e-3, ema_start=500, ema_decay=0.97)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=300, help="of the data of each")
    parser.add_argument("--updates", type=int, default=3000, help="of each planner, and of the reward")
    parser.add_argument("--driven", type=int, default=20, help="episodes; 0 for plans alone")
    parser.add_argument("--out", type=Path, default=Path("runs/relative_reward"))
    options = parser.parse_args(arguments)
    anywhere, one = trips(options.episodes, None, 0), trips(options.episodes, MAZE.goal, 1)
    base = trained(PLANNER, anywhere, options, "base")
    expert = trained(PLANNER, one, options, "expert", base)
    reward = trained(REWARD, anywhere, options, "reward", pair_runs(base, expert))
    runs = {f"base, led by {scale:g}": steer_run(base, reward, scale) for scale in SCALES} | {"expert": expert}
    results = options.out.with_suffix(".json")
    for name, run in runs.items():
        once(results, {"plans of": name}, lambda run=run: planned(run))
        if options.driven and not name.endswith(("0.5", "2")):
            once(results, {"driven by": name}, lambda run=run: driven(run, options.driven))
    once(results, {"map": "windows"}, lambda: valued(reward, trips(options.episodes // 3, None, 2)))
    rows = read(results)
    for row in rows:
        print({key: each for key, each in row.items() if not isinstance(each, list)})
    print(draw(rows, options.out.with_suffix(".png")))


def trips(episodes: int, goal: Any, seed: int) -> Dataset:
    """From anywhere to anywhere, or to the cell `goal`, and then there until the episode is cut."""
    rng, settings, rows = np.random.default_rng(seed), Settings(), []
    point = Point(MAZE, MAZE.centre(MAZE.free[0]))
    for _ in range(episodes):
        controller, start = WaypointController(MAZE, settings, rng), draw_position(MAZE, rng)
        centre = MAZE.centre(goal or MAZE.free[rng.integers(len(MAZE.free))])
        aim = tuple(np.add(centre, rng.uniform(-GOAL_NOISE, GOAL_NOISE, 2)).tolist())
        point.place(start)
        state = (*start, 0.0, 0.0)
        for noise in rng.normal(0.0, settings.noise, (STEPS, 2)):
            action = np.clip(np.add(controller.action(state, aim), noise), -1, 1)
            rows.append((*state, *action))
            state = point.step(tuple(action.tolist()))
    made, last = np.array(rows, np.float32), np.arange(len(rows)) % STEPS == STEPS - 1
    bounds: Any = {"action_low": -1.0, "action_high": 1.0}
    return Dataset.from_arrays(made[:, :4], made[:, 4:], np.zeros(len(made)), timeouts=last, **bounds)


def trained(algorithm: Any, data: Dataset, options: argparse.Namespace, name: str, initial: Any = None) -> Any:
    folder = options.out / name
    if folder.exists():
        return replace(reverie.load(folder), path=None)
    algorithm = replace(algorithm, decay_updates=options.updates)
    run = reverie.fit(algorithm, data, steps=options.updates, initial=initial, out=folder)
    return replace(run, path=None)


def planned(run: Any) -> dict[str, Any]:
    """How many plans end in the expert's cell, and some of them."""
    rng = np.random.default_rng(0)
    starts = np.array([(*draw_position(MAZE, rng), 0.0, 0.0) for _ in range(STARTS)], np.float32)
    planner = run.algorithm.planner if hasattr(run.algorithm, "planner") else run.algorithm
    carry = run.algorithm.reset(run.spec, STARTS, {})
    act = jax.jit(lambda state, seen: run.algorithm.act(state, run.spec, seen, carry, {}, jax.random.key(0))[1])
    rows = planner.states_of(run.spec, act(run.state(), jnp.asarray(starts)).rows)
    places = np.concatenate([starts[:, None, :2], np.asarray(rows)[:, :-1, :2]], 1)  # the carry is a row on
    away = np.abs(places[:, -1] - MAZE.centre(MAZE.goal)).max(-1)
    return {"in the goal's cell": float((away <= 0.5).mean()), "paths": places[:60].round(2).tolist()}


def driven(run: Any, episodes: int) -> dict[str, Any]:
    scores = reverie.evaluate(run, MAZE.name, episodes=episodes)
    return {"reached": float(scores.successes.mean()), "episodes": episodes}


def valued(reward: Any, data: Dataset) -> dict[str, Any]:
    """Rewards of windows that were not learned from, and where they end."""
    view, _ = reward.algorithm.prepare(data, reward.spec)
    batch = view.draw(jax.random.key(0), 6000)
    x = reward.algorithm.blocks(reward.spec).join(batch)
    told = np.asarray(jax.jit(reward.algorithm.rewards)(reward.state(), x))
    ends = np.asarray(reward.algorithm.states_of(reward.spec, x[:, -1]))[:, :2]
    return {"ends": ends.round(2).tolist(), "told": told.round(3).tolist()}


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """The reward's map, and plans of the base, of the base led, and of the expert."""
    plans = {row["plans of"]: row for row in rows if "plans of" in row}
    (told,) = (row for row in rows if "map" in row)
    shown = ("base, led by 0", "base, led by 1", "expert")
    with page(10.5, 2.9) as figure:
        first, *others = figure.subplots(1, 1 + len(shown))
        ends = np.array(told["ends"])
        draw_walls(first, MAZE, goal=MAZE.centre(MAZE.goal))
        cells = first.hexbin(*ends.T, C=told["told"], gridsize=22, cmap="viridis", mincnt=3, linewidths=0.1, zorder=1)
        figure.colorbar(cells, ax=first, shrink=0.7, pad=0.02)
        first.set_title("relative reward of windows,\nby where they end")
        for panel, name in zip(others, shown, strict=True):
            row = plans[name]
            draw_walls(panel, MAZE, [np.array(each) for each in row["paths"]], goal=MAZE.centre(MAZE.goal))
            share = row["in the goal's cell"]
            panel.set_title(f"{name}:\n{share:.0%} of plans end there")
        return save(figure, path)


if __name__ == "__main__":
    main()
