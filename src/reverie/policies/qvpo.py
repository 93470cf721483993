"""QVPO (Ding et al. 2024, "Diffusion-based Reinforcement Learning via Q-weighted Variational Policy Optimization").

The best of the policy's own samples is imitated, by as much as it is better than their mean; uniform actions beside it
keep the entropy up.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.rl import OnlineDiffusion, OnlineState, select
from reverie.settings import Acting, Count, Natural, NonNegative


class State(OnlineState):
    step: jax.Array


@dataclass(frozen=True)
class QVPO(OnlineDiffusion):
    """QVPO: the policy's own best samples, weighted by their advantage."""

    name: ClassVar = "qvpo"
    paper: ClassVar = "Ding et al. 2024"

    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    gradient_clip: NonNegative = 2.0
    """Largest norm of a gradient, the actor's and the critics'; 0 for any."""
    sampled_actions: Count = 64
    """The policy's, for each observation, of which the best is imitated."""
    uniform_actions: Natural = 10
    """Actions drawn evenly within the bounds, for each observation."""
    entropy_weight: NonNegative = 0.02
    """Of each of these at first, in units of the best one's."""
    entropy_updates: Natural = 1_000_000
    """Updates in which that weight falls linearly towards 0; 0 for never. The released code's are all of a training's
    steps."""
    least_entropy_weight: NonNegative = 0.002
    """Where it stops falling."""
    candidates: Acting[Count] = 32
    """Actions drawn to act, of which the best by Q is taken."""
    exploring_candidates: Count = 4
    """The same while data is collected."""
    target_candidates: Count = 4
    """Of the slow copy's actions, of whose values by the target critics td_target takes the largest."""
    exploring_noise: NonNegative = 0.0
    """Standard deviation of what is added to an action while data is collected."""

    def init(self, key, spec: Spec) -> State:
        return State(**vars(super().init(key, spec)), step=jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):  # type: ignore[override]  # an OnlineState, and more
        learned, metrics = super().update(state, batch, key)
        return replace(learned, step=state.step + 1), metrics

    def entropy_weight_at(self, step) -> jax.Array:
        """After so many updates."""
        fallen = step / self.entropy_updates if self.entropy_updates else 0.0
        least = min(self.least_entropy_weight, self.entropy_weight)
        return jnp.maximum(self.entropy_weight * (1 - fallen), least)

    def actor_loss(self, net, state: State, batch, key) -> jax.Array:  # type: ignore[override]
        sample_key, loss_key, key = (jax.random.fold_in(key, i) for i in (2, 3, 4))
        s, (b, d), n = batch["observations"], batch["actions"].shape, self.uniform_actions
        actions = self.sample_candidates(state.actor.params, s, sample_key, self.sampled_actions, d)
        values = self.values(state, s, actions)
        advantage = jnp.maximum(values.max(-1) - values.mean(-1), 0)
        uniform = jax.random.uniform(key, (b, n, d), minval=-1, maxval=1)
        learned = jnp.concatenate([select(actions, values)[:, None], uniform], 1).reshape(-1, d)
        losses = self.process.loss(net, learned, loss_key, jnp.repeat(s, 1 + n, 0)).reshape(b, 1 + n)
        weight = jnp.append(1.0, jnp.full(n, self.entropy_weight_at(state.step)))
        # Only the ratio of the weights matters to Adam; in units of their mean the loss is of the usual size, of which
        # the gradient's clip is. The released code clips that of raw advantages, however large they are.
        return (advantage / (advantage.mean() + 1e-6) * (losses * weight).sum(-1)).mean()
