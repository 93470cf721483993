"""A Gymnasium environment whose dynamics were learned."""

from functools import partial
from typing import Any, Protocol

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.data import Spec
from reverie.errors import ReverieError


class Simulator(Protocol):
    """A method with a model that goes a step at a time: `latent-dynamics`, `mbpo`, `morel`, `tatu`."""

    @property
    def horizon(self) -> int:
        """Steps for which the model is meant to be followed."""

    def world(self, state: Any, spec: Spec) -> Any:
        """What is asked for each step, of a trained state."""

    def begin(self, world: Any, spec: Spec, observations, key) -> Any:
        """What is remembered after observations `[n, observation]`, in the environment's units."""

    def follow(self, world: Any, spec: Spec, carry: Any, actions, key) -> tuple[Any, dict[str, jax.Array]]:
        """What is remembered after actions `[n, action]`, in the environment's units; and what they bring, `[n, ...]`:
        `next_observations`, `rewards`, `terminals`, and whether the model is to be trusted so far, `valid`."""


class LearnedEnv(gymnasium.Env):
    """Episodes in a run's model, no longer than its `horizon`: there, and where the model is not to be trusted, they
    are truncated; a predicted end of the task terminates them.

    Observations are the model's, and unbounded. A reset begins in one of the `starts`, or in
    `options={"observation": ...}`. `run.acting(horizon=...)` makes the episodes of rollouts of an ensemble longer.

    Args:
        run: of a `Simulator`.
        starts: observations `[n, observation]`, in the environment's units; those that stayed with the run if None.
        seed: of the run's seeds, the model's; its first if None.

    Raises ReverieError for another run.
    """

    def __init__(self, run: Any, starts: ArrayLike | None = None, seed: int | None = None) -> None:
        if not all(hasattr(run.algorithm, name) for name in ("world", "begin", "follow")):
            raise ReverieError(
                f"{run.algorithm.name} has no model that goes a step at a time; give a run of latent-dynamics, mbpo, "
                "morel or tatu. (polygrad imagines trajectories whole: reverie.roles.polygrad.imagine.)"
            )
        self.run, self.algorithm, self.model_spec = run, run.algorithm, run.spec
        self.world = self.algorithm.world(run.state(seed), run.spec)
        given = run.spec.kept["observations"] if starts is None else starts
        self.starts = np.asarray(given, np.float32)
        bounds = np.asarray(run.spec.action_low), np.asarray(run.spec.action_high)
        self.action_space = Box(*bounds, dtype=np.float32)
        self.observation_space = Box(-np.inf, np.inf, self.starts.shape[1:], np.float32)
        self.steps, self.carry = 0, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        chosen = (options or {}).get("observation", self.starts[self.np_random.integers(len(self.starts))])
        observation = np.array(chosen, np.float32)
        self.steps = 0
        self.carry = _begin(self.algorithm, self.world, self.model_spec, observation[None], self._key())
        return observation, {}

    def step(self, action: ArrayLike) -> Any:
        if self.carry is None:
            raise ReverieError("No episode has begun; call reset first.")
        given = np.clip(np.asarray(action, np.float32), self.action_space.low, self.action_space.high)[None]
        found = _follow(self.algorithm, self.world, self.model_spec, self.carry, given, self._key())
        self.carry, rows = jax.device_get(found)
        self.steps += 1
        ended = bool(rows["terminals"][0])
        cut = not ended and (self.steps >= self.algorithm.horizon or not rows["valid"][0])
        return np.asarray(rows["next_observations"][0], np.float32), float(rows["rewards"][0]), ended, cut, {}

    def _key(self) -> jax.Array:
        return jax.random.key(jnp.uint32(self.np_random.integers(2**32)))


_begin = partial(jax.jit, static_argnums=0)(lambda algorithm, *given: algorithm.begin(*given))
_follow = partial(jax.jit, static_argnums=0)(lambda algorithm, *given: algorithm.follow(*given))
