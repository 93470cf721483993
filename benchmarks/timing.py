"""What every measurement shares: interleaved timing, the floor that the machine sets, and tables that say where they
come from."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

Work = Callable[[], Any]
"""Does the work once and returns when it is done, results on the host or not."""


def use_threads(n: int) -> None:
    """Let this process run on its first n cores: before any library starts its threads, which then are as many."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""The clock's time, and this process's own, of all its threads together. On a core that other work shares the second is
what a quiet core would take, but for the caches, and for what is waited for."""
CLOCK = ["wall"]
"""Which of them measures."""


def use_clock(name: str) -> None:
    """Measure by this clock from now on."""
    CLOCK[0] = name


def parser(about: str | None) -> argparse.ArgumentParser:
    """With the options of every measurement, which `begin` reads."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="tiny networks, to see that it runs")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where other work shares the cores")
    made.add_argument("--threads", type=int, default=2, help="cores")
    made.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    return made


def begin(options: argparse.Namespace) -> None:
    """Before any library starts its threads: on so many cores, by this clock."""
    use_threads(options.threads)
    use_clock(options.clock)


def seconds(work: Work, repeats: int) -> float:
    clock = CLOCKS[CLOCK[0]]
    begun = clock()
    for _ in range(repeats):
        work()
    return (clock() - begun) / repeats


def interleaved(works: dict[str, Work], pairs: int, least: float = 0.3) -> dict[str, list[float]]:
    """Seconds that each takes, measured A B A B ...: what the machine does besides falls on all of them alike.

    Each is run twice unmeasured, and then in samples of at least `least` seconds, `pairs` of them.
    """
    repeats = {}
    for name, work in works.items():
        work()
        repeats[name] = max(1, round(least / max(seconds(work, 1), 1e-7)))
        if repeats[name] > 1:
            repeats[name] = max(1, round(least / max(seconds(work, min(repeats[name], 10)), 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(pairs):
        for name, work in works.items():
            taken[name].append(seconds(work, repeats[name]))
    return taken


def latencies(work: Work, repeats: int, limit: float = 10.0) -> list[float]:
    """Seconds of single calls, after two unmeasured ones; fewer than `repeats` (but 3) after `limit` seconds."""
    work(), work()
    taken: list[float] = []
    while len(taken) < repeats and (len(taken) < 3 or sum(taken) < limit):
        taken.append(seconds(work, 1))
    return taken


def percentile(values: Sequence[float], p: float) -> float:
    import numpy as np

    return float(np.percentile(values, p))


@dataclass(frozen=True)
class Ratio:
    """How many times faster the first of two interleaved works is: over the pairs the median, least and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, fast: Sequence[float], slow: Sequence[float]) -> "Ratio":
        pairs = [b / a for a, b in zip(fast, slow, strict=True)]
        return cls(statistics.median(pairs), min(pairs), max(pairs))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Floor:
    """What the machine does at most, measured: the largest matrix product's rate [FLOP/s], a copy's bandwidth [B/s]."""

    matmul: float
    copy: float

    @classmethod
    def measure(cls, sizes: Sequence[int] = (512, 1024, 2048), megabytes: int = 128, least: float = 0.2) -> "Floor":
        """The best of several sizes and repetitions, in float32. A copy of n bytes moves 2 n."""
        return cls(max(matmul_rate(n, least) for n in sizes), copy_rate(megabytes, least))

    def seconds(self, flops: float, moved: float = 0.0) -> float:
        """The least time for so many floating-point operations and bytes, if either were alone."""
        return max(flops / self.matmul, moved / self.copy)


def matmul_rate(n: int, least: float) -> float:
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda x, y: x @ y)
    x = jnp.ones((n, n), jnp.float32)
    best = min(interleaved({"product": lambda: product(x, x).block_until_ready()}, 5, least / 5)["product"])
    return 2 * n**3 / best


def copy_rate(megabytes: int, least: float) -> float:
    import jax
    import jax.numpy as jnp

    # In place: a new array each time would measure how fast the system hands out memory.
    once = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.ones(megabytes * 2**18, jnp.float32)
    moved = 2 * x.nbytes

    def copy() -> None:
        nonlocal x
        x = once(x).block_until_ready()

    return moved / min(interleaved({"copy": copy}, 5, least / 5)["copy"])


def machine(threads: int | None = None, packages: Sequence[str] = ("jax", "jaxlib", "numpy")) -> dict[str, Any]:
    """What a figure depends on: kind of machine, its load before, versions, commit, time."""
    import jax

    device = jax.devices()[0]
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}" if device.platform != "cpu" else processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **({"threads": threads} if threads else {}),
        "clock": CLOCK[0],
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ("reverie", *packages)},
        "commit": commit(Path(__file__).parent),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit(folder: Path) -> str:
    """The commit of the repository that holds the folder, with a + where its files are changed; empty without git."""
    try:
        found = [
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found[0].strip() + ("+" if found[1].strip() else "")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def caption(about: dict[str, Any], floor: Floor | None = None) -> str:
    """One line under a table: machine, load, versions, commit, floor."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    cores = f"{about['cores']} core{'s' * (about['cores'] != 1)} of {about['device']}"
    parts = [f"{cores}, load {about['load']} before{', CPU time' * (about['clock'] == 'cpu')}", versions]
    parts.append(f"commit {about['commit']}, {about['date']}")
    if floor:
        parts.append(f"matrix product {floor.matmul / 1e9:.0f} GFLOP/s, copy {floor.copy / 1e9:.1f} GB/s")
    return "; ".join(parts) + ".\n"


def write(out: Path, name: str, text: str, results: dict[str, Any]) -> None:
    """NAME.md and NAME.json in the folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    (out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def span(value: float) -> str:
    """A time in words: milliseconds or seconds, three figures."""
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
