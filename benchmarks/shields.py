"""What a shield costs: python -m benchmarks.shields [--only diffuser-maze ...] [--clock cpu] [--threads 1]

A plan by each planner, at the settings of its recipe, without a shield and with 1 and 10 barriers: discs among the
positions, for all shields but the baselines. Weights and data are random; some rows are in a disc at most levels, so
that there is something to correct in every step. Plans are made A B A B ..., and the ratio is that of such a pair.
With --peer qpax the quadratic programs alone are also solved by that package, where it is installed.
"""

import argparse
from dataclasses import replace
from typing import Any

from benchmarks import timing
from benchmarks.plans import TINY, of_recipe
from benchmarks.timing import Ratio, Work, percentile

PLANNERS = ("diffuser-maze", "hierarchical-diffuser", "decision-diffuser", "diffuser")
WAYS = ("robust", "relaxed", "time-varying", "smooth")
RADIUS = 0.6
"""Of discs among positions of unit variance."""


def works(name: str, numbers: list[int], ways: list[str], quick: bool = False) -> dict[str, Work]:
    """The planner's plan with no shield, and with so many barriers in each way."""
    import jax
    import numpy as np

    from benchmarks.workloads import Untrained, maze_like
    from reverie.planners.shielded import shield_run
    from reverie.training import Run

    algorithm = of_recipe(name)
    if quick:
        algorithm = replace(algorithm, **{key: value for key, value in TINY.items() if hasattr(algorithm, key)})
    ours = Untrained.of(algorithm, maze_like())
    states = jax.tree.map(lambda x: x[None], ours.state)
    run = Run(algorithm, ours.spec, states, 0, (0,))
    random = np.random.default_rng(0)
    discs = np.concatenate([random.normal(size=(max(numbers), 2)), np.full((max(numbers), 1), RADIUS)], 1)
    shielded = {
        f"{way} {n}": shield_run(run, ["disc"] * n, shield=way, disc=discs[:n]) for way in ways for n in numbers
    }
    return {each: planning(made) for each, made in {"none": run, **shielded}.items()}


def planning(run: Any) -> Work:
    """A call that makes a plan, of one environment."""
    import numpy as np

    policy = run.policy()
    seen: Any = np.full(4, -2.0, np.float32)
    if hasattr(run.algorithm, "goal_size"):
        seen = {"observation": seen, "desired_goal": np.full(2, 2.0, np.float32)}
    carry = policy.reset()
    return lambda: policy.act(seen, carry)


def programs(number: int, rows: int = 128) -> dict[str, Work]:
    """Random quadratic programs of two unknowns, as many as a window has rows, by this library and by qpax."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import qpax

    from reverie.diffusion.projection import nearest_point

    random = np.random.default_rng(0)
    normals = jnp.asarray(random.normal(size=(rows, number, 2)), jnp.float32)
    deficits = jnp.asarray(random.normal(size=(rows, number)) - 1.5, jnp.float32)
    x = jnp.zeros((rows, 2))

    def peer(x, normals, deficits):
        nothing = jnp.zeros((0, 2)), jnp.zeros(0)
        return qpax.solve_qp(jnp.eye(2), -x, *nothing, -normals, -deficits, solver_tol=1e-4)[0]

    solvers = {"reverie": jax.jit(nearest_point), "qpax": jax.jit(jax.vmap(peer))}
    return {
        name: lambda solve=solve: jax.block_until_ready(solve(x, normals, deficits)) for name, solve in solvers.items()
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    about = timing.machine(options.threads)
    results: list[dict[str, Any]] = []
    found = {"about": about, "results": results, "programs": []}
    for name in options.only:
        taken = timing.interleaved(
            works(name, options.numbers, options.ways, options.quick), options.pairs, options.least
        )
        for way, times in taken.items():
            ratio = Ratio.of(taken["none"], times)
            row = {"planner": name, "shield": way, "seconds": percentile(times, 50), "ratio": vars(ratio)}
            results.append(row)
            print(f"  {name}, {way}: {timing.span(row['seconds'])}, {ratio}", flush=True)
    if options.peer:
        for number in options.numbers:
            taken = timing.interleaved(programs(number), options.pairs, options.least)
            found["programs"].append({"constraints": number, **{k: percentile(v, 50) for k, v in taken.items()}})
    text = f"{table(results)}\nRandom weights; medians of {options.pairs} pairs; {timing.caption(about)}"
    timing.write(options.out, "shields", text, found)
    print(text, found["programs"])
    return found


def table(results: list[dict[str, Any]]) -> str:
    rows = [
        [each["planner"], each["shield"], timing.span(each["seconds"]), str(Ratio(**each["ratio"]))] for each in results
    ]
    return timing.markdown(("planner", "shield, barriers", "a plan", "times unshielded"), rows)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=list(PLANNERS), choices=PLANNERS, metavar="PLANNER")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 10], help="barriers")
    parser.add_argument("--peer", choices=["qpax"], help="solve programs by it too")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.3, help="seconds of a sample")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
