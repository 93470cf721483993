"""The demo: a planner learns from trajectories of a simulator and drives a ball through a maze."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.planners import DiffuserMaze

MAZE = "pointmaze-umaze"
STEPS = 100_000
"""Environment steps of data: a quarter of an hour of the ball's time."""
UPDATES = 3000
EPISODES = 100
PLANNER = DiffuserMaze(
    horizon=32,
    stride=4,
    width=32,
    multipliers=(1, 2, 4),
    diffusion_steps=20,
    learning_rate=5e-4,
    ema_start=1000,
    ema_decay=0.97,
)
"""Windows of 32 rows, 4 steps apart: 1.25 s. The paper's sizes are in the recipes; these learn in minutes."""
LONGER = 64
"""Rows of the plans that join what no training window joins."""
FAR = ((1, 1), (3, 1))
"""The two ends of the U, as cells (row, column)."""


class Recorder:
    """The planner as a batched policy that notes its plans and where it was."""

    def __init__(self, run: Any, seed: int):
        from reverie.evaluation import RunPolicy

        self.policy, self.spec = RunPolicy(run, seed), run.spec
        self.name = self.policy.name
        self.seen: list[np.ndarray] = []

    def reset(self, n: int) -> None:
        self.policy.reset(n)
        self.seen = []

    def act(self, observations: dict[str, np.ndarray], feedback: Any = None) -> np.ndarray:
        self.seen.append(observations["observation"][:, :2].copy())
        return self.policy.act(observations, feedback)

    @property
    def plans(self) -> np.ndarray:
        """Positions [n, H, 2] of the plans made at the last reset."""
        plans = self.policy.carries.rows
        return np.asarray(self.spec.denormalise("observations", plans[0][..., self.spec.action_dim :]))[..., :2]

    @property
    def paths(self) -> np.ndarray:
        """Positions [n, T, 2]."""
        return np.stack(self.seen, 1)


def run(out: Path, seed: int = 0) -> dict[str, Any]:
    """Collects data, trains, drives, prints a table and writes pictures and the run into the folder `out`.

    Returns the numbers that it printed. A run that the folder already holds is used, or gone on with.
    """
    import reverie
    from reverie.collection import make_dataset
    from reverie.environments.policies import StraightLinePolicy, WaypointPolicy
    from reverie.evaluation import RunPolicy

    begun = time.perf_counter()
    say(f"1/4  {STEPS:,} steps of a noisy controller in {MAZE}")
    data = make_dataset(MAZE, steps=STEPS, seed=seed, progress=True)
    say(f"2/4  Diffuser: {UPDATES:,} updates on windows of {PLANNER.horizon} rows, {PLANNER.stride} steps apart")
    trained = reverie.fit(PLANNER, data, steps=UPDATES, seed=seed, out=out / "run", resume=True)
    say(f"3/4  {EPISODES} random starts and goals in the simulator, and the same for two planners that learn nothing")
    planner = Recorder(trained, seed)
    policies = [planner, WaypointPolicy(MAZE), StraightLinePolicy()]
    scores: list[Any] = []
    for policy in policies:
        reference = scores[0].reference if scores else None
        scores.append(reverie.evaluate(policy, MAZE, EPISODES, seed, reference=reference))
    latencies = [first_action_ms(RunPolicy(trained, seed)), *map(first_action_ms, policies[1:])]
    show(scores, latencies)
    say(f"4/4  from one end of the U to the other with plans of {LONGER} rows")
    joined = join_the_ends(trained, data, seed)
    say(
        f"{joined['windows']} of {joined['of']:,} training windows go from one end to the other; "
        f"{joined['success']:.0f} of {EPISODES} plans of {LONGER} rows do, driven"
    )
    draw(out, trained, planner, joined)
    minutes = (time.perf_counter() - begun) / 60
    say(f"{minutes:.1f} minutes; pictures in {out}/")
    return {
        "minutes": minutes,
        "success": [float(100 * s.successes.mean()) for s in scores],
        "normalised": [float(s.normalised.mean()) for s in scores],
        "latency_ms": latencies,
        "joined": joined["success"],
    }


def first_action_ms(policy: Any, repeats: int = 20) -> float:
    """Median milliseconds from a new start and goal to the first action, for one ball; compiled before."""
    start, goal = np.array([[-1, 1, 0, 0]], np.float32), np.array([[-1, -1]], np.float32)
    observation = {"observation": start, "desired_goal": goal}
    times = []
    for _ in range(repeats + 1):
        policy.reset(1)
        begun = time.perf_counter()
        policy.act(observation)
        times.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(times[1:]))


def join_the_ends(trained: Any, data: Any, seed: int) -> dict[str, Any]:
    """Plans longer than any training window, between cells that no training window connects."""
    import reverie
    from reverie.environments.pointmaze import MAZES

    maze = MAZES[MAZE]
    span = (trained.algorithm.horizon - 1) * trained.algorithm.stride
    first, last = (in_cell(data.observations[:, :2], maze.centre(cell)) for cell in FAR)
    # A window connects them if it is in one end's cell at its first row and in the other's at any later step.
    ahead = np.concatenate([[0], np.cumsum(last)])
    starts = len(data) - span
    connects = first[:starts] & (ahead[span + 1 :] - ahead[:starts] > 0)
    longer = replace(trained.acting(plan_horizon=LONGER), path=None)
    recorder = Recorder(longer, seed)
    scores = reverie.evaluate(recorder, ends_environment(maze), EPISODES, seed)
    return {
        "windows": int(connects.sum()),
        "of": starts,
        "success": float(100 * scores.successes.mean()),
        "plans": recorder.plans,
        "paths": recorder.paths,
    }


def in_cell(places: np.ndarray, centre: Any) -> np.ndarray:
    """Which places [N, 2] lie in the cell of 1 m around a centre."""
    return np.all(np.abs(places - np.asarray(centre)) <= 0.5, axis=1)


def ends_environment(maze: Any) -> Callable:
    """Episodes that start in one end of the U and have their goal in the other."""
    import gymnasium

    from reverie.environments import make

    class Ends(gymnasium.Wrapper):
        def reset(self, *, seed=None, options=None):
            cells = {name: np.array(cell) for name, cell in zip(("reset_cell", "goal_cell"), FAR, strict=True)}
            return self.env.reset(seed=seed, options=cells)

    return lambda: Ends(make(maze.name))


def denoising(trained: Any, seed: int) -> tuple[list[np.ndarray], list[float], Any, Any]:
    """One plan between the ends, longer than the training windows, from noise to the end of its chain."""
    from reverie.environments.pointmaze import MAZES

    algorithm, spec = trained.algorithm, trained.spec
    start, goal = (np.array(MAZES[MAZE].centre(cell), np.float32) for cell in FAR)
    ends = jnp.concatenate([jnp.stack([start, goal]), jnp.zeros((2, 2))], 1)
    size = spec.action_dim + spec.observation_dim
    values = (
        jnp.zeros((1, LONGER, size))
        .at[0, jnp.array([0, -1]), spec.action_dim :]
        .set(spec.normalise("observations", ends))
    )
    mask = algorithm.inpaint_mask(LONGER, algorithm.blocks(spec))

    @jax.jit
    def chain(state, key):
        denoiser = algorithm.process.denoiser(state.denoiser_ema)
        return algorithm.denoise(denoiser, key, values, mask, clip_x0=(-1, 1), history=True)[1]

    past = np.asarray(spec.denormalise("observations", chain(trained.state(), jax.random.key(seed))[:, 0, :, 2:]))
    rows = [0, *(len(past) - 1 - i for i in (8, 4, 2, 0))]  # most of the shape appears in the last levels
    return [past[row][:, :2] for row in rows], [1 - (row + 1) / len(past) for row in rows], start, goal


def draw(out: Path, trained: Any, planner: Recorder, joined: dict[str, Any]) -> None:
    from reverie.evaluation import mazes, plots

    plots.save(plots.learning_curves(trained.metrics()), out / "learning.png")
    plans, levels, start, goal = denoising(trained, 0)
    plots.save(mazes.draw_denoising(MAZE, plans, levels, start, goal), out / "denoising.png")
    plots.save(mazes.draw_driven(MAZE, list(planner.plans[:4]), list(planner.paths[:4])), out / "driven.png")
    plots.save(mazes.draw_driven(MAZE, list(joined["plans"][:4]), list(joined["paths"][:4])), out / "longer.png")


def show(scores: list[Any], latencies: list[float]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    head = ("", "goals\nreached", "norm.\nreturn", "95 % over\nepisodes", "return", "first\naction, ms")
    columns = (Column(name, justify="right" if name else "left", no_wrap=True) for name in head)
    table = Table(*columns, title=MAZE, box=SIMPLE)
    table.caption = f"normalised: {scores[0].reference.note}; {EPISODES} episodes of one seed, last checkpoint"
    for score, latency in zip(scores, latencies, strict=True):
        found = score.estimates
        table.add_row(
            score.policy,
            f"{found['success'].mean:.0f} %",
            f"{found['normalised'].mean:.1f}",
            str(found["normalised"].episodes),
            f"{found['return'].mean:.1f}",
            f"{latency:.2f}",
        )
    Console().print(table)


def say(line: str) -> None:
    print(line, flush=True)
