"""Learning from what the present policy did: advantages, the clipped surrogate, minibatches of a round.

PPO's (Schulman et al. 2017). A method adds its policy: how it explores, and how likely an action is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.learning import Optimised, optimiser
from reverie.networks import MLP
from reverie.networks.layers import Activation, orthogonal
from reverie.protocols import Feedback
from reverie.settings import Acting, Count, Fraction, LearningRate, Positive
from reverie.wishes import Wishes

from .policy import StepPolicy

LARGEST = 10.0
"""In standard deviations, of an observation or a reward."""


class Running(eqx.Module):
    """Mean and variance of all that was seen so far, entry by entry; 0 and 1 before."""

    count: jax.Array
    mean: jax.Array
    variance: jax.Array

    @classmethod
    def of(cls, *shape: int) -> Self:
        return cls(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))

    def joined(self, x) -> "Running":
        """With all of x `[..., *shape]` (Chan et al. 1979)."""
        axes = tuple(range(x.ndim - self.mean.ndim))
        n, away = x.size / self.mean.size, x.mean(axes) - self.mean
        total = self.count + n
        part = n / total
        variance = (1 - part) * self.variance + part * x.var(axes) + part * (1 - part) * jnp.square(away)
        return Running(total, self.mean + part * away, variance)

    @property
    def std(self) -> jax.Array:
        return jnp.sqrt(jnp.maximum(self.variance, 1e-8))

    def __call__(self, x) -> jax.Array:
        """Of mean 0 and standard deviation 1, and within ten of these."""
        return jnp.clip((x - self.mean) / self.std, -LARGEST, LARGEST)


def advantages(rewards, values, next_values, terminals, timeouts, *, discount: float, trace: float) -> jax.Array:
    """Generalised advantage estimates of steps in time order, all `[T, E]` (Schulman et al. 2016, eq. 16).

    After a terminal there is nothing more, after a timeout the next value; a trace ends at both. `trace` is lambda.
    """
    errors = rewards + discount * (1 - terminals) * next_values - values
    kept = discount * trace * (1 - jnp.maximum(terminals, timeouts))

    def back(later, step):
        error, keep = step
        advantage = error + keep * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(errors[0]), (errors, kept), reverse=True)[1]


def clipped_surrogate(log_ratio, advantage, clip) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), a mean over all entries (Schulman et al. 2017, eq. 7), and what
    tells how far the policy has moved: an estimate of its KL divergence from the old one, and the part that is clipped.
    """
    ratio = jnp.exp(log_ratio)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    clipped = jnp.abs(ratio - 1) > clip
    return -gain.mean(), {"approx_kl": (ratio - 1 - log_ratio).mean(), "clip_fraction": clipped.mean()}


def minibatches(
    learn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]], state: Any, rows: Any, key, *, epochs: int, size: int
) -> tuple[Any, dict[str, jax.Array]]:
    """`learn(state, rows [size, ...])` on the rows `[N, ...]` in a random order an epoch: the state after all, and the
    metrics' means. What does not fill a minibatch is left out of its epoch."""
    n = len(jax.tree.leaves(rows)[0])
    size = min(size, n)

    def order(key):
        return jax.random.permutation(key, n)[: n - n % size].reshape(-1, size)

    def step(state, index):
        return learn(state, jax.tree.map(lambda x: x[index], rows))

    orders = jax.lax.map(order, jax.random.split(key, epochs)).reshape(-1, size)
    state, metrics = jax.lax.scan(step, state, orders)
    return state, jax.tree.map(lambda x: x.mean(0), metrics)


def in_parts(function: Callable[[Any], Any], rows: Any, size: int) -> Any:
    """`function` of the rows `[N, ...]`, which gives a row for each, with the memory of `size` at a time."""

    def alone(row):
        return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], row)))

    return jax.lax.map(alone, rows, batch_size=size)


def orthogonal_mlp(
    key, n_in: int, n_out: int, *, hidden: Sequence[int], gain: float, activation: Activation = jnp.tanh
) -> MLP:
    """Orthogonal weights, of length sqrt 2 but `gain` in the last layer, as PPO is known to need."""
    init, last = orthogonal(2**0.5), orthogonal(gain)
    return MLP(key, n_in, n_out, hidden=tuple(hidden), activation=activation, init=init, last_init=last)


class StateValue(eqx.Module):
    """V(s) of scaled rewards, and their scale."""

    v: Optimised
    returns: Running
    """Of the discounted sum of rewards so far in an episode, its last one too; its standard deviation is the rewards'
    unit."""


class OnPolicyState(eqx.Module):
    """Before and after a round."""

    actor: Optimised
    critic: StateValue
    observations: Running | None
    """By which the networks see them, beside the specification; none for a method that keeps another run's units."""


@dataclass(frozen=True)
class OnPolicyActor(StepPolicy):
    """A policy that learns by PPO. An algorithm adds `init`, `columns`, `explore`, `policy_loss` and `choose`.

    Rewards are divided by the running standard deviation of their discounted sum, whose statistics move before a round
    is learned. Those of observations move after it, so that a round is learned in the units in which it was acted.
    """

    needs: ClassVar[tuple[str, ...]] = ("rewards", "terminals")
    critic_activation: ClassVar[Any] = staticmethod(jnp.tanh)

    batch_size: Count = 64
    """Steps in a minibatch."""
    epochs: Count = 10
    """Times that a round is gone through."""
    clip: Positive = 0.2
    """How far the ratio of the new policy's probability to the old one's may go from 1 and be of use."""
    discount: Fraction = 0.99
    """Of a reward one step later."""
    gae_lambda: Fraction = 0.95
    """Of the generalised advantage estimate: 0 trusts V alone, 1 the rewards of the round alone."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Widths of V's hidden layers."""
    critic_learning_rate: LearningRate = 3e-4
    """Adam's step size for V."""
    stochastic: Acting[bool] = False
    """Whether to act as in training, or by what the policy is without the noise that explores."""

    @property
    def exploring(self) -> Self:
        """How it acts while it collects data."""
        return replace(self, stochastic=True)

    @property
    def critic_optimiser(self):
        return optimiser(self.critic_learning_rate, clip=self.gradient_clip or None)

    def init_critic(self, key, spec: Spec) -> StateValue:
        net = orthogonal_mlp(
            key, spec.observation_dim, 1, hidden=self.critic_hidden, gain=1.0, activation=self.critic_activation
        )
        return StateValue(Optimised.create(net, self.critic_optimiser), Running.of())

    def columns(self, spec: Spec) -> dict[str, tuple[int, ...]]:
        """The shapes of what is recorded of a step, by name."""
        raise NotImplementedError

    def explore(self, state, spec: Spec, observation, key) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Actions `[n, action]` that explore, and the `columns` `[n, ...]` of them, by what the networks see."""
        raise NotImplementedError

    def recalled(self, state, rows) -> dict[str, jax.Array]:
        """What the policy of before the round says of its rows `[B, ...]`, with which the next is compared, by name;
        nothing where that is recorded, as it is known when an action is drawn."""
        return {}

    def policy_loss(self, actor, state, rows) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Of a minibatch `[B, ...]` with its `advantages`, and metrics; `state` is that of before the round."""
        raise NotImplementedError

    def seen(self, state, observation) -> jax.Array:
        """The observation, in units of the specification, as the networks see it."""
        return observation if state.observations is None else state.observations(observation)

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Any:
        """What is recorded of the last step; nothing where none explores. `discounted` is the discounted sum of the
        rewards before it, `begun` whether there are any."""
        shapes = {"discounted": (), "begun": (), **self.columns(spec)} if self.stochastic else {}
        return {name: jnp.zeros((n, *shape)) for name, shape in shapes.items()}

    def act(self, state, spec: Spec, observation, carry, feedback: Feedback, key):
        s = self.seen(state, spec.normalise("observations", observation))
        if not self.stochastic:
            return spec.denormalise("actions", self.bounded(self.choose(state, spec, s, key))), carry
        # Before the first step the feedback is 0, which is no reward, and need not be 0 in other units.
        reward = carry["begun"] * spec.normalise("rewards", feedback["reward"])
        action, recorded = self.explore(state, spec, s, key)
        carry = {"discounted": self.discount * carry["discounted"] + reward, "begun": jnp.ones_like(reward), **recorded}
        return spec.denormalise("actions", self.bounded(action)), carry

    def bounded(self, action) -> jax.Array:
        """What is done of an action, within the bounds; what is recorded of it is the action itself."""
        return jnp.clip(action, -1, 1)

    def recorded(self, carry) -> dict[str, jax.Array]:
        return carry

    def update(self, state, batch, key):
        """One round `[T, E, ...]`: advantages by the V of before, then `epochs` of minibatches."""
        # With the step's own reward, as the carry of an episode's last step is never seen again.
        returns = state.critic.returns.joined(self.discount * batch["discounted"] + batch["rewards"])
        rows, told = self.judged(state, batch, jnp.clip(batch["rewards"] / returns.std, -LARGEST, LARGEST))
        rows |= in_parts(lambda rows: self.recalled(state, rows), rows, self.batch_size)

        def learn(learners, rows):
            actor, v = learners
            gain = rows["advantages"]
            rows = rows | {"advantages": (gain - gain.mean()) / (gain.std() + 1e-8)}
            (loss, more), gradient = jax.value_and_grad(self.policy_loss, has_aux=True)(actor.params, state, rows)
            v, error = v.minimise(
                lambda v: jnp.square(v(rows["observations"])[..., 0] - rows["targets"]).mean(), self.critic_optimiser
            )
            return (actor.apply(gradient, self.optimiser), v), more | {"actor_loss": loss, "v_loss": error}

        learners = state.actor, state.critic.v
        (actor, v), metrics = minibatches(learn, learners, rows, key, epochs=self.epochs, size=self.batch_size)
        seen = state.observations and state.observations.joined(batch["observations"])
        after = replace(state, actor=actor, critic=StateValue(v, returns), observations=seen)
        return after, metrics | told | {"reward_scale": returns.std}

    def judged(self, state, batch, rewards) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """The round's steps, one after another `[T * E, ...]`, with their `advantages` and the `targets` of V; and how
        much of these V explains."""
        s, after = (self.seen(state, batch[name]) for name in ("observations", "next_observations"))
        values, next_values = (state.critic.v.params(x)[..., 0] for x in (s, after))
        gains = advantages(
            *(rewards, values, next_values, batch["terminals"], batch["timeouts"]),
            discount=self.discount,
            trace=self.gae_lambda,
        )
        targets = gains + values
        rows = batch | {"observations": s, "next_observations": after, "advantages": gains, "targets": targets}
        explained = 1 - gains.var() / jnp.maximum(targets.var(), 1e-8)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows), {"explained_variance": explained}
