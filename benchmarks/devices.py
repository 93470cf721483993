"""How a training spreads over devices: what it costs here on simulated ones, and where more GPUs stop paying:

    python -m benchmarks.devices [--simulate 8] [--quick]

**Measured.** The machine's cores are shown to JAX as `--simulate` devices, and the same updates are made on 1, 2, 4 ...
of them. As the devices share the cores, the same work should take as long as on one; what it takes more is the price of
dividing it: of the batch of one seed, whose gradients are exchanged in every update, or of as many seeds as devices,
which exchange nothing. The bytes exchanged are read off the compiled program.

**Sharded.** What data take of a device, and what an update exchanges for them, where each of four devices has all rows
and where it has a quarter of them (`--shard-data`); both are read off the program and its arguments.

**On paper.** An update on n GPUs that share a batch takes

    T(n) = max(launches, FLOP / (n R)) + 2 (n - 1) / n bytes / B(n) + 2 latency log2 n

where R is the rate that a GPU reaches, `launches` what its kernels take however little they do, B(n) the bandwidth to
other GPUs, within a node of eight or beyond. `fixed` keeps the batch, `grown` gives each GPU the whole of it. The
speed-up is T(1) / T(n), times n where the batch grows; more GPUs stop paying where it is below n / 2.
"""

import argparse
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from benchmarks import timing

METHODS = ["diffusion-ql", "diffuser", "diffusion-policy"]
GPUS = (8, 16, 32, 64, 128, 256)
NODE = 8
"""GPUs that the fast links join."""
KERNEL = 3e-6
"""Seconds that the launch of a kernel takes, with nothing to wait for."""
KERNELS = 3
"""For each matrix product: itself, and what is fused before it and after it. An estimate."""


@dataclass(frozen=True)
class Machine:
    """One GPU of many: FLOP/s reached, B/s to another in the node and beyond it, seconds of one message."""

    rate: float
    near: float
    far: float
    latency: float

    def exchange(self, moved: float, n: int) -> float:
        """Seconds in which n GPUs sum so many bytes."""
        bandwidth = self.near if n <= NODE else self.far
        return 2 * (n - 1) / n * moved / bandwidth + 2 * self.latency * math.log2(n)

    def update(self, work: "Work", n: int, *, grown: bool) -> float:
        """Seconds of an update on n GPUs."""
        share = 1 if grown else n
        exchanged = self.exchange(work.moved, n) if n > 1 else 0.0
        return max(work.launches * KERNEL, work.flops / share / self.rate) + exchanged

    def speedup(self, work: "Work", n: int, *, grown: bool) -> float:
        return (n if grown else 1) * self.update(work, 1, grown=grown) / self.update(work, n, grown=grown)


@dataclass(frozen=True)
class Work:
    """What an update asks for: FLOP, bytes of gradients, kernels."""

    name: str
    flops: float
    moved: float
    launches: int


def methods(quick: bool) -> dict[str, Any]:
    """Of the papers' sizes, where not `quick`, and the data that they learn from."""
    from benchmarks.workloads import hopper_like, pusht_like
    from reverie.imitation import DiffusionPolicy
    from reverie.planners import Diffuser
    from reverie.policies import DiffusionQL

    tiny: Any = {"width": 16, "multipliers": (1, 2), "batch_size": 16}
    ql = DiffusionQL(**({"hidden": (8,), "critic_hidden": (8,), "batch_size": 16} if quick else {}))
    diffuser, policy = Diffuser(**(tiny | {"horizon": 8} if quick else {})), DiffusionPolicy(**(tiny if quick else {}))
    return dict(zip(METHODS, ((ql, hopper_like()), (diffuser, hopper_like()), (policy, pusht_like())), strict=True))


def chosen(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    return {name: each for name, each in methods(options.quick).items() if name in names}


def exchanged(text: str) -> int:
    """Bytes that a compiled program's devices sum, each update once: what its all-reduces give."""
    return sum(map(nbytes, re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)))


def gathered(text: str, n: int) -> int:
    """Bytes that n devices look up for each other, each update once: what is scattered, summed over all of them, and
    the numbers that are gathered for it."""
    scattered, told = (re.findall(rf"= (.*?) {word}(?:-start)?\(", text) for word in ("reduce-scatter", "all-gather"))
    return n * sum(map(nbytes, scattered)) + sum(map(nbytes, told))


def nbytes(shapes: str) -> int:
    """Of a program's arrays, as it writes their types and shapes."""
    found = re.findall(r"(bf|f|s|u|pred)(\d*)\[([\d,]*)\]", shapes)
    return sum(
        (16 if kind == "bf" else int(bits or 8)) // 8 * math.prod(map(int, filter(None, shape.split(","))))
        for kind, bits, shape in found
    )


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    from benchmarks.workloads import Prepared

    counts = [2**i for i in range(10) if 2**i <= options.simulate]
    rows = []
    for name, (method, data) in chosen(options, options.measure).items():
        for split in ("batch", "seeds"):
            works, moved = {}, {}
            for n in counts:
                ours = Prepared.of(method, counts[-1] if split == "seeds" else 1, data)
                works[str(n)] = ours.segment(options.updates, devices=n)
                moved[str(n)] = exchanged(ours.compiled(options.updates, devices=n)) if n > 1 else 0
            taken = timing.interleaved(works, options.pairs, options.least)
            for n in counts:
                ratio = timing.Ratio.of(taken[str(n)], taken["1"])
                seconds = timing.percentile(taken[str(n)], 50) / options.updates
                row = {"method": name, "split": split, "devices": n, "seconds": seconds, "exchanged": moved[str(n)]}
                rows.append(row | {"ratio": vars(ratio)})
                print(f"  {name}, {split}, {n}: {timing.span(seconds)}, {ratio}", flush=True)
    return rows


def held(options: argparse.Namespace) -> list[dict[str, Any]]:
    import jax

    from benchmarks.workloads import Prepared

    rows, n = [], min(4, options.simulate)
    for name, (method, data) in chosen(options, options.held).items() if n > 1 else ():
        for split in ("batch", "seeds"):
            ours = Prepared.of(method, n if split == "seeds" else 1, data)
            for shard in (False, True):
                (*_, view, _), _ = ours.arguments(options.updates, devices=n, shard=shard)
                text = ours.compiled(options.updates, devices=n, shard=shard)
                row = {"method": name, "split": split, "devices": n, "sharded": shard}
                row["held"] = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(view))
                rows.append(row | {"exchanged": exchanged(text), "gathered": gathered(text, n) if shard else 0})
    return rows


def work(name: str, method: Any, data: Any) -> Work:
    import jax

    from benchmarks.flops import tree_bytes
    from benchmarks.workloads import Prepared
    from reverie.learning import Optimised

    ours = Prepared.of(method, 1, data)
    nodes = jax.tree.leaves(ours.state, is_leaf=lambda node: isinstance(node, Optimised))
    moved = sum(tree_bytes(node.params) for node in nodes if isinstance(node, Optimised))
    return Work(name, ours.update_flops(), moved, KERNELS * ours.update_matmuls())


def on_paper(machine: Machine, works: list[Work]) -> list[dict[str, Any]]:
    return [
        {
            "method": each.name,
            "batch": "grown" if grown else "fixed",
            "gflop": each.flops / 1e9,
            "megabytes": each.moved / 1e6,
            "kernels": each.launches,
            "one": machine.update(each, 1, grown=grown),
            "speedups": {n: machine.speedup(each, n, grown=grown) for n in GPUS},
        }
        for each in works
        for grown in (False, True)
    ]


def measured_table(rows: list[dict[str, Any]]) -> str:
    head = ("", "divided", "devices", "an update", "speed of the same work, times one device's", "exchanged, MB")
    return timing.markdown(
        head,
        [
            [
                each["method"],
                each["split"],
                str(each["devices"]),
                timing.span(each["seconds"]),
                str(timing.Ratio(**each["ratio"])),
                f"{each['exchanged'] / 1e6:.2f}",
            ]
            for each in rows
        ],
    )


def held_table(rows: list[dict[str, Any]]) -> str:
    head = ("", "divided", "devices", "data", "on a device, MB", "gradients exchanged, MB", "batches exchanged, MB")
    return timing.markdown(
        head,
        [
            [
                *(each["method"], each["split"], str(each["devices"]), "sharded" if each["sharded"] else "on each"),
                *(f"{each[what] / 1e6:.3g}" for what in ("held", "exchanged", "gathered")),
            ]
            for each in rows
        ],
    )


def paper_table(rows: list[dict[str, Any]]) -> str:
    head = ("", "batch", "GFLOP", "gradients, MB", "kernels", "one GPU", *(f"{n} GPUs" for n in GPUS))
    return timing.markdown(
        head,
        [
            [
                each["method"],
                each["batch"],
                f"{each['gflop']:.3g}",
                f"{each['megabytes']:.3g}",
                str(each["kernels"]),
                timing.span(each["one"]),
                *(f"{s:.1f}" if s >= n / 2 else f"({s:.1f})" for n, s in each["speedups"].items()),
            ]
            for each in rows
        ],
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    about = timing.machine(options.threads)
    machine = Machine(options.rate * 1e12, options.near * 1e9, options.far * 1e9, options.latency * 1e-6)
    rows = measured(options)
    paper = on_paper(machine, [work(name, *each) for name, each in chosen(options, options.paper).items()])
    shared = held(options)
    found = {"about": about, "measured": rows, "sharded": shared, "machine": vars(machine), "paper": paper}
    tables = f"{measured_table(rows)}\n{timing.caption(about)}\n{held_table(shared)}\n{paper_table(paper)}\n"
    text = f"{tables}In brackets: below half of n.\n"
    timing.write(options.out, "devices", text, found)
    print(text)
    return found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--simulate", type=int, default=8, help="devices that the cores are shown as")
    parser.add_argument("--measure", nargs="*", choices=METHODS, default=METHODS[:2], help="on simulated devices")
    parser.add_argument("--held", nargs="*", choices=METHODS, default=METHODS[:1], help="of which data are sharded")
    parser.add_argument("--paper", nargs="*", choices=METHODS, default=METHODS, help="reckoned for GPUs")
    parser.add_argument("--updates", type=int, default=5, help="in a segment")
    parser.add_argument("--pairs", type=int, default=5, help="samples")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of a sample, at least")
    parser.add_argument("--rate", type=float, default=200, help="TFLOP/s that a GPU reaches")
    parser.add_argument("--near", type=float, default=300, help="GB/s between GPUs of a node")
    parser.add_argument("--far", type=float, default=40, help="GB/s between GPUs of two nodes")
    parser.add_argument("--latency", type=float, default=10, help="microseconds of a message")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    flag = f"--xla_force_host_platform_device_count={options.simulate}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"  # before JAX is imported
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
