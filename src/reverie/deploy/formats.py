"""The formats of an exported run: its arrays (safetensors, npz), or its whole acting function (StableHLO, ONNX)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.deploy.acting import ACTION, ActingFunction, acting_function
from reverie.deploy.plain import plain
from reverie.errors import RunError
from reverie.paths import replacing
from reverie.training import release
from reverie.training.run import Run

FORMATS = ("safetensors", "npz", "stablehlo", "onnx")
OPSET = 21
"""Of ONNX: runtimes from 2024 on have it."""
NEAR = 1e-4
"""How far an action of the ONNX file may be from JAX's when it is written: of its size, or of 1 where that is less.
Rounding alone stays below 1e-5."""
PLATFORMS = ("cpu", "cuda", "tpu")
STEPS = 3
"""Steps in which both are compared."""


def export(
    run: Run, path: str | Path, to: str = "safetensors", seed: int | None = None, half: bool = False, **about: Any
) -> None:
    """Write one seed of a run (the first if None) to a file, whole or not at all.

    Args:
        to: "safetensors", what `reverie.load` reads, as `Run.export`; "npz", the same arrays for NumPy alone;
            "stablehlo", the acting function as `jax.export` serialises it, for CPU, CUDA and TPU, with `PATH.json`
            beside it; "onnx", the acting function for ONNX Runtime. `reverie/deploy/exported_policy.py` acts by the
            last two, and can be copied.
        half: store the arrays' floats as float16; of the first two formats.
        about: plain values to be kept with it.

    Raises RunError where the file exists, for another format, for a seed not trained, for what does not act, for a
    method that ONNX cannot hold, and where packages are missing.
    """
    if to not in FORMATS:
        raise RunError(f"{to!r} is no format of an exported run; choose one of {', '.join(FORMATS)}.")
    if half and to in ("stablehlo", "onnx"):
        raise RunError(f"half stores arrays as float16, and {to} computes with them; leave it out, or export arrays.")
    if to == "safetensors":
        return release.write(run, path, seed, half, about)
    release.check_new(path)
    if to == "npz":
        header, arrays = release.contents(run, seed, half, about)
        with replacing(str(path)) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, **{release.HEADER: np.array(header)}, **arrays)  # type: ignore[arg-type]
        return None
    function = acting_function(run, seed)
    said = release.as_json({**function.about, "about": about})
    if to == "stablehlo":
        beside = f"{path}.json"
        release.check_new(beside)
        written = stablehlo(function, run.algorithm.name)
        with replacing(beside) as unfinished:
            Path(unfinished).write_text(said)
    else:
        written = onnx(function, run.algorithm.name, said)
    with replacing(str(path)) as unfinished:
        Path(unfinished).write_bytes(written)
    return None


def stablehlo(function: ActingFunction, method: str) -> bytes:
    """The step as `jax.export.deserialize` reads it."""
    from jax import export as exporting

    try:
        exported = exporting.export(jax.jit(function.step), platforms=PLATFORMS)(function.inputs)
        return bytes(exported.serialize())
    except ImportError as error:
        raise RunError(
            f"Export to stablehlo needs a package ({_line(error)}); pip install 'reverie[stablehlo]'."
        ) from None
    except (NotImplementedError, ValueError) as error:
        raise RunError(f"{method} cannot be exported to stablehlo ({_line(error)}).") from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def onnx(function: ActingFunction, method: str, said: str) -> bytes:
    """The step as an ONNX model, once its actions were seen to be JAX's; `said` is in its metadata, under "reverie"."""
    try:
        with _quiet():
            import onnx as library
            import onnxruntime
            from jax2onnx import to_onnx
    except ImportError as error:
        raise RunError(
            f"Export to onnx needs a package that is missing ({error}); pip install 'reverie[onnx]'."
        ) from None
    names, outputs = list(function.inputs), list(function.about["outputs"])
    step = plain(function.step)

    def positional(*arrays: Any) -> tuple[Any, ...]:
        found = step(dict(zip(names, arrays, strict=True)))
        return tuple(found[name] for name in outputs)

    shapes = [function.inputs[name] for name in names]
    try:
        with _quiet():
            model: Any = to_onnx(
                positional, shapes, input_names=names, output_names=outputs, opset=OPSET, return_mode="proto"
            )
            library.helper.set_model_props(model, {release.HEADER: said})
            written = model.SerializeToString()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 4
            session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
            apart = distance(function, lambda given: dict(zip(outputs, session.run(outputs, given), strict=True)))
    except Exception as error:  # the converter and the runtime raise whatever comes, of private kinds too
        raise RunError(f"{method} cannot be exported to onnx ({_line(error)}); export it --to stablehlo.") from error
    if not apart <= NEAR:
        raise RunError(f"{method}'s actions by onnx are {apart:.1g} from JAX's; export it --to stablehlo.")
    return written


def distance(function: ActingFunction, other: Callable[[dict[str, np.ndarray]], Mapping[str, Any]]) -> float:
    """How far another runtime's actions are from JAX's in the first steps, of their size or of 1, each with its own
    carry; observations are random numbers."""
    rng, step = np.random.default_rng(0), jax.jit(function.step)
    carries, worst = [dict(function.reset), dict(function.reset)], 0.0
    for _ in range(STEPS):
        seen = {
            name: (10 * rng.normal(size=x.shape) % 10).astype(x.dtype) if x.dtype == np.uint8
            else rng.normal(size=x.shape).astype(np.float32).astype(x.dtype)
            for name, x in function.inputs.items() if name not in function.reset
        }  # fmt: skip
        found = [step({**seen, **carries[0]}), other({**seen, **carries[1]})]
        for carry, made in zip(carries, found, strict=True):
            carry.update({name: np.asarray(made[new]) for name, new in function.about["carry"].items()})
        action, theirs = (np.asarray(made[ACTION], np.float64) for made in found)
        worst = max(worst, float(np.abs(action - theirs).max() / max(1.0, np.abs(action).max())))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter logs of its parts for other libraries, and of shapes that it does not know."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
