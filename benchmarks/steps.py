"""How few network evaluations (NFE) a plan or an action may take before it gets worse:

    python -m benchmarks.steps [--maze RUN] [--hopper RUN | --data d4rl:hopper.hdf5] [--episodes 50] [--out FOLDER]

Score and latency against NFE by DDPM, DDIM and DPM-Solver++ 2M, and with a warm start where the method can
make one: `diffuser-maze` replans every fourth row of its window, from the last plan noised by so many levels. Its line
beside it replans as often from noise. Without --maze the demo's planner is trained for --updates, with 64 noise levels;
without --hopper, where --data is given, a diffusion policy with 64 is. A run's NFE is at most its number of noise
levels. The runs are read, and nothing is written into their folders. The latency is that of one environment's action
(in the maze of a step that plans), from NumPy to NumPy.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.timing import percentile

NFE = (1, 2, 3, 5, 10, 20, 64)
SOLVERS = {"DDPM": "ddpm", "DDIM": "ddim", "DPM-Solver++ 2M": "dpm++2m"}
REPLAN = 4
"""Rows of a window after which the maze's planner plans again."""


@dataclass(frozen=True)
class Cell:
    """One way to act with a run."""

    task: str
    line: str
    nfe: int
    acting: dict[str, Any]


def cells(task: str, algorithm: Any, nfe: list[int]) -> list[Cell]:
    """Every line at every NFE that the run's noise levels allow."""
    levels = algorithm.diffusion_steps or max(nfe)
    possible = sorted({min(n, levels) for n in nfe})
    found = [Cell(task, line, n, {"nfe": n, "solver": solver}) for line, solver in SOLVERS.items() for n in possible]
    if hasattr(algorithm, "replan_interval"):
        found += [Cell(task, "DDPM, replanned", n, {"nfe": n, "replan_interval": REPLAN}) for n in possible]
        found += [
            Cell(task, "DDPM, replanned warm", n, {"warm_start_steps": n, "replan_interval": REPLAN}) for n in possible
        ]
    elif hasattr(algorithm, "warm_start_steps"):
        found += [Cell(task, "DDPM, warm", n, {"warm_start_steps": n}) for n in possible]
    return found


def measure(cell: Cell, run: Any, env: str, options: argparse.Namespace) -> dict[str, Any]:
    """The score with its interval over episodes (and over seeds where there are several), and the latency."""
    import reverie

    changed = replace(run.acting(**cell.acting), path=None)
    scores = reverie.evaluate(changed, env, options.episodes, options.seed, options.max_steps, progress=False)
    estimates = {name: asdict(found) for name, found in scores.estimates.items()}
    taken = latencies(changed, env, options.latencies)
    return vars(cell) | {
        "environment": env,
        "estimates": estimates,
        "latency": {"median": percentile(taken, 50), "p99": percentile(taken, 99), "samples": len(taken)},
        "seeds": len(run.seeds),
        "episodes": options.episodes,
        "updates": run.step,
    }


def latencies(run: Any, env: str, repeats: int) -> list[float]:
    """Seconds of single acts in one environment, of those that plan; a warm start has been given its last plan."""
    from reverie.environments import make

    environment = make(env)
    observation, _ = environment.reset(seed=0)
    environment.close()
    seen = {key: observation[key] for key in ("observation", "desired_goal")} if isinstance(observation, dict) else None
    policy = run.policy()
    carry = policy.reset()
    if getattr(run.algorithm, "warm_start_steps", 0):
        _, carry = policy.act(seen or observation, carry)
        carry = due(run.algorithm, carry)
    return timing.latencies(lambda: policy.act(observation if seen is None else seen, carry), repeats)


def due(algorithm: Any, carry: Any) -> Any:
    """The carry at a step at which the maze's planner plans again; another's as it is."""
    import jax.numpy as jnp

    if not getattr(algorithm, "replan_interval", 0):
        return carry
    key, plan = carry
    return key, plan._replace(step=jnp.full_like(plan.step, algorithm.replan_interval * algorithm.stride))


def maze_run(options: argparse.Namespace) -> tuple[Any, str]:
    """The run given, in the environment of its data; or the demo's planner with 64 noise levels, trained here."""
    import reverie
    from reverie.collection import make_dataset
    from reverie.demo import MAZE, PLANNER, STEPS

    if options.maze:
        run = reverie.load(options.maze)
        return run, run.data.get("env") or run.data.get("name") or MAZE
    data = make_dataset(MAZE, steps=options.data_steps or STEPS, seed=options.seed)
    planner = replace(PLANNER, diffusion_steps=64, **({"width": 8} if options.quick else {}))
    return reverie.fit(planner, data, steps=options.updates, seed=options.seed), MAZE


def hopper_run(options: argparse.Namespace) -> tuple[Any, str] | None:
    import reverie
    from reverie.policies import DiffusionBC

    if options.hopper:
        return reverie.load(options.hopper), options.env
    if not options.data:
        return None
    policy = DiffusionBC(diffusion_steps=64, **({"hidden": (16, 16)} if options.quick else {}))
    data = reverie.load_dataset(options.data)
    return reverie.fit(policy, data, steps=options.updates, seed=options.seed), options.env


def runs(options: argparse.Namespace) -> Iterator[tuple[str, Any, str]]:
    if "maze" in options.only:
        yield "maze", *maze_run(options)
    if "hopper" in options.only:
        found = hopper_run(options)
        if found is None:
            print("No --hopper RUN and no --data SOURCE were given: the maze alone.")
        else:
            yield "hopper", *found


def shown(result: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The score that the task is judged by, and its name."""
    name = next(name for name in ("success", "normalised", "return") if name in result["estimates"])
    return name, result["estimates"][name]


def interval(estimate: dict[str, Any]) -> tuple[float, float] | None:
    """Over seeds where there are several, over episodes otherwise; none of one episode."""
    chosen = estimate["seeds"] if estimate["seeds"]["low"] is not None else estimate["episodes"]
    return None if chosen["low"] is None else (chosen["low"], chosen["high"])


def table(results: list[dict[str, Any]]) -> str:
    head = ("task", "solver", "NFE", "score", "95 %", "latency", "99 %")
    rows = []
    for result in results:
        name, found = shown(result)
        around = interval(found)
        rows.append(
            [
                f"{result['environment']}, {name}",
                result["line"],
                str(result["nfe"]),
                f"{found['mean']:.1f}",
                f"{around[0]:.1f} to {around[1]:.1f}" if around else "",
                timing.span(result["latency"]["median"]),
                timing.span(result["latency"]["p99"]),
            ]
        )
    return timing.markdown(head, rows)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import jax

    from benchmarks.plotting import score_against_nfe

    about, results, trained = timing.machine(options.threads), [], []
    found, text = {"about": about, "runs": trained, "results": results}, ""
    for task, each, env in runs(options):
        trained.append(f"{each.name} in {env}: {each.step:,} updates, {len(each.seeds)} seed(s)")
        for cell in cells(task, each.algorithm, options.nfe):
            results.append(measure(cell, each, env, options))
            # Each program holds memory maps, of which a process may have 65,530; the next cell needs others.
            jax.clear_caches()
            name, score = shown(results[-1])
            print(f"  {task}, {cell.line}, NFE {cell.nfe}: {name} {score['mean']:.1f}", flush=True)
            note = f"{'; '.join(trained)}; {options.episodes} episodes a seed. {timing.caption(about)}"
            text = f"{table(results)}\n{note}"
            timing.write(options.out, "steps", text, found)  # lest it is cut off
    print(text)
    if results:
        score_against_nfe(results, options.out / "steps.png")
    return found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--maze", type=Path, help="a run of diffuser-maze")
    parser.add_argument("--hopper", type=Path, help="a run of a diffusion policy")
    parser.add_argument("--data", help="source to train a policy on, without --hopper")
    parser.add_argument("--env", default="Hopper-v5", help="the policy's environment")
    parser.add_argument("--only", nargs="+", default=["maze", "hopper"], choices=["maze", "hopper"])
    parser.add_argument("--nfe", type=int, nargs="+", default=list(NFE), help="network evaluations")
    parser.add_argument("--updates", type=int, default=3000, help="of what is trained here")
    parser.add_argument("--data-steps", type=int, help="of the maze's data; the demo's 100,000")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--max-steps", type=int, help="cut episodes after so many steps")
    parser.add_argument("--latencies", type=int, default=100, help="single acts timed")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
