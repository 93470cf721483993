"""Recurrent cells."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from .layers import Draw, Key, Linear, concatenate

State = tuple[Array, Array]
"""Hidden and cell state, both `[..., width]`."""


class LSTM(eqx.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).

    One step: x `[..., n_in]` and the state -> the hidden state `[..., width]`, and the whole new state.
    """

    inside: Linear
    recurrent: Linear

    def __init__(self, key: Key, n_in: int, width: int):
        draw = Draw.of(key)
        self.inside = Linear(draw, n_in, 4 * width)
        self.recurrent = Linear(draw, width, 4 * width, bias=False)

    def initial(self, batch: tuple[int, ...] = ()) -> State:
        """The state before the first step, 0, for a leading shape."""
        zero = jnp.zeros((*batch, self.recurrent.weight.shape[0]))
        return zero, zero

    def __call__(self, x: Array, state: State) -> tuple[Array, State]:
        hidden, cell = state
        enter, keep, new, leave = jnp.split(self.inside(x) + self.recurrent(hidden), 4, -1)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return hidden, (hidden, cell)

    def sequence(self, x: Array, state: State | None = None) -> tuple[Array, State]:
        """All steps of x `[..., T, n_in]`: hidden states `[..., T, width]`, and the state after the last."""
        start = self.initial(x.shape[:-2]) if state is None else state
        last, hidden = jax.lax.scan(lambda state, x: self(x, state)[::-1], start, jnp.moveaxis(x, -2, 0))
        return jnp.moveaxis(hidden, 0, -2), last


class GRU(eqx.Module):
    """Gated recurrent unit (Cho et al., 2014).

    One step: x `[..., n_in]` and the hidden state `[..., width]` -> the new one.
    """

    gates: Linear
    new: Linear

    def __init__(self, key: Key, n_in: int, width: int):
        draw = Draw.of(key)
        self.gates = Linear(draw, n_in + width, 2 * width)
        self.new = Linear(draw, n_in + width, width)

    def initial(self, batch: tuple[int, ...] = ()) -> Array:
        """The state before the first step, 0, for a leading shape."""
        return jnp.zeros((*batch, self.new.weight.shape[-1]))

    def __call__(self, x: Array, hidden: Array) -> Array:
        reset, keep = jnp.split(jax.nn.sigmoid(self.gates(concatenate(x, hidden))), 2, -1)
        return keep * hidden + (1 - keep) * jnp.tanh(self.new(concatenate(x, reset * hidden)))
