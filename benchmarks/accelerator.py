"""What a GPU makes of the library, area by area, in one go of some fifteen minutes:

    python -m benchmarks.accelerator [--quick] [--only machine together precision acting generating]

Each line says what was measured, what would be good, and whether it was reached. It runs without a GPU too, where most
lines say nothing of interest.

**machine** The rate of large matrix products at each precision, the bandwidth of a copy, and how long an empty program
takes: the floor below everything else. **together** Small networks are bound by the launches of their kernels, so that
many seeds, or settings of one method in one program (`fit_many`), should cost hardly more than one. **precision**
Updates at the precisions of JAX's matrix products, beside the loss that each reaches on a small problem: the faster one
is safe where its loss is the same. **acting** The time from an observation to an action, and to a plan. **generating**
Rows a second of SynthER, and how near its products are to the machine's rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import timing

PRECISIONS = {"float32": "F32_F32_F32", "tensorfloat32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}
"""JAX's names for how matrix products are computed; sums are float32 in all. A training takes one of them by
JAX_DEFAULT_MATMUL_PRECISION."""
TOGETHER = (1, 4, 16, 64)
TINY: Any = {"width": 16, "multipliers": (1, 2), "horizon": 8, "batch_size": 16}
SMALL: Any = {"hidden": (8,), "critic_hidden": (8,), "batch_size": 16}
"""With --quick."""


@dataclass(frozen=True)
class Line:
    """One finding. `good` is the least that would be, None where nothing is wanted."""

    area: str
    what: str
    said: str
    value: float
    good: float | None = None
    wanted: str = ""

    @property
    def reached(self) -> str:
        return "" if self.good is None else "yes" if self.value >= self.good else "no"


def machine(options: argparse.Namespace) -> Iterator[Line]:
    import jax

    for name in known():
        with jax.default_matmul_precision(PRECISIONS[name]):
            rate = timing.matmul_rate(512 if options.quick else 8192, options.least)
        yield Line("machine", f"matrix product, {name}", f"{rate / 1e12:.3g} TFLOP/s", rate)
    copy = timing.copy_rate(16 if options.quick else 2048, options.least)
    yield Line("machine", "copy", f"{copy / 1e9:.0f} GB/s", copy)
    empty = median({"empty": launched()}, options)["empty"]
    yield Line("machine", "an empty program, launch to result", timing.span(empty), empty)


def known() -> list[str]:
    """The precisions that the device has. On a CPU one: it has no units for the others, and imitates some slowly."""
    import jax
    import jax.numpy as jnp

    def has(name: str) -> bool:
        try:
            with jax.default_matmul_precision(PRECISIONS[name]):
                jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).compile()
        except ValueError:
            return False
        return True

    if jax.default_backend() == "cpu":
        return ["float32"]
    return [name for name in PRECISIONS if has(name)]


def launched() -> timing.Work:
    import jax
    import jax.numpy as jnp

    one, x = jax.jit(lambda x: x + 1), jnp.zeros(())
    return lambda: one(x).block_until_ready()


def together(options: argparse.Namespace) -> Iterator[Line]:
    """Updates a second of all seeds, or settings, against those of one."""
    from benchmarks.workloads import Prepared
    from reverie.baselines import IQL, TD3BC
    from reverie.policies import DiffusionQL

    size = SMALL if options.quick else {}
    counts = TOGETHER[:2] if options.quick else TOGETHER
    for method in (TD3BC(**size), IQL(**size), DiffusionQL(**size))[: 1 if options.quick else None]:
        works = {str(n): Prepared.of(method, n).segment(options.updates) for n in counts}
        works |= {f"{counts[-1]} settings": settings(Prepared.of(method, counts[-1]), "tau").segment(options.updates)}
        taken = median(works, options)
        for name, seconds in taken.items():
            n = int(name.split()[0])
            rate, gain = n * options.updates / seconds, n * taken["1"] / seconds
            what = f"{method.name}: {name if 'settings' in name else f'{n} seed' + 's' * (n > 1)} in one program"
            good = None if n == 1 else n / 2
            yield Line(
                "together", what, f"{rate:,.0f} updates/s, {gain:.1f} times one's", gain, good, f"{n / 2:g} times"
            )


def settings(ours: Any, name: str) -> Any:
    """The trainings with a value of the field of their own each."""
    from dataclasses import replace

    import numpy as np

    seeds = len(ours.each.key)
    values = getattr(ours.algorithm, name) * np.linspace(0.5, 1.5, seeds)
    return replace(ours, each=ours.each._replace(settings={name: values.astype(np.float32)}))


def precision(options: argparse.Namespace) -> Iterator[Line]:
    """How fast Diffuser's update is, and what a small training of each method reaches, at each precision."""
    import jax

    from benchmarks.workloads import Prepared, hopper_like
    from reverie.planners import Diffuser
    from reverie.policies import DiffusionQL

    tiny, small = (TINY, SMALL) if options.quick else ({}, {})
    for method, loss in ((Diffuser(**tiny), "diffusion_loss"), (DiffusionQL(**small), "diffusion_loss")):
        losses, rates = {}, {}
        for each in known():
            jax.clear_caches()
            with jax.default_matmul_precision(PRECISIONS[each]):
                ours = Prepared.of(method, 1, hopper_like())
                rates[each] = options.updates / median({each: ours.segment(options.updates)}, options)[each]
                losses[each] = reached(method, loss, options)
            flops = ours.update_flops() * rates[each]
            said = (
                f"{rates[each]:.3g} updates/s, {flops / 1e12:.3g} TFLOP/s, {rates[each] / rates['float32']:.2f} times"
            )
            yield Line("precision", f"{method.name}: update, {each}", said, rates[each] / rates["float32"])
            apart = abs(losses[each] / losses["float32"] - 1)
            said = f"{loss} {losses[each]:.4g}, {100 * apart:.1f} % from float32's"
            what = f"{method.name}: after {options.training} updates, {each}"
            yield Line("precision", what, said, -apart, -0.03, "within 3 %")
    jax.clear_caches()


def reached(method: Any, loss: str, options: argparse.Namespace) -> float:
    """The mean of the last quarter of a training, of all seeds."""
    import numpy as np

    import reverie
    from benchmarks.workloads import hopper_like

    run = reverie.fit(method, hopper_like(), steps=options.training, seeds=2, progress=False)
    values = run.metrics()[loss]
    return float(np.mean(values[-max(2, len(values) // 4) :]))


def acting(options: argparse.Namespace) -> Iterator[Line]:
    from benchmarks.workloads import Prepared
    from reverie.planners import Diffuser
    from reverie.policies import DiffusionQL

    tiny, small = (TINY, SMALL) if options.quick else ({}, {})
    ql, diffuser = Prepared.of(DiffusionQL(**small)), Prepared.of(Diffuser(**tiny))
    works = {
        "diffusion-ql: action of 1 candidate": (ql.acting(candidates=1), 2e-3),
        "diffusion-ql: action of 50 candidates": (ql.acting(candidates=50), 2e-3),
        "diffuser: plan of 1, guided, NFE 20": (diffuser.acting(candidates=1), 20e-3),
        "diffuser: plan of 64, guided, NFE 20": (diffuser.acting(candidates=64), 40e-3),
        "diffuser: plan of 64, guided, NFE 5": (diffuser.acting(candidates=64, nfe=5, solver="ddim"), 10e-3),
    }
    for what, (work, wanted) in works.items():
        taken = timing.latencies(work, 5 if options.quick else 200)
        middle, late = (timing.percentile(taken, p) for p in (50, 99))
        said = f"{timing.span(middle)} (99 %: {timing.span(late)})"
        yield Line("acting", what, said, -middle, -wanted, f"below {timing.span(wanted)}")


def generating(options: argparse.Namespace) -> Iterator[Line]:
    from benchmarks.workloads import Prepared
    from reverie.synthesizers import SynthER

    size: Any = {"width": 16, "blocks": 1, "batch_size": 16, "nfe": 3, "chunk": 32} if options.quick else {}
    ours = Prepared.of(SynthER(**size))
    seconds = median({"rows": ours.generating()}, options)["rows"]
    rows, flops = ours.algorithm.chunk, ours.generating_flops()
    floor = timing.matmul_rate(512 if options.quick else 8192, options.least)
    part = flops / seconds / floor
    said = f"{rows / seconds:,.0f} rows/s at an NFE of {ours.algorithm.nfe}, {100 * part:.0f} % of the product's rate"
    yield Line("generating", f"synther: {rows} rows", said, part, 0.5, "50 %")


def median(works: dict[str, timing.Work], options: argparse.Namespace) -> dict[str, float]:
    taken = timing.interleaved(works, options.pairs, options.least)
    return {name: timing.percentile(each, 50) for name, each in taken.items()}


AREAS: dict[str, Callable[[argparse.Namespace], Iterator[Line]]] = {
    each.__name__: each for each in (machine, together, precision, acting, generating)
}


def run(options: argparse.Namespace) -> list[Line]:
    about, lines = timing.machine(), []
    for area in options.only:
        for line in AREAS[area](options):
            print(f"{line.area}: {line.what}: {line.said}{f' ({line.wanted}: {line.reached})' if line.reached else ''}")
            lines.append(line)
    rows = [[line.area, line.what, line.said, line.wanted, line.reached] for line in lines]
    text = timing.markdown(("area", "what", "measured", "wanted", "reached"), rows) + timing.caption(about)
    timing.write(options.out, "accelerator", text, {"about": about, "lines": [vars(line) for line in lines]})
    return lines


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=AREAS, default=list(AREAS), help="areas")
    parser.add_argument("--updates", type=int, default=200, help="in a segment")
    parser.add_argument("--training", type=int, default=2000, help="updates of the trainings whose losses are compared")
    parser.add_argument("--pairs", type=int, default=5, help="samples")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of a sample, at least")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
