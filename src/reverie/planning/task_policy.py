"""Policies of one step for several tasks: whatever they are, their networks see a one-hot of the task beside the
observation."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec, balanced
from reverie.data.fields import vector
from reverie.protocols import Feedback
from reverie.rl.policy import StepPolicy
from reverie.wishes import Wish, Wishes

from .tasks import PROMPTS, TASK, Prompted, one_hot, step_tasks


@dataclass(frozen=True)
class TaskPolicy(Prompted, StepPolicy):
    """Before a policy of one step in the bases of a class, the same for several tasks, equally many rows of each in a
    batch. The demonstrations are left out of the training, as those of methods that are prompted are."""

    def spec(self, data: Dataset) -> Spec:
        return self.with_prompts(data, super().spec(data))

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data = data.with_next_observations()
        view, spec = super().prepare(data, spec)
        groups, names = step_tasks(data, spec), ("observations", "next_observations")
        told = one_hot(jnp.asarray(groups), self.count(spec))[:, 0]
        columns = {name: beside(view.rows[name], told) for name in names} | {TASK: jnp.asarray(groups, jnp.int32)}
        return balanced(view.joined(columns), groups), spec

    def count(self, spec: Spec) -> int:
        """Tasks."""
        return len(spec.kept[PROMPTS]["starts"])  # type: ignore[index]

    def init(self, key, spec: Spec):
        wide = vector(spec.observation_dim + self.count(spec))
        return super().init(key, replace(spec, observation=wide))  # type: ignore[misc]  # the policy's

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        return {TASK: self.one_hot_wish(spec)}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> jax.Array:  # type: ignore[override]
        return jnp.asarray(wishes[TASK])[:, 0]

    def rewish(self, carry: jax.Array, wishes: Wishes) -> jax.Array:
        return self.reset(None, len(carry), wishes) if TASK in wishes else carry  # type: ignore[arg-type]

    def act(self, state, spec: Spec, observation, carry, feedback: Feedback, key):
        action = self.choose(state, spec, beside(spec.normalise("observations", observation), carry), key)
        return spec.denormalise("actions", jnp.clip(action, -1, 1)), carry


def beside(observations, told) -> jax.Array:
    """`[..., d]` and `[..., K]` as `[..., d + K]`."""
    return jnp.concatenate([observations, told], -1)
