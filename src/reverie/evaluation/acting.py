"""A run's seeds as one policy that acts in many environments at once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reverie.environments.policies import Observations
from reverie.protocols import Planning
from reverie.training.inputs import as_input, beside, check_feedback, notice, signals_of
from reverie.training.run import Run, check_acts
from reverie.wishes import resolve


class RunPolicy:
    """All seeds of a run as one batched policy: the environments of the first seed come first, and so on."""

    def __init__(self, run: Run, seed: int = 0, told: Mapping[str, Any] | None = None):
        """`seed` is of the randomness in acting; `told` holds where the run is not asked for something else. Raises
        RunError when the run's algorithm does not act."""
        check_acts(run)
        self.told = dict(told or {})
        self.run, self.seed, self.name, self.signals = run, seed, run.name, signals_of(run.algorithm)
        space = run.spec.observation_space
        self.parts = tuple(space) if isinstance(space, dict) else None
        """Which of a dictionary's observations it acts on; None for a vector, and for a goal beside one."""

    def reset(self, n: int) -> None:
        """n environments start anew. What the run is asked for is one for all, or one for each of a seed's."""
        run, seeds = self.run, len(self.run.seeds)
        wishes = resolve(run.algorithm.name, run.wishes, {**self.told, **run.asked}, n // seeds)
        carry = run.algorithm.reset(run.spec, n // seeds, wishes)
        carries = jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), carry)
        self.carries, self._key = beside(run.states, (carries, jax.random.key(self.seed)))

    def planned(self, i: int) -> np.ndarray | None:
        """What environment i's plan has of observations, from the one that was acted on or the plan's first on:
        `[T, *observation]`, or their first columns; None where the method keeps no plan of observations."""
        if not isinstance(self.run.algorithm, Planning):
            return None
        seed, place = divmod(i, len(jax.tree.leaves(self.seen)[0][0]))
        seen, carry = jax.tree.map(lambda leaf: leaf[seed, place][None], (self.seen, self.carries))
        return np.asarray(_planned(self.run.algorithm, self.run.spec, seen, carry))[0]

    def act(self, observations: Observations, feedback: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        seeds, run = len(self.run.seeds), self.run
        seen = as_input(run.algorithm, run.spec, observations, axes=1)
        n = len(jax.tree.leaves(seen)[0])
        check_feedback(run.algorithm, feedback or {})
        brought = {name: np.zeros(n, np.float32) for name in self.signals} | dict(feedback or {})
        inputs = jax.tree.map(
            lambda leaf: leaf.reshape(seeds, -1, *leaf.shape[1:]),
            (seen, {name: brought[name] for name in self.signals}),
        )
        self.seen = inputs[0]
        actions, self.carries, self._key = _act(run.algorithm, run.states, run.spec, self.carries, *inputs, self._key)
        notice(run.algorithm, self.carries)
        return np.asarray(actions).reshape(-1, *actions.shape[2:])


@partial(jax.jit, static_argnames="algorithm")
def _act(algorithm, states, spec, carries, observations, feedback, key):
    """Every leaf but the spec's and the key has a leading axis of seeds."""
    key, now = jax.random.split(key)
    keys = jax.random.split(now, jax.tree.leaves(observations)[0].shape[0])

    def one(args):
        state, carry, seen, brought, own = args
        return algorithm.act(state, spec, seen, carry, brought, own)

    # On a CPU the seeds gain nothing from a batch, and a branch that is not taken (a plan still good) stays free.
    together = partial(lax.map, one) if jax.default_backend() == "cpu" else jax.vmap(one)
    actions, carries = together((states, carries, observations, feedback, keys))
    return actions, carries, key


@partial(jax.jit, static_argnames="algorithm")
def _planned(algorithm, spec, seen, carry):
    return algorithm.planned(spec, seen, carry)
