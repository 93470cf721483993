"""Which timestep schedule suits a process: python -m benchmarks.schedules [--processes edm ...] [--nfe 10 50 200]

The exact denoiser of a Gaussian stands in for a network, so that all error is the sampler's. The Gaussian has three
columns of standard deviations 1.1, 0.7 and 0.3. Deterministic solvers then multiply the initial noise by a number in
each column; this number is the standard deviation of the samples, and no sample need be drawn. A cell is the largest
relative error of the three. Prints a table, and writes it into --out as Markdown and JSON.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import timing

CONTINUOUS = ("vp-linear", "vp-cosine", "sub-vp", "ve", "edm", "rectified-flow")
SOLVERS = ("ddim", "heun", "dpm++2m")
STD = (1.1, 0.7, 0.3)


def error(name: str, schedule: str, solver: str, nfe: int) -> float:
    """The largest relative error of the samples' standard deviation over the columns."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from reverie.diffusion import PROCESSES, sample

    process, variance = PROCESSES[name](), jnp.square(jnp.array(STD))

    def denoiser(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return alpha * variance / (alpha**2 * variance + sigma**2) * x

    options: Any = {"nfe": nfe, "solver": solver, "schedule": schedule, "noise": jnp.ones(3)}
    gain = sample(process, denoiser, jax.random.key(0), (3,), **options)
    return float(np.abs(np.asarray(gain) / np.array(STD) - 1).max())


def measure(name: str, nfe: list[int]) -> list[dict[str, Any]]:
    """Every schedule of a process: the errors by NFE and solver."""
    from reverie.diffusion import PROCESSES, SCHEDULES

    own = PROCESSES[name]().schedule
    return [
        {"process": name, "schedule": schedule, "default": schedule == own}
        | {"errors": {str(n): {solver: error(name, schedule, solver, n) for solver in SOLVERS} for n in nfe}}
        for schedule in SCHEDULES
    ]


def table(results: list[dict[str, Any]], nfe: list[int]) -> str:
    rows = []
    for found in results:
        errors = [found["errors"][str(n)].values() for n in nfe]
        cells = [
            " / ".join(f"{100 * each:.0f}" if each > 0.1 else f"{100 * each:.2g}" for each in cell) for cell in errors
        ]
        name = f"**{found['schedule']}**" if found["default"] else found["schedule"]
        rows.append([found["process"], name, *cells])
    head = ["process", "schedule", *(f"NFE {n}: {' / '.join(SOLVERS)}, %" for n in nfe)]
    return timing.markdown(head, rows)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", nargs="+", default=list(CONTINUOUS), choices=CONTINUOUS)
    parser.add_argument("--nfe", type=int, nargs="+", default=[10, 50, 200], help="network function evaluations")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args(words)
    results = [row for name in options.processes for row in measure(name, options.nfe)]
    text = table(results, options.nfe)
    timing.write(options.out, "schedules", text, {"about": timing.machine(), "results": results})
    print(text)


if __name__ == "__main__":
    main()
