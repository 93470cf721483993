"""Behaviour cloning of several tasks by one network that is told the task, as methods with prompts are.

By a one-hot of the tasks (MT-BC of He et al. 2023), which is all that there is to know of a task of the data and says
nothing of others; or by a prompt, some steps of a demonstration, by which a task that was not trained on can be told.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Adam, Hidden
from reverie.data import Dataset, MinMax, Spec, windows
from reverie.learning import Optimised
from reverie.networks import MLP, Linear
from reverie.networks.layers import Draw, concatenate
from reverie.planning.tasks import TASK, Prompted, Prompts, one_hot
from reverie.protocols import Actor, Feedback
from reverie.settings import Count
from reverie.wishes import Wish, Wishes


class Network(eqx.Module):
    """Actions `[..., action]`, in -1 to 1, by observations and what tells the task, `[..., steps, columns]`."""

    tell: Linear
    body: MLP

    def __init__(self, key, spec: Spec, steps: int, columns: int, *, features: int, hidden: tuple[int, ...]):
        draw = Draw.of(key)
        self.tell = Linear(draw, steps * columns, features)
        self.body = MLP(draw, spec.observation_dim + features, spec.action_dim, hidden=hidden)

    def __call__(self, observation, task):
        features = jax.nn.relu(self.tell(task.reshape(*task.shape[:-2], -1)))
        return jnp.tanh(self.body(concatenate(observation, features)))


class State(eqx.Module):
    actor: Optimised
    prompts: Prompts
    """The demonstrations, which stay as they are."""


@dataclass(frozen=True)
class MTBC(Prompted, Hidden, Adam, Actor):
    """MT-BC: cloning of several tasks' actions, told the task by a one-hot or by a prompt."""

    name: ClassVar = "mt-bc"
    role: ClassVar = "baseline"
    paper: ClassVar = "He et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("tasks",)

    told: Literal["one-hot", "prompt"] = "one-hot"
    """What tells the task: its number among the data's, or steps of a demonstration."""
    features: Count = 64
    """Numbers that it becomes before the network sees it."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """Steps, equally many of each task in a batch, and none of the demonstrations that are kept for prompts."""
        spec = spec or self.with_prompts(data, Spec.fit(data, observations=MinMax, actions=MinMax))
        view = windows(data, spec, 1, columns=("observations", "actions"))
        return self.by_task(view, data, spec), spec

    def init(self, key, spec: Spec) -> State:
        prompts = self.prompts(spec)
        shape = (1, len(prompts.starts)) if self.told == "one-hot" else self.prompt_shape(spec)
        net = Network(key, spec, *shape, features=self.features, hidden=self.hidden)
        return State(Optimised.create(net, self.optimiser), prompts)

    def update(self, state: State, batch, key):
        task = batch[TASK]
        count = len(state.prompts.starts)
        shown = one_hot(task, count) if self.told == "one-hot" else state.prompts.draw(key, task)

        def loss(net: Network):
            return jnp.square(net(batch["observations"][:, 0], shown) - batch["actions"][:, 0]).mean()

        actor, value = state.actor.minimise(loss, self.optimiser)
        return State(actor, state.prompts), {"action_error": value}

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        if self.told == "prompt":
            return {TASK: self.task_wish(spec)}
        return {TASK: self.one_hot_wish(spec)}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> jax.Array:
        return jnp.asarray(wishes[TASK])

    def rewish(self, carry: jax.Array, wishes: Wishes) -> jax.Array:
        return jnp.asarray(wishes.get(TASK, carry))

    def act(self, state: State, spec: Spec, observation, carry, feedback: Feedback, key):
        told: Any = carry if self.told == "one-hot" else self.in_network_units(spec, carry)
        action = state.actor.params(spec.normalise("observations", observation), told)
        return spec.denormalise("actions", action), carry
