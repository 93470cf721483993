"""Windows that are told what is at their two sides (Luo et al. 2025): the codes of it, the network that reads them."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.networks import MLP, Sinusoidal, TemporalUNet
from reverie.networks.layers import concatenate

NOTHING, NEIGHBOUR, END = range(3)
"""What is known at a side of a window: nothing, a noisy overlap with its neighbour, or a start or goal in-painted."""


class Side(NamedTuple):
    """What is known at one side of windows."""

    kind: jax.Array
    """Of the three: int32 `[...]`."""
    overlap: jax.Array
    """The neighbour's rows where it overlaps, noisy; or the end, and 0 in the rows beside it: `[..., O, D]`."""
    feature: jax.Array
    """The time feature of their noise: `[...]` or a scalar."""


class SideEncoder(eqx.Module):
    """A vector of what is known at one side."""

    net: MLP
    time: Sinusoidal

    def __init__(self, key, rows: int, columns: int, width: int):
        self.time = Sinusoidal(32)
        self.net = MLP(key, rows * columns + self.time.dim, width, hidden=(2 * width, 2 * width))

    def __call__(self, side: Side) -> jax.Array:
        flat = side.overlap.reshape(*side.overlap.shape[:-2], -1)
        code = self.net(concatenate(flat, self.time(side.feature)))
        return concatenate((side.kind == NEIGHBOUR)[..., None] * code, jax.nn.one_hot(side.kind, 3))


class ChunkUNet(eqx.Module):
    """Diffuser's U-Net, with a code of both sides beside the time's embedding; `aligned`, it also sees the overlaps at
    the rows where they lie, as further columns."""

    unet: TemporalUNet
    left: SideEncoder
    right: SideEncoder
    aligned: bool = eqx.field(static=True)

    def told(self, rows: int, left: Side, right: Side) -> tuple[jax.Array, ...]:
        """What a window of so many rows is told of its sides: a code `[..., E]`, and rows `[..., H, D]` if aligned."""
        code = concatenate(self.left(left), self.right(right))
        if not self.aligned:
            return (code,)
        known = ((side.kind != NOTHING)[..., None, None] * side.overlap for side in (left, right))
        first, last = jnp.broadcast_arrays(*known)
        between = jnp.zeros((*first.shape[:-2], rows - 2 * first.shape[-2], first.shape[-1]))
        return code, jnp.concatenate([first, between, last], -2)

    def __call__(self, x, t, told) -> jax.Array:
        """x `[..., H, D]` to the same, given what `told` gave."""
        code, *rows = told
        seen = jnp.concatenate([x, *(jnp.broadcast_to(each, x.shape) for each in rows)], -1)
        return self.unet(seen, t, code)[..., : x.shape[-1]]
