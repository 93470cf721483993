"""Episodes of the data that are cut and joined: what is kept of the data for it, what is learned beside windows, the
steps between given states, and how the pieces are laid."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, Windows, rewards_to_go
from reverie.data.views import Rows, View
from reverie.models import Bootstraps, Outcomes, outcome
from reverie.planning import InverseDynamics

STANDARD = "standard_observations"
"""The name of the units of the observations in which the dynamics are learned; windows are in others."""


class WindowsAndSteps(View):
    """Batches of windows, and beside each of them, as "steps", some of every member's bootstrap:
    `[B, several, E, ...]`."""

    windows: Windows
    steps: Bootstraps
    several: int = eqx.field(static=True)
    """Windows come in smaller batches than the ensemble learns from."""

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def rows(self) -> Rows:
        """The windows'."""
        return self.windows.rows

    def index(self, key, batch_size: int) -> jax.Array:
        """A window's number, and some of each member's rows: int32 `[batch_size, 1 + several * E]`."""
        first, second = jax.random.split(key)
        window, rows = self.windows.index(first, batch_size), self.steps.index(second, batch_size * self.several)
        return jnp.concatenate([window[:, None], rows.reshape(batch_size, -1)], -1)

    def take(self, index) -> Rows:
        rows = index[..., 1:].reshape(*index.shape[:-1], self.several, -1)
        return self.windows.take(index[..., 0]) | {"steps": self.steps.take(rows)}


def real_rows(data: Dataset, discount: float) -> Rows:
    """What stitching needs of data with next observations, a row a step: its columns, the discounted rewards `to_go`
    `[N]`, and of the row's episode the first row, `begin`, and the one after the last, `end`: int32 `[N]`."""
    lengths = np.diff(data.episodes)[:, 0]
    begin, end = (np.repeat(data.episodes[:, i], lengths).astype(np.int32) for i in (0, 1))
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    rows = {name: getattr(data, name) for name in names}
    rows |= {"to_go": rewards_to_go(data, discount).astype(np.float32), "begin": begin, "end": end}
    return {name: jnp.asarray(column) for name, column in rows.items()}


def of_dynamics(spec: Spec) -> Spec:
    """The specification in whose units the dynamics are learned, with the rows held out from it."""
    units = spec.normalisers | {"observations": spec.normalisers[STANDARD]}
    return replace(spec, normalisers=units, kept=spec.kept["held_out"])


def filled(inverse: InverseDynamics, outcomes: Outcomes, spec: Spec, states) -> Rows:
    """Of the steps between states `[B, H, d]`: `actions`, `rewards`, and, with `error`, how far the state that follows
    is from the mean that the ensemble expects (squared, in standard deviations of the observations), and whether it
    `ends` the task: `[B, H - 1, ...]`."""
    before, after = states[:, :-1], states[:, 1:]
    pair = (spec.normalise("observations", each) for each in (before, after))
    actions = jnp.clip(spec.denormalise("actions", inverse(*pair)), spec.action_low, spec.action_high)
    units = of_dynamics(spec)
    seen, taken = units.normalise("observations", before), units.normalise("actions", actions)
    mean, _ = outcomes.ensemble(seen, taken)
    expected, rewards = outcome(mean.mean(0), before, units)
    reached, expected = (units.normalise("observations", each) for each in (after, expected))
    ends = (outcomes.end(seen, taken, reached) > 0).astype(jnp.float32)
    # Of data that never end, or always, these units know that alone, whatever the classifier says.
    ends = units.denormalise("terminals", ends[..., None])[..., 0] > 0.5
    return {"actions": actions, "rewards": rewards, "error": jnp.square(reached - expected).sum(-1), "ends": ends}


def bridges(stitches: Rows) -> Rows:
    """The bridges of stitches alone, one after another, `[n, ...]`, on the host: each is an episode that is cut at its
    end, where the target is the last next observation. Of the stitches as of `laid`."""
    step, steps = np.arange(stitches["rewards"].shape[1]), stitches["steps"][:, None]
    inside, states = step < steps, stitches["states"]
    return {
        "observations": states[:, :-1][inside],
        "actions": stitches["actions"][inside],
        "rewards": stitches["rewards"][inside],
        "next_observations": states[:, 1:][inside],
        "terminals": np.zeros(inside.sum(), bool),
        "timeouts": (step == steps - 1)[inside],
    }


def laid(stitches: Rows, real: Rows) -> Rows:
    """Stitched episodes one after another, `[n, ...]`, on the host: the real rows before the `start`, the `bridge`'s
    `steps`, and `rest` real rows from the `target` on.

    stitches: numbers of rows `start` and `target`, `steps` and `rest`, int `[K]`; and what was made, `states`
    `[K, H, d]` (from the start's to the target's, which is the row `steps`), `actions` and `rewards` `[K, H - 1, ...]`.
    The last row is a terminal where the data's is, else cut.
    """
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    pieces = [{name: real[name][:0] for name in names} | {"timeouts": np.zeros(0, bool)}]
    for i, (start, target, rest) in enumerate(
        zip(*(stitches[name].tolist() for name in ("start", "target", "rest")), strict=True)
    ):
        bridge = bridges({name: each[i : i + 1] for name, each in stitches.items()})
        before, after = slice(int(real["begin"][start]), start), slice(target, target + rest)
        whole = {name: np.concatenate([real[name][before], bridge[name], real[name][after]]) for name in names}
        timeouts = np.zeros(len(whole["rewards"]), bool)
        timeouts[-1] = not whole["terminals"][-1]
        pieces.append(whole | {"timeouts": timeouts})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
