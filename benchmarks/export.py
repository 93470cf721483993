"""Exports every method that acts, and compares: `python -m benchmarks.export [METHOD ...] [--own-sizes]`.

A row a method, in Markdown: the size of the ONNX file, the time of one action (median of 50) by JAX, by the StableHLO
file and by ONNX Runtime, how far their actions are apart in 20 steps of one episode, of the action's size or of 1, and
how long the conversion took. States are random numbers, so that nothing is zero. Sizes are the tests', or with
--own-sizes the methods' own. One core: taskset -c 0, XLA_FLAGS=--xla_cpu_multi_thread_eigen=false.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tests.test_methods import OURS, VECTORS, data, tiny

from reverie.deploy import export
from reverie.deploy.exported_policy import ExportedPolicy
from reverie.errors import ReverieError
from reverie.training import Run
from reverie.training.loop import state_shapes

STATES = np.random.default_rng(1).normal(size=(2, 40, 4))
STEPS, TIMED = 20, 50
OTHERS = {"threshold": 1e6, "nearness": 1e3, "deviation": 1e9, "starts": 1.0, "kp": 0.1, "kd": 0.1, "chunk": 6}
HEAD = "| method | file | JAX | StableHLO | ONNX | apart: StableHLO | ONNX | converted in |\n" + 8 * "|---" + "|"


def run_of(algorithm: Any) -> Run:
    """A run whose states are random numbers."""
    rng, spec = (
        np.random.default_rng(2),
        algorithm.prepare(data(observations=STATES[0], next_observations=STATES[1]))[1],
    )
    states = jax.tree.map(
        lambda leaf: jnp.asarray((0.1 * rng.normal(size=leaf.shape)).astype(leaf.dtype)),
        state_shapes(algorithm, spec, (0,)),
    )
    return Run(algorithm, spec, states, 1, (0,))


def observations(algorithm: Any) -> list[Any]:
    seen = STATES[0].astype(np.float32)[:STEPS]
    return [{"observation": x, "desired_goal": x[:2]} for x in seen] if getattr(algorithm, "goals", 0) else list(seen)


def actions(act: Callable, seen: list[Any]) -> np.ndarray:
    return np.stack([act(each) for each in seen])


def milliseconds(act: Callable, seen: Any) -> float:
    """Of one action, the median; those at which a plan is made as often as the method makes one."""
    took = []
    for _ in range(TIMED):
        before = time.perf_counter()
        act(seen)
        took.append(time.perf_counter() - before)
    return 1000 * float(np.median(took))


def jax_actor(run: Run) -> Callable:
    policy = run.policy()
    carry = policy.reset(seed=5)

    def act(seen: Any) -> np.ndarray:
        nonlocal carry
        action, carry = policy.act(seen, carry, {"reward": 0.5})
        return action

    return act


def row(name: str, algorithm: Any, folder: Path) -> str:
    run, seen, files = run_of(algorithm), observations(algorithm), {}
    mine = jax_actor(run)
    expected = actions(mine, seen)
    scale = max(1.0, float(np.abs(expected).max()))
    apart, took = {}, {"jax": milliseconds(mine, seen[0])}
    for to in ("stablehlo", "onnx"):
        files[to] = folder / f"{name}.{to}"
        before = time.perf_counter()
        export(run, files[to], to)
        converted = time.perf_counter() - before
        policy = ExportedPolicy(files[to])
        policy.reset(seed=5)
        brought = {"reward": 0.5} if policy.takes("feedback/reward") else {}
        act = partial(policy.act, **brought)
        apart[to] = float(np.abs(actions(act, seen) - expected).max()) / scale
        took[to] = milliseconds(act, seen[0])
    size = files["onnx"].stat().st_size / 1000
    return (
        f"| {name} | {size:,.0f} kB | {took['jax']:.2f} ms | {took['stablehlo']:.2f} ms | {took['onnx']:.2f} ms "
        f"| {apart['stablehlo']:.0e} | {apart['onnx']:.0e} | {converted:.0f} s |"
    )


def main(arguments: list[str]) -> None:
    names = [each for each in arguments if not each.startswith("-")] or VECTORS
    warnings.simplefilter("ignore")
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if not hasattr(OURS[name], "act"):
                continue
            own = "--own-sizes" in arguments
            algorithm = OURS[name]() if own else tiny(name, width=16, multipliers=(2,), guidance_scale=0.1, **OTHERS)
            try:
                print(row(name, algorithm, Path(folder)), flush=True)
            except ReverieError as error:
                print(f"| {name} | {error} |", flush=True)
            jax.clear_caches()


if __name__ == "__main__":
    main(sys.argv[1:])
