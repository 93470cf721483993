"""Ways made of windows: python recipes/joined.py RUN --env pointmaze-medium-goals-v0 [--goals N] [--out FOLDER]

For each of the environment's goals the way that a run of comp-diffuser plans, its windows in colours of their own, and
the path that the policy then takes along it. Writes OUT/goal-1.png and so on, and says who arrived.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reverie
from reverie.collection.ogbench.course import Course
from reverie.environments import make
from reverie.environments.pointmaze import find_maze
from reverie.errors import ReverieError
from reverie.evaluation.mazes import draw_composed
from reverie.evaluation.plots import save
from reverie.planning import join


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--env", required=True)
    parser.add_argument("--goals", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/joined"))
    options = parser.parse_args(arguments)
    try:
        run = reverie.load(options.run)
        if not hasattr(run.algorithm, "compose"):
            raise ReverieError(f"{run.name} plans no windows that are joined; give a run of comp-diffuser.")
        draw(run, options)
    except ReverieError as error:
        parser.error(str(error))


def draw(run: Any, options: argparse.Namespace) -> None:
    env, policy = make(options.env), run.policy()
    maze = Course.of(env.unwrapped) if options.env.endswith("-v0") else find_maze(options.env)
    options.out.mkdir(parents=True, exist_ok=True)
    for goal in range(options.goals):
        seen, _ = env.reset(seed=goal)
        carry = policy.reset(seed=goal)
        windows, gap = chosen(run, seen, carry)
        path, arrived = drive(env, policy, seen, carry)
        title = f"goal {goal + 1}: {'reached' if arrived else 'not reached'} after {len(path)} steps"
        picture = save(draw_composed(maze, windows, path, title), options.out / f"goal-{goal + 1}.png")
        print(f"{title}; windows differ by {gap:.2f} m; {picture}")


def chosen(run: Any, seen: Any, carry: Any) -> tuple[np.ndarray, float]:
    """The windows `[C, H, 2]`, in m, of the way that the policy's first step plans, and how far apart two are where
    they overlap, on average."""
    algorithm, spec = run.algorithm, run.spec
    batch = {name: np.asarray(part, np.float32)[None] for name, part in seen.items()}
    key = jax.random.split(carry[0])[1]  # as `Policy.act` splits it
    best = jax.jit(partial(best_windows, algorithm))(run.state(), spec, batch, key)
    places = np.asarray(algorithm.states_of(spec, best))[..., :2]
    ends = places[:-1, -algorithm.overlap :], places[1:, : algorithm.overlap]
    return places, float(np.linalg.norm(ends[0] - ends[1], axis=-1).mean()) if len(places) > 1 else 0.0


def best_windows(algorithm: Any, state: Any, spec: Any, batch: Any, key: jax.Array) -> jax.Array:
    """As `algorithm.plan` chooses among the ways of one environment, `[C, H, D]`."""
    windows = algorithm.compose(state, spec, batch, key)
    ways = join(windows, algorithm.overlap, algorithm.blend)
    gaps = algorithm.gaps(state.denoiser_ema, windows, ways, jax.random.fold_in(key, 2))
    return windows[0, gaps[0].argmin()]


def drive(env: Any, policy: Any, seen: Any, carry: Any) -> tuple[np.ndarray, bool]:
    """The path `[T, 2]` to the goal, or until time is over, and whether it came there."""
    path, over, arrived = [seen["observation"][:2]], False, False
    while not (over or arrived):
        action, carry = policy.act(seen, carry)
        seen, _, terminated, truncated, info = env.step(action)
        arrived, over = bool(info.get("success", terminated)), terminated or truncated
        path.append(seen["observation"][:2])
    return np.array(path), arrived


if __name__ == "__main__":
    main()
