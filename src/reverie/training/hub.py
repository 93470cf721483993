"""Runs from a model hub, by name: the file of one seed, as `reverie card` writes it."""

from __future__ import annotations

from pathlib import Path

from reverie.errors import RunError

MODEL = "model.safetensors"
"""The file of a run in a folder that is shared."""
HUB = "hf:"
"""What the name of a run on the hub begins with."""


def fetched(name: str) -> Path:
    """Where the file of the run "hf:USER/NAME", or of a version "hf:USER/NAME@REVISION", lies on this machine, after
    it was fetched if need be. Raises RunError where the hub's library is missing, and where there is no such run."""
    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise RunError(f'{name!r} needs huggingface_hub: pip install "reverie[hub]".') from None
    try:
        return Path(hf_hub_download(repository, MODEL, revision=revision or None))
    except Exception as error:  # its own kinds, those of the connection, and ValueError for a name
        said = str(error).strip().splitlines()
        raise RunError(f"{name!r} cannot be fetched: {said[0] if said else type(error).__name__}") from error
