"""Decision Transformer (Chen, Lu et al. 2021, "Decision Transformer: Reinforcement Learning via Sequence Modeling").

Behaviour cloning by a causal transformer that reads, of every step, the return that is still to come, the observation
and the action. Asked for a high return, it acts as the data do where a high return followed.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import AdamW
from reverie.data import Dataset, Gaussian, MinMax, Spec, rewards_to_go, windows
from reverie.learning import Optimised
from reverie.networks import Linear, StepTransformer
from reverie.protocols import Actor, Feedback
from reverie.settings import Count, LearningRate, Limit, NonNegative
from reverie.wishes import Wish, Wishes


class Network(eqx.Module):
    """Actions `[..., T, action]` of T steps, by what is still to come `[..., T]`, which may be several, observations,
    and the actions before."""

    steps: StepTransformer
    head: Linear

    def __call__(self, to_go, observations, actions, timesteps, *, before=None, valid=None, key=None) -> jax.Array:
        parts = (*(each[..., None] for each in to_go), observations, actions)
        after_observation = self.steps(parts, timesteps, before=before, valid=valid, key=key)[..., -2, :]
        return jnp.tanh(self.head(after_observation))


class State(eqx.Module):
    actor: Optimised


class History(NamedTuple):
    """The last `context` steps, the newest last, in network units; before the first there are zeros."""

    to_go: dict[str, jax.Array]
    """What is still asked for, `[n, context]` each."""
    observations: jax.Array
    """`[n, context, observation]`"""
    actions: jax.Array
    """`[n, context, action]`"""
    step: jax.Array
    """Steps of the episode so far: int32 `[n]`."""
    target: dict[str, jax.Array]
    """What is asked for of the whole episode, `[n]` each, in the data's units."""
    received: dict[str, jax.Array]
    """What the steps brought so far, `[n]` each."""


@dataclass(frozen=True)
class DecisionTransformer(AdamW, Actor):
    """Decision Transformer: cloning of what led to the return that is asked for."""

    name: ClassVar = "decision-transformer"
    role: ClassVar = "baseline"
    paper: ClassVar = "Chen et al. 2021"
    needs: ClassVar[tuple[str, ...]] = ("rewards",)
    counted: ClassVar[dict[str, tuple[str, str]]] = {"returns_to_go": ("target_return", "reward")}
    """What is seen of the future, in order, with its wish for the whole episode and the feedback that it falls by."""

    context: Count = 20
    """Steps that are seen, the current one among them; the paper's K."""
    width: Count = 128
    """Of a token's embedding."""
    heads: Count = 1
    """Of attention; they divide the width."""
    depth: Count = 3
    """Layers of the transformer."""
    dropout: Annotated[float, Limit(0.0, 0.99)] = 0.1
    """In training."""
    timesteps: Count = 1000
    """Steps of an episode that have an embedding of their own; later ones share the last."""
    batch_size: Count = 64
    """Windows an update."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size."""
    gradient_clip: NonNegative = 0.25
    """Largest norm of a gradient; 0 for any."""

    def spec(self, data: Dataset) -> Spec:
        """Sizes, bounds and units, of what is still to come too."""
        spec, to_go = Spec.fit(data, observations=Gaussian), rewards_to_go(data)[:, None]
        units = {"returns_to_go": Gaussian.fit(to_go), "episode_returns": MinMax.fit(to_go[data.episodes[:, 0]])}
        units |= {"actions": MinMax(spec.action_low, spec.action_high)}
        return replace(spec, normalisers=spec.normalisers | units)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or self.spec(data)
        columns = (*self.counted, "observations", "actions", "timesteps")
        return windows(data, spec, self.context, pad=True, columns=columns), spec

    def init(self, key, spec: Spec) -> State:
        return State(Optimised.create(self.network(key, spec), self.optimiser))

    def network(self, key, spec: Spec) -> Any:
        steps_key, head_key = jax.random.split(key)
        parts = (*[1] * len(self.counted), spec.observation_dim, spec.action_dim)
        sizes: Any = {"width": self.width, "heads": self.heads, "depth": self.depth, "rate": self.dropout}
        steps = StepTransformer(steps_key, parts, self.timesteps, **sizes)
        return Network(steps, Linear(head_key, self.width, spec.action_dim))

    def update(self, state: State, batch, key):
        to_go = [batch[name] for name in self.counted]
        seen = [batch[name] for name in ("observations", "actions", "timesteps")]
        inside = batch["mask"]

        def loss(net):
            # Padding is at the window's end, where nothing in the episode looks.
            error = jnp.square(self.told(state, net, batch, key)(to_go, *seen, key=key) - batch["actions"]).mean(-1)
            return (inside * error).sum() / inside.sum()

        actor, value = state.actor.minimise(loss, self.optimiser)
        return replace(state, actor=actor), {"action_error": value}

    def told(self, state: Any, net: Any, batch, key) -> Any:
        """The network as it reads a batch, for methods that are told more."""
        return net

    def wishes(self, spec: Spec) -> dict[str, Wish]:
        """The best return of the data where nothing is asked for."""
        seen: Any = spec.normalisers["episode_returns"]
        low, high = float(np.asarray(seen.low)[0]), float(np.asarray(seen.high)[0])
        return {"target_return": Wish("the episode's undiscounted return", "return", default=high, low=low, high=high)}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> History:
        rows = (n, self.context)
        observations, actions = (jnp.zeros((*rows, dim)) for dim in (spec.observation_dim, spec.action_dim))
        to_go, received = ({name: jnp.zeros(shape) for name in self.counted} for shape in (rows, (n,)))
        return History(to_go, observations, actions, jnp.zeros(n, jnp.int32), self.targets(wishes), received)

    def targets(self, wishes: Wishes) -> dict[str, jax.Array]:
        """What is asked for of the whole episode, `[n]` each, of those that are asked for."""
        asked = {name: wish for name, (wish, _) in self.counted.items() if wish in wishes}
        return {name: jnp.asarray(wishes[wish]) for name, wish in asked.items()}

    def rewish(self, carry: History, wishes: Wishes) -> History:
        """Another return of the whole episode; what was received already counts."""
        return carry._replace(target=carry.target | self.targets(wishes))

    def act(self, state: State, spec: Spec, observation, carry: History, feedback: Feedback, key):
        """The return to go falls by the reward that the last step brought."""
        received, to_go = {}, {}
        for name, (_, signal) in self.counted.items():
            received[name] = carry.received[name] + jnp.where(carry.step > 0, feedback[signal], 0.0)
            left = spec.normalise(name, (carry.target[name] - received[name])[:, None])[:, 0]
            to_go[name] = pushed(carry.to_go[name], left)
        observations = pushed(carry.observations, spec.normalise("observations", observation))
        actions = pushed(carry.actions, jnp.zeros_like(carry.actions[:, 0]))

        timesteps = carry.step[:, None] + jnp.arange(1 - self.context, 1)
        net, valid = state.actor.params, timesteps >= 0
        shown = [to_go[name] for name in self.counted]
        action = net(shown, observations, actions, timesteps, valid=valid)[:, -1]
        actions = actions.at[:, -1].set(action)
        history = History(to_go, observations, actions, carry.step + 1, carry.target, received)
        return spec.denormalise("actions", action), history


def pushed(rows, newest) -> jax.Array:
    """`[n, K, ...]` with `newest` `[n, ...]` at the end, without the oldest."""
    return jnp.concatenate([rows[:, 1:], newest[:, None]], 1)
