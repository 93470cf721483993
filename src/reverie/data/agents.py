"""Several agents' arrays, `[..., A, d]`: agents of different sizes beside each other, and who has which columns.

An agent of fewer columns than others has zeros to the right of its own. The data's attributes `observation_sizes` and
`action_sizes`, a list of A numbers each, say how many are whose; without them all are. A vector is one agent's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reverie.data.checking import listed
from reverie.data.dataset import Dataset
from reverie.data.fields import Field, describe
from reverie.data.spec import Spec
from reverie.data.windows import Windows
from reverie.errors import DataError

WHAT = ("observations", "actions")


class Team(NamedTuple):
    """How many columns each agent has. Hashable, so that it can be static in a compiled function."""

    observations: tuple[int, ...]
    actions: tuple[int, ...]
    widths: tuple[int, int]
    """Columns of the arrays `[..., A, d]`: of observations, and of actions."""

    @property
    def size(self) -> int:
        """Agents."""
        return len(self.observations)


def team_of(data: Dataset) -> Team:
    """Whose the data are. Raises DataError where observations and actions are not of equally many agents, where sizes
    that are given do not fit, and where a column beyond an agent's size is not 0."""
    shapes = [_shape(what, getattr(data, f"{what[:-1]}_space")) for what in WHAT]
    if shapes[0][0] != shapes[1][0]:
        spaces = f"{describe(data.observation_space)} and the actions {describe(data.action_space)}"
        raise DataError(f"The observations are {spaces}; give both an axis of agents, [steps, agents, dim].")
    sizes = [_sizes(data, what, *shape) for what, shape in zip(WHAT, shapes, strict=True)]
    return Team(sizes[0], sizes[1], (shapes[0][1], shapes[1][1]))


def kept_sizes(team: Team) -> dict[str, Any]:
    """For `Spec.kept`, so that `team_of_spec` finds the sizes again: an empty row of each agent, as its length is known
    inside a compiled function too. Nothing where all agents have all columns."""
    every = zip(WHAT, (team.observations, team.actions), team.widths, strict=True)
    return {
        f"agents' {what}": {str(i): np.zeros(size, np.float32) for i, size in enumerate(sizes)}
        for what, sizes, width in every
        if set(sizes) != {width}
    }


def team_of_spec(spec: Spec) -> Team:
    """Of the data that the specification was fitted on."""
    shapes = [_shape(what, space) for what, space in zip(WHAT, (spec.observation_space, spec.action), strict=True)]
    sizes = []
    for what, (count, width) in zip(WHAT, shapes, strict=True):
        rows = spec.kept.get(f"agents' {what}", {})
        sizes.append(tuple(len(rows[str(i)]) for i in range(count)) if rows else (width,) * count)
    return Team(sizes[0], sizes[1], (shapes[0][1], shapes[1][1]))


def columns(sizes: Sequence[int], width: int) -> np.ndarray:
    """True where a column is the agent's own: bool `[A, width]`, on the host, so a constant of a compiled program."""
    return np.arange(width) < np.asarray(sizes)[:, None]


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Each agent's array `[..., d_i]` as one of all, `[..., A, d]`, with zeros to the right where d_i is below d."""
    width = max(part.shape[-1] for part in parts)
    return np.stack([np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])]) for x in parts], -2)


def split(joined: Any, sizes: Sequence[int]) -> list[Any]:
    """What `join` was given, `[..., d_i]` each. Raises DataError where there are not as many agents as sizes."""
    if joined.shape[-2] != len(sizes):
        raise DataError(f"{joined.shape[-2]} agents cannot be split by {len(sizes)} sizes, {list(sizes)}.")
    return [joined[..., i, :size] for i, size in enumerate(sizes)]


def flat(view: Windows) -> Windows:
    """The windows whose rows have all agents' columns side by side: `[N, A, d]` as `[N, A * d]`."""

    def merged(columns: dict[str, Any], axes: int) -> dict[str, Any]:
        named = {name: columns[name] for name in WHAT if columns[name].ndim == axes + 2}
        return columns | {name: x.reshape(*x.shape[:axes], -1) for name, x in named.items()}

    return view.with_rows(merged(view.rows, 1), merged(view.padding, 0))


def _shape(what: str, space: Any) -> tuple[int, int]:
    """Agents, and columns of each."""
    if isinstance(space, Field) and space.kind in ("vector", "agents"):
        return (1, *space.shape) if space.kind == "vector" else space.shape  # type: ignore[return-value]
    raise DataError(
        f"The {what} are {describe(space)}; this method needs several agents' vectors, [steps, agents, dim] of floats."
    )


def _sizes(data: Dataset, what: str, count: int, width: int) -> tuple[int, ...]:
    name = f"{what[:-1]}_sizes"
    given = data.attributes.get(name)
    if given is None:
        return (width,) * count
    right = isinstance(given, list) and len(given) == count and all(isinstance(n, int) for n in given)
    if not right or not all(0 < n <= width for n in given):  # type: ignore[union-attr,operator]
        raise DataError(f"{name} = {given!r} do not fit {what} of {count} agents with up to {width} columns each.")
    sizes = tuple(given)  # type: ignore[arg-type]
    values = getattr(data, what).reshape(-1, count, width)
    filled = np.argwhere((values != 0).any(0) & ~columns(sizes, width))
    if len(filled):
        agent, column = filled[0].tolist()
        row = int(np.flatnonzero(values[:, agent, column])[0])
        raise DataError(
            f"{what!r} holds {values[row, agent, column]!s} at row {row}, column {listed((agent, column))}, where "
            f"{name} = {given!r} leave the agent no such column; correct the sizes, or set it to 0."
        )
    return sizes
