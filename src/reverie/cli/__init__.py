"""The `reverie` command. Each verb is a function whose arguments are its options; tyro makes the parser of it."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from reverie.errors import ReverieError, ReverieWarning

USAGE = """\
reverie: diffusion and flow models in reinforcement learning

  reverie list                              every algorithm: role, paper, what it needs
  reverie train ALGORITHM --data SOURCE --steps N [--seeds S] [--out FOLDER] [--FIELD VALUE ...]
                                            ALGORITHM may be one of your own, package.module:Class
  reverie train --resume FOLDER             go on with a run that was stopped
  reverie online sac --env NAME --steps N   learn in an environment; --synthesizer synther fills half of each batch
  reverie sweep METHOD ... --data SOURCE --steps N --env NAME --over FIELD=VALUE,VALUE ...
                                            many trainings, a grid or a search, on Ray too; a killed one goes on
  reverie eval FOLDER --env NAME            returns, lengths, success and their intervals
  reverie two-sample FOLDER --data SOURCE   how well a classifier distinguishes its actions from the data's
  reverie check FOLDER --data SOURCE        what may be wrong with the data or the training, and what would help
  reverie generate FOLDER -n N --out TARGET data from a synthesizer's run
  reverie fidelity SOURCE --real SOURCE     how true synthetic data is; with --env NAME to the simulator too
  reverie export FOLDER --out FILE.safetensors
                                            one small file, which eval, two-sample and generate take for a FOLDER;
                                            --to onnx or stablehlo: its way of acting, to be run without Reverie
  reverie serve FOLDER --port N             a server that answers observations with actions
  reverie card FOLDER --out FOLDER          a folder to be shared: that file, and what it is: data, command, scores
  reverie plot FOLDER                       learning curves of a run
  reverie compare FOLDER FOLDER ...         settings that differ, scores, metrics; --out FILE.html with curves
  reverie data list                         the sources, and the sets that are generated here
  reverie data info SOURCE
  reverie data make NAME --out TARGET [--steps N] [--seed S]
  reverie demo                              learn to plan in a maze, in minutes

  reverie COMMAND --help lists the options of a command, and `train ALGORITHM --help` every field of a method.
  Compiled programs are kept in ${REVERIE_CACHE:-~/.cache/reverie}/xla; JAX_ENABLE_COMPILATION_CACHE=false keeps none.
"""


def list_algorithms() -> None:
    """Every algorithm: role, paper, what it needs."""
    from reverie.catalogue import ALGORITHMS
    from reverie.cli.show import show, table

    rows = [(cls.name, cls.role, cls.paper, ", ".join(cls.needs) or "actions alone") for cls in ALGORITHMS.values()]
    show(table(("algorithm", "role", "paper", "needs"), rows))


def demo(out: Path = Path("demo"), seed: int = 0) -> None:
    """Learn to plan in a maze from trajectories of a simulator, and drive through it: about 5 minutes on 2 cores.

    Args:
        out: folder for the run and the pictures.
        seed: of the data, the training and the evaluation.
    """
    from reverie.demo import run

    run(out, seed)


Verb = Callable[[Sequence[str], str], None]


def _verb(module: str, function: str) -> Verb:
    """A function of a module, which is imported when the verb is used: so is what only it needs."""

    def call(arguments: Sequence[str], name: str) -> None:
        import tyro

        tyro.cli(getattr(import_module(f"reverie.{module}"), function), args=arguments, prog=name)

    return call


def _with_algorithm(function: str) -> Verb:
    """A verb that reads an algorithm's name before its options."""
    return lambda arguments, name: getattr(import_module("reverie.cli.training"), function)(arguments)


def _data(arguments: Sequence[str], name: str) -> None:
    _dispatch(DATA_VERBS, arguments, name)


DATA_VERBS = {
    "list": _verb("cli.data", "data_list"),
    "info": _verb("cli.data", "data_info"),
    "make": _verb("cli.data", "data_make"),
}
VERBS: dict[str, Verb] = {
    "list": _verb("cli", "list_algorithms"),
    "train": _with_algorithm("train"),
    "online": _with_algorithm("online"),
    "sweep": lambda arguments, name: import_module("reverie.cli.sweeping").sweep(arguments),
    "eval": _verb("cli.acting", "evaluate"),
    "two-sample": _verb("cli.acting", "two_sample"),
    "check": _verb("cli.acting", "check"),
    "fidelity": _verb("cli.acting", "fidelity"),
    "generate": _verb("cli.acting", "generate"),
    "export": _verb("cli.acting", "export"),
    "serve": _verb("cli.acting", "serve"),
    "card": _verb("cli.acting", "card"),
    "plot": _verb("cli.training", "plot"),
    "compare": _verb("cli.training", "compare"),
    "data": _data,
    "demo": _verb("cli", "demo"),
}


COMPILING = ("train", "online", "eval", "check", "two-sample", "generate", "serve", "data", "demo")
"""The verbs whose programs are kept for the next time."""


def _run(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in COMPILING:
        from reverie.compilation import use_compilation_cache

        use_compilation_cache()
    if arguments and arguments[0] == "train" and "--distributed" not in arguments:
        from reverie.training.placing import use_every_core

        use_every_core()
    _dispatch(VERBS, arguments, "reverie")


def _dispatch(verbs: dict, arguments: Sequence[str], name: str) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
    elif arguments[0] not in verbs:
        raise ReverieError(f"{arguments[0]!r} is no command of `{name}`; there are {', '.join(verbs)}")
    else:
        verbs[arguments[0]](arguments[1:], f"{name} {arguments[0]}")


def _warn(
    message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    ours = issubclass(category, ReverieWarning)
    text = f"reverie: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 2 for an error of the user's, 130 after Ctrl-C, 141 where
    whoever reads the output, such as `head`, has read enough."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("REVERIE_TRACEBACK"):  # for those who mend reverie itself
        _run(arguments)
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes there once more as it ends
        return 141
    except (ReverieError, OSError) as error:
        print(f"reverie: {error}", file=sys.stderr, flush=True)
        return _end(2)
    except KeyboardInterrupt:
        return 130
    return 0


def _end(status: int) -> int:
    """The status; where the process trained with others, its end at once, as JAX's would wait for theirs."""
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        sys.stdout.flush()
        os._exit(status)
    return status
