"""A small real algorithm for the tests of training: behaviour cloning by an MLP, with noise in every update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.catalogue import ALGORITHMS
from reverie.data import Dataset, Gaussian, Spec, transitions
from reverie.learning import Optimised, ema, optimiser
from reverie.protocols import Feedback
from reverie.wishes import Wishes


class State(eqx.Module):
    actor: Optimised
    ema: Any
    made: jax.Array


@dataclass(frozen=True)
class TinyBC:
    name: ClassVar[str] = "tiny-bc"
    role: ClassVar[str] = "policy"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ("actions",)

    batch_size: int = 32
    lr: float = 3e-3
    widths: tuple[int, ...] = (16,)
    breaks_at: int = 0
    """The update at which the loss of seed `breaks_seed` is NaN; 0: never."""
    breaks: str = "loss"
    """What breaks: the loss itself, or the parameters only."""

    def prepare(self, data: Dataset, spec: Spec | None = None) -> tuple[Any, Spec]:
        spec = spec or Spec.fit(data, observations=Gaussian)
        return transitions(data, spec), spec

    def optimiser(self) -> Any:
        return optimiser(self.lr)

    def init(self, key: jax.Array, spec: Spec) -> State:
        sizes = (spec.observation_dim, *self.widths, spec.action_dim)
        keys = jax.random.split(key, len(sizes))
        params = [
            (jax.random.normal(k, (i, o)) / i**0.5, jnp.zeros(o))
            for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=False)
        ]
        return State(Optimised.create(params, self.optimiser()), params, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch: Any, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        noisy = batch["observations"] + 0.1 * jax.random.uniform(key, batch["observations"].shape)

        def loss(params: Any) -> jax.Array:
            return jnp.mean((mlp(params, noisy) - batch["actions"]) ** 2)

        value, grads = jax.value_and_grad(loss)(state.actor.params)
        made = state.made + 1
        broken = jnp.where(made == self.breaks_at, jnp.nan, 1.0)
        actor = state.actor.apply(grads, self.optimiser())
        if self.breaks == "parameters":
            actor = Optimised(jax.tree.map(lambda p: p * broken, actor.params), actor.moments)
        else:
            value = value * broken
        size = sum(jnp.sum(w**2) for w, _ in state.actor.params)
        return State(actor, ema(state.ema, actor.params, 0.9), made), {"loss": value, "norm": size}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> jax.Array:
        return jnp.zeros(n, jnp.int32)

    def act(
        self, state: State, spec: Spec, observation: jax.Array, carry: jax.Array, feedback: Feedback, key: jax.Array
    ) -> Any:
        action = mlp(state.ema, spec.normalise("observations", observation))
        action = action + 0.01 * jax.random.normal(key, action.shape)
        return jnp.clip(action, spec.action_low, spec.action_high), carry + 1


@dataclass(frozen=True)
class TinyExplorer:
    """Acts at random online, learns nothing, and counts the updates that each row of the replay was drawn for."""

    name: ClassVar[str] = "tiny-explorer"
    role: ClassVar[str] = "policy"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[str, ...]] = ()

    batch_size: int = 4
    rows: int = 100

    def prepare(self, data: Dataset, spec: Spec | None = None) -> tuple[Any, Spec]:
        spec = spec or Spec.fit(data)
        return transitions(data, spec), spec

    def init(self, key: jax.Array, spec: Spec) -> jax.Array:
        return jnp.zeros(self.rows)

    def update(self, state: jax.Array, batch: Any, key: jax.Array) -> tuple[Any, ...]:
        return state.at[batch["index"]].set(state[batch["index"]] + 1), {"drawn": batch["index"].mean()}

    @property
    def exploring(self) -> TinyExplorer:
        return self

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple[()]:
        return ()

    def act(self, state: Any, spec: Spec, observation: Any, carry: Any, feedback: Feedback, key: jax.Array) -> Any:
        return jax.random.uniform(key, (len(observation), spec.action_dim)), carry


def mlp(params: Any, x: jax.Array) -> jax.Array:
    *hidden, (w, b) = params
    for v, c in hidden:
        x = jnp.tanh(x @ v + c)
    return x @ w + b


def synthetic(steps: int = 400, seed: int = 0, **attributes: Any) -> Dataset:
    """Actions that are a linear function of the observations; episodes of 50 steps."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(steps, 3)).astype(np.float32)
    mixing = np.random.default_rng(7).normal(size=(3, 2))
    timeouts = np.arange(steps) % 50 == 49
    return Dataset.from_arrays(
        observations, np.tanh(observations @ mixing), np.ones(steps), timeouts=timeouts, attributes=attributes
    )


def leaves(run: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.states)]


def assert_same(first: Any, second: Any) -> None:
    """States and metrics of two runs, bit for bit; not their times."""
    for x, y in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_array_equal(x, y)
    for name in first.metrics():
        if name not in ("seconds", "updates_per_second"):
            np.testing.assert_array_equal(first.metrics()[name], second.metrics()[name])


ALGORITHMS[TinyBC.name] = TinyBC
