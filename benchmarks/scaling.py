"""How Reverie scales, beside what the machine allows:

    python -m benchmarks.scaling [--parts seeds batch horizon width acting planning steps generating devices] [--quick]

Updates a second against seeds, batch, horizon and width; latency of acting against candidates, environments and steps;
the time of SynthER's chunks against their rows; the time to compile; the memory; and updates a second over several
devices where there are several. The floor is measured in the same run: the rate of the largest matrix product and the
bandwidth of a large copy. Against it stands what a program asks for: the floating-point operations of its matrix
products, counted in the function as traced (`benchmarks.flops`), and for one action the bytes of the parameters that
each network evaluation must read. "Of the floor" is the floor's time over the measured: 100 % would be a program that
is nothing but its matrix products, at the rate of the largest one.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import timing
from benchmarks.timing import Floor, percentile


@dataclass(frozen=True)
class Case:
    """One measured line: a method, the size that is varied, and its value."""

    part: str
    method: str
    varied: str
    value: int
    seeds: int = 1
    devices: int = 1
    candidates: int = 1
    environments: int = 1
    nfe: int = 0
    seeds_by: str = "auto"
    changes: tuple[tuple[str, Any], ...] = ()


TINY = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": 8}
TINY_PLANNER = {"width": 8, "multipliers": (1, 4), "horizon": 8, "batch_size": 4, "diffusion_steps": 4}
TINY_SYNTHESIZER = {"width": 8, "blocks": 1}


def algorithm(case: Case, quick: bool) -> Any:
    """The method with its own defaults, where nothing is varied."""
    from reverie.planners import Diffuser
    from reverie.policies import DiffusionQL
    from reverie.synthesizers import SynthER

    cls, tiny = {
        "diffusion-ql": (DiffusionQL, TINY),
        "diffuser": (Diffuser, TINY_PLANNER),
        "synther": (SynthER, TINY_SYNTHESIZER),
    }[case.method]
    return cls(**((tiny if quick else {}) | dict(case.changes)))


def sized(method: str, part: str, varied: str, values: list[int], **changes: Callable) -> list[Case]:
    made = changes or {varied: lambda n: n}
    return [
        Case(part, method, varied, n, changes=tuple((field, make(n)) for field, make in made.items())) for n in values
    ]


def cases(parts: list[str], quick: bool) -> list[Case]:
    """Every line that is measured, part by part; with `quick` one or two small ones a part."""

    def some(values: list[int], few: list[int]) -> list[int]:
        return few if quick else values

    def widths(n: int) -> tuple[int, ...]:
        return n, n, n

    ql, planner = "diffusion-ql", "diffuser"
    batch = some([64, 256, 1024, 4096], [8])
    table = {
        "seeds": [Case("seeds", ql, "seeds", n, seeds=n) for n in some([1, 4, 16, 64], [2])],
        "batch": sized(ql, "batch", "batch", batch, batch_size=lambda n: n)
        + sized(planner, "batch", "batch", some([8, 64, 256], []), batch_size=lambda n: n),
        "horizon": sized(planner, "horizon", "horizon", some([8, 32, 128], [8])),
        "width": sized(ql, "width", "width", some([64, 256, 1024], [16]), hidden=widths, critic_hidden=widths)
        + sized(planner, "width", "width", some([16, 32, 64], [])),
        "acting": [Case("acting", ql, "candidates", n, candidates=n) for n in some([1, 10, 50, 200], [4])]
        + [Case("acting", ql, "environments", n, environments=n) for n in some([10, 100], [])],
        "planning": [Case("planning", planner, "candidates", n, candidates=n) for n in some([1, 8, 64], [1])],
        "steps": [Case("steps", ql, "NFE", n, nfe=n) for n in some([1, 2, 5], [2])]
        + [Case("steps", planner, "NFE", n, nfe=n) for n in some([1, 5, 20], [])],
        "generating": sized(
            *("synther", "generating", "rows", some([100, 1000, 4000], [8])), chunk=lambda n: n, nfe=lambda n: 15
        ),
        "devices": [Case("devices", ql, "devices", n, devices=n) for n in device_counts()],
    }
    return [case for part in parts for case in table[part]]


PARTS = ("seeds", "batch", "horizon", "width", "acting", "planning", "steps", "generating", "devices")


def device_counts() -> list[int]:
    """1, 2, 4, ... of the devices; none where there is one."""
    import jax

    counts = [2**i for i in range(10) if 2**i <= len(jax.devices())]
    return counts if len(counts) > 1 else []


def measure(case: Case, options: argparse.Namespace, floor: Floor) -> dict[str, Any]:
    kinds = {"acting": acting, "planning": acting, "steps": acting, "generating": generating}
    found = kinds.get(case.part, training)(case, options)
    least = floor.seconds(found["flops"], found["bytes"])
    return vars(case) | found | {"floor": least, "of_floor": least / found["seconds"], "peak_bytes": peak_bytes()}


def training(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an update of one seed, in segments as `fit` makes them, and of the first segment's compiling."""
    from benchmarks.workloads import Prepared

    ours = Prepared.of(algorithm(case, options.quick), case.seeds)
    flops, length = ours.update_flops(), 1
    work = ours.segment(1, case.seeds_by, case.devices)  # type: ignore[arg-type]
    first = timing.seconds(work, 1)
    once = timing.seconds(work, 1)
    if once < options.least / 4:  # a segment of one update is mostly the host's part: a longer one
        length = max(2, min(1000, round(options.least / max(once, 1e-4))))
        work = ours.segment(length, case.seeds_by, case.devices)  # type: ignore[arg-type]
    taken = timing.interleaved({"update": work}, options.repeats, options.least)["update"]
    seconds = percentile(taken, 50) / length / case.seeds
    return {
        "seconds": seconds,
        "flops": flops / case.devices,
        "bytes": 0,
        "compile": first - once,
        "p99": None,
        "kind": "update",
    }


def acting(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from observations on the host to actions on the host: median, 99th percentile, and the first call's."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks.flops import matmul_flops, tree_bytes
    from benchmarks.workloads import Prepared, acting_inputs

    ours = Prepared.of(replace(algorithm(case, options.quick), candidates=case.candidates, nfe=case.nfe))
    method, state, spec, n = ours.algorithm, ours.state, ours.spec, case.environments
    act = jax.jit(lambda *inputs: method.act(state, spec, *inputs))
    seen, carry, feedback = acting_inputs(method, spec, n)
    observation, key = np.asarray(seen), jax.random.key(0)

    def work() -> None:
        np.asarray(act(jnp.asarray(observation), carry, feedback, key)[0])

    first = timing.seconds(work, 1)
    taken = timing.latencies(work, options.latencies, options.limit)
    chain = case.nfe or method.nfe or method.diffusion_steps
    weights = chain * tree_bytes(state.actor.params if case.method == "diffusion-ql" else state.denoiser_ema)
    return {
        "seconds": percentile(taken, 50),
        "p99": percentile(taken, 99),
        "samples": len(taken),
        "flops": matmul_flops(lambda *inputs: method.act(state, spec, *inputs), seen, carry, feedback, key),
        "bytes": weights if case.candidates * n == 1 else 0,  # a matrix by a vector is bound by reading the matrix
        "compile": first - percentile(taken, 50),
        "kind": "act",
    }


def generating(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a chunk of rows, at an NFE of 15 in place of the 255 that each row takes."""
    from benchmarks.workloads import Prepared

    ours = Prepared.of(algorithm(case, options.quick))
    work = ours.generating()
    first = timing.seconds(work, 1)
    seconds = percentile(timing.interleaved({"rows": work}, options.repeats, options.least)["rows"], 50)
    flops = ours.generating_flops()
    return {"seconds": seconds, "flops": flops, "bytes": 0, "compile": first - seconds, "p99": None, "kind": "rows"}


def peak_bytes() -> int:
    """The most memory so far: of the device, or on a CPU of the process, which never shrinks within a run."""
    import jax

    statistics = jax.devices()[0].memory_stats() or {}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return statistics.get("peak_bytes_in_use") or kilobytes * (1 if sys.platform == "darwin" else 1024)


def table(results: list[dict[str, Any]]) -> str:
    head = ("", "varied", "time", "99 %", "a second", "GFLOP", "of the floor", "compile, s", "peak, MB")
    rows = []
    for found in results:
        rows.append(
            [
                f"{found['method']}: {found['kind']}",
                f"{found['varied']} {found['value']}",
                timing.span(found["seconds"]),
                timing.span(found["p99"]) if found["p99"] else "",
                f"{1 / found['seconds']:.3g}",
                f"{found['flops'] / 1e9:.3g}",
                f"{100 * found['of_floor']:.0f} %",
                f"{found['compile']:.1f}",
                f"{found['peak_bytes'] / 1e6:.0f}",
            ]
        )
    return timing.markdown(head, rows)


def run(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.plotting import scaling

    about = timing.machine(options.threads)
    floor = Floor.measure(least=options.least)
    results: list[dict[str, Any]] = []
    found, text = {"about": about, "floor": vars(floor), "results": results}, ""
    for each in measured(options, floor):
        results.append(each)
        text = table(results) + "\n" + timing.caption(about, floor)
        timing.write(options.out, "scaling", text, found)  # lest it is cut off
    print(text)
    if results:
        scaling(results, options.out / "scaling.png")
    return found


def measured(options: argparse.Namespace, floor: Floor) -> Iterator[dict[str, Any]]:
    begun = time.perf_counter()
    for case in cases(options.parts, options.quick):
        if time.perf_counter() - begun > 60 * options.minutes:
            print(f"  {options.minutes} minutes are over: {case.part} and what follows is left out")
            return
        found = measure(case, options, floor)
        print(f"  {case.method}, {case.varied} {case.value}: {timing.span(found['seconds'])}", flush=True)
        yield found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--repeats", type=int, default=5, help="samples of updates")
    parser.add_argument("--latencies", type=int, default=200, help="single calls timed")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for those, at most")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of a sample, at least")
    parser.add_argument("--minutes", type=float, default=15.0, help="begin nothing after so long")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
