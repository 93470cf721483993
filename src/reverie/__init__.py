"""Reverie: diffusion and flow models in reinforcement learning."""

from importlib import import_module
from typing import Any

from reverie.version import __version__

# Imported at first use, so that `import reverie` stays light: name -> module that has it.
_EXPORTS = {
    "Dataset": "reverie.data",
    "load_dataset": "reverie.loading",
    "adapt": "reverie.training",
    "evaluate": "reverie.evaluation",
    "fit": "reverie.training",
    "fit_many": "reverie.training",
    "fit_online": "reverie.training",
    "load": "reverie.training",
    "resume": "reverie.loading",
    "stream": "reverie.loading",
    "use_compilation_cache": "reverie.compilation",
    "use_every_core": "reverie.training.placing",
}
_MODULES = (
    *("baselines", "collection", "configs", "control", "data", "diffusion", "environments", "errors", "evaluation"),
    *("imitation", "learning", "models", "networks", "planners", "planning", "policies", "protocols", "rl"),
    *("roles", "settings", "synthesizers", "training", "wishes"),
)

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return import_module(f"reverie.{name}")
    raise AttributeError(f"module 'reverie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
