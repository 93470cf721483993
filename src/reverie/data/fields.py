"""What one step of an array is: a vector, an image, token ids, or the vectors of several agents."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from reverie.errors import DataError

Tree: TypeAlias = Any
"""One array, or a dictionary of arrays by name. Which of the two is known only when the program runs."""

_NOUNS = {"vector": "vectors", "agents": "several agents' vectors", "image": "images", "tokens": "token ids"}


class Field(NamedTuple):
    """One step of an array. Hashable, so that it can be static in a compiled function."""

    shape: tuple[int, ...]
    """Without the steps: `[d]`, `[A, d]` of A agents, `[H, W, C]` or `[L]` token ids."""
    dtype: str
    """float32, for an image uint8, for token ids int32."""
    kind: Literal["vector", "agents", "image", "tokens"]

    def __str__(self) -> str:
        return f"{_NOUNS[self.kind]} {self.dtype} {list(self.shape)}"


Space: TypeAlias = Field | dict[str, Field]


def vector(size: int) -> Field:
    return Field((size,), "float32", "vector")


def field_of(array: np.ndarray) -> Field:
    """Of an array `[N, ...]` that `Dataset.from_arrays` has checked: type and number of axes tell its kind."""
    shape = tuple(int(size) for size in array.shape[1:])
    kind: Any = {"uint8": "image", "int32": "tokens"}.get(array.dtype.name, "vector" if len(shape) == 1 else "agents")
    return Field(shape, array.dtype.name, kind)


def space_of(tree: Tree) -> Space:
    if isinstance(tree, Mapping):
        return {name: field_of(array) for name, array in tree.items()}
    return field_of(tree)


def describe(space: Space) -> str:
    """In words, for a sentence that begins with "The observations are"."""
    if isinstance(space, Field):
        return str(space)
    return "a dictionary of " + ", ".join(f"{name} ({field})" for name, field in space.items())


def dimension(what: str, space: Space, who: str = "this method") -> int:
    """The length of a vector. Raises DataError, naming `what` and `who` needs one, where a step is anything else."""
    if isinstance(space, Field) and space.kind == "vector":
        return space.shape[0]
    or_else = ", or choose a method that takes these" if who == "this method" else ""
    raise DataError(
        f"The {what} are {describe(space)}; {who} needs one vector, [steps, dim] of floats: give such {what}{or_else}."
    )


def one_vector(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Vectors `[N, d]` one after another, in the dictionary's order, as one `[N, sum of d]`. Raises DataError, with its
    name, for a part that is none."""
    for name, part in parts.items():
        if part.ndim != 2:
            raise DataError(
                f"{name!r} holds images {list(part.shape[1:])}, which are no part of a vector; leave it out."
            )
    return np.concatenate(list(parts.values()), axis=1)


def flatten(key: str, tree: Tree) -> dict[str, Any]:
    """A dictionary's arrays as `KEY/NAME`; one array as `KEY`."""
    return {f"{key}/{name}": value for name, value in tree.items()} if isinstance(tree, Mapping) else {key: tree}


def unflatten(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What is named `KEY/NAME` as a dictionary under `KEY`; the rest as it is."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        key, slash, part = name.partition("/")
        if slash:
            tree.setdefault(key, {})[part] = value
        else:
            tree[key] = value
    return tree
