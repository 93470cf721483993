"""How long every method's programs take to be made, at its own sizes: what one waits for before the first update.

    python -m benchmarks.compiling [--methods diffuser iql] [--quick]

`init` draws the parameters, `train` makes a segment of updates (of the dearest stage, where there are several), `act`
answers one observation. Each is traced, lowered and compiled anew, with no cache of compiled programs; a second run of
a method finds its programs in that cache, which the command line keeps. Methods that learn from images, from a replay
alone or on policy, or begin from another run, are left out.
"""

import argparse
import os
from collections.abc import Iterator
from typing import Any

from benchmarks import timing

SEGMENT = 1000
TINY: Any = {
    "width": 16,
    "multipliers": (1,),
    "hidden": (8,),
    "critic_hidden": (8,),
    "horizon": 4,
    "overlap": 1,
    "batch_size": 8,
}
"""With --quick, of the fields that a method has."""


def data() -> Any:
    """Random numbers of Hopper's sizes, that every method finds something in: two tasks with a sentence each, costs."""
    from dataclasses import replace

    import numpy as np

    from benchmarks.workloads import hopper_like

    made = hopper_like()
    tasks = np.arange(len(made)) // 500 % 2
    return replace(
        made,
        costs=np.float32(np.arange(len(made)) % 3 == 0),
        next_observations=np.roll(made.observations, -1, 0),
        infos={"task": tasks.astype(np.int32)},
        attributes={"tasks": ["reach", "push"]},
    )


def methods(options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import fields

    from reverie.catalogue import ALGORITHMS
    from reverie.training.loop import written_columns

    def sized(cls: Any) -> Any:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in TINY.items() if options.quick and name in known})

    offline = {
        name: cls
        for name, cls in ALGORITHMS.items()
        if "images" not in cls.needs
        and cls.role != "simulation"
        and not any(hasattr(cls, name) for name in ("begins_from", "recorded"))
        and not written_columns(cls)
    }
    wanted = options.methods or offline
    return {name: sized(offline[name]) for name in wanted if name in offline}


def measured(algorithm: Any, given: Any) -> dict[str, float | None]:
    """Seconds for each program; None for one that the method does not have."""
    import jax
    import numpy as np

    from benchmarks.workloads import acting_inputs
    from reverie.learning.stages import stages_of
    from reverie.protocols import Actor
    from reverie.training import loop
    from reverie.training.inputs import blank_input

    view, spec = algorithm.prepare(given)
    each = loop.each_seed((0,))
    states = jax.eval_shape(lambda each: loop.initial_states(algorithm, each, spec), each)

    def train(stage: int) -> float:
        derived = jax.eval_shape(lambda s: loop.derive(algorithm, s, each, view, stage=stage), states)
        arguments = (algorithm, states, each, jax.device_put(np.uint32(0)), view, derived)
        return compiled(lambda: loop.advance.lower(*arguments, length=SEGMENT, stage=stage))

    def act() -> float:
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)
        _, carry, feedback = acting_inputs(algorithm, spec, 1)
        inputs = state, spec, blank_input(algorithm, spec, 1), carry, feedback, jax.random.key(0)
        return compiled(lambda: jax.jit(algorithm.act).lower(*inputs))

    return {
        "init": compiled(lambda: loop.initial_states.lower(algorithm, each, spec)),
        "train": max(train(stage) for stage in range(len(stages_of(algorithm)))),
        "act": act() if isinstance(algorithm, Actor) else None,
    }


def compiled(lower: Any) -> float:
    import jax

    jax.clear_caches()
    return timing.seconds(lambda: lower().compile(), 1)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from reverie.errors import ReverieError

    for name, algorithm in methods(options).items():
        try:
            yield {"method": name} | measured(algorithm, data())
        except ReverieError as error:
            print(f"{name}: {error}")


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    about, found = timing.machine(), []
    for row in rows(options):
        said = {part: timing.span(value) for part, value in row.items() if isinstance(value, float)}
        print(row["method"], *(f"{part} {value}" for part, value in said.items()), flush=True)
        found.append(row)
    order = sorted(found, key=lambda row: -row["train"])
    cells = [[row["method"], *(f"{row[part]:.1f}" if row[part] else "" for part in PARTS)] for row in order]
    text = timing.markdown(("method", *(f"{part}, s" for part in PARTS)), cells) + timing.caption(about)
    timing.write(options.out, "compiling", text, {"about": about, "rows": found})
    return found


PARTS = ("init", "train", "act")


def main(words: list[str] | None = None) -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--methods", nargs="+", help="names; all that the data suit if not given")
    options = parser.parse_args(words)
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # before JAX is imported
    timing.begin(options)
    run(options)


if __name__ == "__main__":
    main()
