"""How long every planner takes to plan, beside what the machine allows:

    python -m benchmarks.plans [--only diffuser comp-diffuser ...] [--sizes maze hopper] [--threads 1] [--clock cpu]

Each planner of `reverie.planners` acts at the settings of its recipe, which are read from `recipes/`, and at faster
ones: fewer evaluations of the network (NFE), fewer candidates, the last plan for a start (noised by so many levels that
some are still guided). Weights are random and data too, as the time does not depend on them. Sizes are the point maze's
(4 observations, 2 actions, a goal) and Hopper's (11 and 3); planners to goals are for the first alone.

A call is `Policy.act`, from NumPy to NumPy, of one environment: the first of an episode, `reset` included; one that
plans again; and one that follows the plan it has. Diffuser for mazes plans again every fourth row, planners that do so
where they have come off their plan are put off it, and the others plan at every step. The floor is the slower of the
matrix products at the rate of the largest one and the reading of the denoiser's weights in every evaluation.
"""

import argparse
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.timing import Floor, Work, percentile

RECIPES = Path(__file__).parents[1] / "recipes"
GOAL = 100
"""Plans a second that a controller wants."""
DDIM = {"solver": "ddim"}


@dataclass(frozen=True)
class Planner:
    """Where its settings are written, how it is led, and in which faster ways it is tried."""

    recipe: tuple[str, ...]
    """File, and the keys to an entry in it."""
    led_by: str
    faster: tuple[dict[str, Any], ...]
    always: dict[str, Any] = field(default_factory=dict)
    """What makes it plan again."""
    sizes: tuple[str, ...] = ("hopper", "maze")
    """The recipe's first."""


PLANNERS = {
    "diffuser-maze": Planner(
        ("tables/mazes.toml", "methods", "diffuser-maze"),
        "goal in-painted",
        ({"nfe": 5, **DDIM}, {"warm_start_steps": 5}, {"warm_start_steps": 2}),
        {"replan_interval": 4},
        ("maze",),
    ),
    "hierarchical-diffuser": Planner(
        ("tables/mazes.toml", "methods", "hierarchical-diffuser"),
        "goal in-painted",
        ({"nfe": 5, **DDIM},),
        {"replan_distance": 1.0},
        ("maze",),
    ),
    "comp-diffuser": Planner(
        ("tables/mazes.toml", "methods", "comp-diffuser"),
        "goal in-painted, neighbours",
        (
            {"candidates": 8, "nfe": 5, "resampling": 1, "parallel": False, **DDIM},
            {"candidates": 1, "nfe": 5, "resampling": 1, "parallel": False, **DDIM},
            {"candidates": 1, "nfe": 5, "resampling": 1, "guidance_scale": 2.0, **DDIM},
        ),
        {"replan_distance": 1.0},
        ("maze",),
    ),
    "diffuser": Planner(
        ("tables/offline.toml", "methods", "diffuser"),
        "value's gradient",
        ({"candidates": 1}, {"warm_start_steps": 5}, {"candidates": 1, "warm_start_steps": 5}),
    ),
    "contrastive-diffuser": Planner(
        ("contrastive_diffuser.toml", "short-contrastive-diffuser-hopper-mixture"),
        "value's gradient",
        ({"nfe": 5, **DDIM}, {"candidates": 1, "warm_start_steps": 5}),
    ),
    "decision-diffuser": Planner(
        ("decision_diffuser.toml", "short-decision-diffuser-hopper-mixture"),
        "classifier-free",
        ({"nfe": 5, **DDIM}, {"warm_start_steps": 5}, {"warm_start_steps": 2}),
    ),
    "diffusion-veteran": Planner(
        ("tables/offline.toml", "methods", "diffusion-veteran"), "best by its critic", ({"candidates": 1},)
    ),
    "ldcq": Planner(
        ("ldcq.toml", "short-ldcq-hopper-mixture"),
        "best by Q",
        ({"nfe": 5, **DDIM},),
    ),
}
LEFT_OUT = {
    "trebi": "Diffuser's plan, with a second value",
    "madiff": "Decision Diffuser's plan, of a team",
    "mtdiff-p": "actions alone, of several tasks",
}
TINY = {"width": 8, "multipliers": (1, 4), "low_multipliers": (1, 2), "horizon": 8, "heads": 2, "hidden": (8, 8)}
TINY |= {"critic_hidden": (8, 8), "inverse_hidden": (8, 8), "overlap": 2, "code_width": 4, "latent_dim": 2}


def of_recipe(name: str) -> Any:
    """The planner with the settings that its recipe trains and acts with. Raises KeyError where there is no such."""
    import tyro

    from reverie.catalogue import ALGORITHMS

    file, *keys = PLANNERS[name].recipe
    entry: Any = tomllib.loads((RECIPES / file).read_text())
    for key in keys:
        entry = entry[key]
    words = re.sub(r"--data \S+", "", entry["train"]).split()
    algorithm = tyro.cli(tyro.conf.OmitArgPrefixes[ALGORITHMS[name]], args=words[1:])
    acting = {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)\b", entry.get("eval", ""))}
    return replace(algorithm, **acting)


def settings(name: str, size: str, quick: bool = False) -> list[tuple[Any, dict[str, Any]]]:
    """The planner in every way that is measured, and what differs from its recipe's; the last alone beside the recipe
    at a size that the recipe is not for."""
    planner, algorithm = PLANNERS[name], of_recipe(name)
    faster = planner.faster if size == planner.sizes[0] else planner.faster[-1:]
    if quick:
        algorithm = replace(algorithm, **{key: value for key, value in TINY.items() if hasattr(algorithm, key)})
    return [(replace(algorithm, **planner.always, **each), each) for each in ({}, *(() if quick else faster))]


def evaluations(algorithm: Any, warm: bool = False) -> int:
    """Of the denoiser, one after another, for a plan: two levels of a hierarchy, chunks that wait for their left."""
    from reverie.diffusion import SOLVERS
    from reverie.diffusion.sampling import repeated, table

    chain = algorithm.warm_start_steps if warm else algorithm.nfe or algorithm.diffusion_steps
    if getattr(algorithm, "resampling", 1) > 1:
        rows = table(algorithm.process, SOLVERS[algorithm.solver], chain, None, None)
        chain = len(repeated(rows, algorithm.resampling, algorithm.resampling_time)[1])
    levels = 2 if hasattr(algorithm, "jump") else 1
    return chain * levels * (1 if getattr(algorithm, "parallel", True) else algorithm.chunk_count)


def is_warm(algorithm: Any) -> bool:
    return bool(getattr(algorithm, "warm_start_steps", 0))


def works(policy: Any) -> dict[str, Work]:
    """The calls that are timed, each of which does the same whenever it is made."""
    import numpy as np

    algorithm, seen = policy.algorithm, np.zeros(policy.spec.observation_dim, np.float32)

    def observed(x: Any) -> Any:
        return {"observation": x, "desired_goal": np.ones(2, np.float32)} if hasattr(algorithm, "goal_size") else x

    _, carry = policy.act(observed(seen), policy.reset())
    again, off = due(algorithm, carry), observed(seen + 1e3 * hasattr(algorithm, "replan_distance"))
    found = {
        "first": lambda: policy.act(observed(seen), policy.reset()),
        "replanned": lambda: policy.act(off, again),
    }
    if hasattr(algorithm, "goal_size") or hasattr(algorithm, "replan_interval"):
        found["following"] = lambda: policy.act(observed(seen), carry)
    return found


def due(algorithm: Any, carry: Any) -> Any:
    """The carry at a step at which it is time for another plan, where steps say so."""
    interval = getattr(algorithm, "replan_interval", 0) * getattr(algorithm, "stride", 1)
    key, own = carry
    return (key, own._replace(step=own.step * 0 + interval)) if interval else carry


def measure(algorithm: Any, changes: dict[str, Any], ours: Any, size: str, options: Any, floor: Floor) -> dict:
    from reverie.training.run import Policy

    calls = works(Policy(algorithm, ours.spec, ours.state))
    taken = {name: timing.latencies(work, options.repeats, options.limit) for name, work in calls.items()}
    warm = is_warm(algorithm)
    flops, moved = work_of(algorithm, ours, warm)
    least = floor.seconds(flops, moved)
    seconds = {
        name: {"median": percentile(times, 50), "p99": percentile(times, 99), "samples": len(times)}
        for name, times in taken.items()
    }
    return {
        "planner": algorithm.name,
        "size": size,
        "led_by": PLANNERS[algorithm.name].led_by,
        "changes": changes,
        "nfe": evaluations(algorithm, warm),
        "first_nfe": evaluations(algorithm),
        "candidates": getattr(algorithm, "candidates", 1),
        "seconds": seconds,
        "flops": flops,
        "bytes": moved,
        "floor": least,
        "of_floor": least / seconds["replanned"]["median"],
    }


def work_of(algorithm: Any, ours: Any, warm: bool) -> tuple[float, float]:
    """Operations of the matrix products of a call that plans again, and bytes of the weights that it reads.

    From the last plan it takes as many evaluations as from noise with so small an NFE.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks.flops import matmul_flops, tree_bytes
    from benchmarks.workloads import acting_inputs

    if warm:
        algorithm = replace(algorithm, nfe=algorithm.warm_start_steps, warm_start_steps=0)
    seen, carry, feedback = acting_inputs(algorithm, ours.spec, 1)
    if hasattr(algorithm, "goal_size"):
        seen = {"observation": seen, "desired_goal": jnp.ones((1, algorithm.goal_size))}
    state = ours.state
    nets = [getattr(state, name) for name in ("denoiser_ema", "low_ema", "prior_ema") if hasattr(state, name)]
    weights = evaluations(algorithm) / len(nets) * sum(map(tree_bytes, nets))
    act: Callable = lambda *inputs: algorithm.act(state, ours.spec, *inputs)  # noqa: E731
    return matmul_flops(act, seen, carry, feedback, jax.random.key(0)), weights


def label(result: dict[str, Any]) -> str:
    """What differs from the recipe."""
    words = {"warm_start_steps": "warm start", "nfe": "NFE", "guidance_scale": "guidance", "parallel": "in parallel"}
    shown = [
        ("not " if value is False else "") + words.get(name, name) + ("" if isinstance(value, bool) else f" {value}")
        for name, value in result["changes"].items()
        if name != "solver"
    ]
    return ", ".join(shown) or "recipe"


HEAD = ("planner", "size", "setting", "NFE", "candidates", "first action", "replanned", "following", "plans a second")
HEAD += ("GFLOP", "of the floor")


def cells(result: dict[str, Any], strong: Callable[[str], str]) -> list[str]:
    times = {name: timing.span(each["median"]) for name, each in result["seconds"].items()}
    rate = 1 / result["seconds"]["replanned"]["median"]
    shown = strong(f"{rate:,.0f}") if rate >= GOAL else f"{rate:.3g}"
    return [
        result["planner"],
        result["size"],
        label(result),
        str(result["nfe"]),
        str(result["candidates"]),
        times["first"],
        times["replanned"],
        times.get("following", ""),
        shown,
        f"{result['flops'] / 1e9:.3g}",
        f"{100 * result['of_floor']:.0f} %",
    ]


def table(results: list[dict[str, Any]]) -> str:
    return timing.markdown(HEAD, [cells(each, lambda text: f"**{text}**") for each in results])


def printed(results: list[dict[str, Any]]) -> None:
    """On the terminal."""
    from rich.console import Console
    from rich.table import Table

    made = Table(*HEAD, header_style="bold")
    for before, each in zip([None, *results], results, strict=False):
        if before and before["planner"] != each["planner"]:
            made.add_section()
        made.add_row(*cells(each, lambda text: f"[bold green]{text}[/]"))
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(made)


def run(options: argparse.Namespace) -> dict[str, Any]:
    import jax

    from benchmarks.plotting import plans
    from benchmarks.workloads import Untrained, hopper_like, maze_like

    about = timing.machine(options.threads)
    floor = Floor.measure(least=options.least)
    results: list[dict[str, Any]] = []
    found = {"about": about, "floor": vars(floor), "results": results}
    for name in options.only:
        for size in PLANNERS[name].sizes:
            if size not in options.sizes:
                continue
            ways = settings(name, size, options.quick)
            ours = Untrained.of(ways[0][0], maze_like() if size == "maze" else hopper_like())
            for algorithm, changes in ways:
                results.append(measure(algorithm, changes, ours, size, options, floor))
                again = timing.span(results[-1]["seconds"]["replanned"]["median"])
                print(f"  {name}, {size}, {label(results[-1])}: {again}", flush=True)
                note = f"Random weights; medians of {options.repeats} calls; {timing.caption(about, floor)}"
                timing.write(options.out, "plans", f"{table(results)}\n{note}", found)  # lest it is cut off
            jax.clear_caches()  # a process may hold 65,530 memory maps, of which each program has some
    printed(results)
    if results:
        plans(results, options.out / "plans.png")
    return found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=list(PLANNERS), choices=PLANNERS, metavar="PLANNER")
    parser.add_argument("--sizes", nargs="+", default=["maze", "hopper"], choices=["maze", "hopper"])
    parser.add_argument("--repeats", type=int, default=25, help="single calls timed")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for those, at most")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of a sample of the floor")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
