"""Record what small runs of every method give, and compare two records bit for bit.

    python -m benchmarks.records write before.npz      # at one version
    python -m benchmarks.records compare before.npz    # at another, on the same machine

For a change that is to change nothing: the metrics of a short training, the state it ends in, the actions of an
episode and the rows of a generation. Metrics are compared by their values, so that they may be renamed. Only records of
one kind of processor and one version of JAX compare.
"""

import hashlib
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.protocols import Synthesizer

STEPS, SEEDS = 12, 2
SMALL: dict[str, Any] = {
    "hidden": (16, 16),
    "critic_hidden": (16, 16),
    "policy_hidden": (16,),
    "energy_hidden": (16,),
    "batch_size": 16,
    "candidates": 3,
    "diffusion_steps": 4,
    "width": 16,
    "blocks": 1,
    "widths": (16, 8),
    "multipliers": (1, 2),
    "horizon": 8,
    "members": 3,
    "elites": 2,
    "behaviour_updates": 4,
    "critic_updates": 4,
    "iterations": 1,
    "support": 3,
    "nfe": 4,
    "chunk": 32,
    "ema_start": 2,
    "ema_every": 2,
    "held_out": 20,
}
OWN: dict[str, dict[str, Any]] = {
    "diffuser": {"warm_start_steps": 2},
    "diffuser-maze": {"stride": 2, "replan_interval": 2, "warm_start_steps": 2},
    "synther": {"nfe": 7},
    "mbpo": {"horizon": 3},
    "morel": {"horizon": 3, "threshold": 10.0},
    "tatu": {"horizon": 3, "threshold": 10.0},
    "diffstitch": {
        "width": 8,
        "multipliers": (1,),
        "ensemble_hidden": (16,),
        "shortest_bridge": 2,
        "longest_bridge": 5,
        "rows_left": 0,
        "nearness": 1e3,
        "deviation": 1e9,
    },
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "edp": ("diffusion-ql", {"action_approximation": "one-step", "selection": "argmax", "backup_actions": 2}),
    "idql-implicit": ("idql", {"selection": "implicit"}),
    "one-step-bcq": ("one-step", {"improvement": "easy-bcq"}),
    "one-step-kl": ("one-step", {"improvement": "reverse-kl"}),
    "diffusion-bc-resnet": ("diffusion-bc", {"backbone": "resnet", "hidden": (16, 16, 16)}),
    "diffuser-cold": ("diffuser", {"warm_start_steps": 0}),
}


def small(name: str, **changes: Any) -> Any:
    """The algorithm at a size that trains in a second."""
    cls = ALGORITHMS[name]
    known = {field.name for field in fields(cls)}
    given = {key: value for key, value in (SMALL | OWN.get(name, {})).items() if key in known}
    return cls(**(given | changes))


def data() -> reverie.Dataset:
    """600 steps of a smooth walk whose observations are two positions and two velocities."""
    rng = np.random.default_rng(0)
    n = 600
    actions = np.clip(rng.normal(0, 0.5, (n, 2)), -1, 1)
    velocities = 0.1 * np.cumsum(actions, 0) % 1 - 0.5
    observations = np.concatenate([np.cumsum(velocities, 0) * 0.05, velocities], 1).astype(np.float32)
    last = np.arange(n) % 50 == 49
    terminals = last & (np.arange(n) // 50 % 3 == 0)
    return reverie.Dataset.from_arrays(
        observations,
        actions.astype(np.float32),
        rng.normal(1, 0.3, n),
        terminals,
        last & ~terminals,
        next_observations=observations + 0.1,
        action_low=-1.0,
        action_high=1.0,
    )


def record(name: str, algorithm: Any, known: reverie.Dataset) -> dict[str, np.ndarray]:
    run = reverie.fit(algorithm, known, steps=STEPS, seeds=SEEDS, segment=4, progress=False)
    found = {f"{name}/state": digest(run.states)} | metrics(name, run)
    if isinstance(algorithm, Synthesizer):
        return found | {f"{name}/rows/{key}": rows for key, rows in run.generate(48).arrays().items()}
    return found | {f"{name}/actions": actions(run)}


def metrics(name: str, run: Any) -> dict[str, np.ndarray]:
    timed = ("seconds", "updates_per_second")
    return {f"{name}/metrics/{key}": column for key, column in run.metrics().items() if key not in timed}


def actions(run: Any) -> np.ndarray:
    """Of 20 steps of one environment, whose observations do not answer."""
    rng = np.random.default_rng(1)
    policy = run.policy(seed=1)
    carry, acted = policy.reset(3), []
    for _ in range(20):
        seen: Any = rng.normal(0, 0.3, run.spec.observation_dim).astype(np.float32)
        if getattr(run.algorithm, "goals", False):
            seen = {"observation": seen, "desired_goal": np.float32([0.2, -0.1])}
        action, carry = policy.act(seen, carry)
        acted.append(action)
    return np.stack(acted)


def digest(tree: Any) -> np.ndarray:
    found = hashlib.sha256()
    for leaf in jax.device_get(jax.tree.leaves(tree)):
        found.update(np.ascontiguousarray(leaf).data)
    return np.frombuffer(found.digest(), np.uint8)


def online(name: str, **more: Any) -> dict[str, np.ndarray]:
    """SAC in a simulator, gathering and learning."""
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"steps": 200, "warmup": 100, "log_every": 50, "seeds": SEEDS, "progress": False}
        run = reverie.fit_online(small("sac"), "InvertedPendulum-v5", out=Path(folder) / "run", **settings, **more)
        gathered = {f"{name}/rows/{key}": rows for key, rows in run.histories[1].dataset().arrays().items()}
        return {f"{name}/state": digest(run.states)} | metrics(name, run) | gathered


def everything() -> dict[str, np.ndarray]:
    known = data()
    found: dict[str, np.ndarray] = {}
    for name in ALGORITHMS:
        found |= record(name, small(name), known)
        print(name, flush=True)
    for name, (base, changes) in VARIANTS.items():
        found |= record(name, small(base, **changes), known)
        print(name, flush=True)
    found |= online("online")
    synthesis = reverie.training.Synthesis(interval=50, updates=4, rows=64)
    found |= online("online-synther", synthesizer=small("synther", chunk=32), synthesis=synthesis)
    return found


def differences(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    """What is not the same to the last bit. Metrics are matched by value."""

    def split(record: dict[str, np.ndarray]) -> tuple[dict[str, bytes], dict[str, list[bytes]]]:
        plain, values = {}, {}
        for key, array in record.items():
            content = f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            if "/metrics/" in key:
                values.setdefault(key.split("/")[0], []).append(content)
            else:
                plain[key] = content
        return plain, {name: sorted(each) for name, each in values.items()}

    (plain, values), (new_plain, new_values) = split(before), split(after)
    found = [key for key in plain if plain[key] != new_plain.get(key)]
    return found + [f"{name}/metrics" for name in values if values[name] != new_values.get(name)]


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "compare"):
        sys.exit(__doc__)
    verb, path = sys.argv[1:]
    found = everything()
    if verb == "write":
        np.savez(path, **found)  # type: ignore[arg-type]
        return 0
    with np.load(path) as file:
        before = {key: file[key] for key in file.files}
    different = differences(before, found)
    print("\n".join(different) or f"all {len(before)} arrays are the same, bit for bit")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
