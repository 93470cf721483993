"""REDQ (Chen et al. 2021, "Randomized Ensembled Double Q-Learning: Learning Fast Without a Model").

SAC with many critics, which endures many updates a step (`--utd-ratio 20`): td_target takes the smallest value of a few
of them, drawn anew in every update, and the actor maximises the mean of all, once in as many updates. The entropy is
kept at minus one a dimension, as SAC's is; in the released code at MBPO's, from -1 in Hopper to -4 in Ant
(`--target-entropy`).
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.baselines.sac import SAC
from reverie.data import Spec
from reverie.errors import ReverieError, RunError
from reverie.learning import where_due
from reverie.rl import Critic, SoftActor
from reverie.settings import Count, Limit


class State(eqx.Module):
    actor: SoftActor
    critic: Critic
    step: jax.Array


@dataclass(frozen=True)
class REDQ(SAC):
    """REDQ: SAC with an ensemble of critics, for many updates a step."""

    name: ClassVar = "redq"
    paper: ClassVar = "Chen et al. 2021"

    critics: Annotated[int, Limit(2)] = 10
    """Q networks."""
    subset: Count = 2
    """Of them, drawn anew in every update, of whose values td_target takes the smallest."""
    policy_delay: Count = 20
    """Updates of the critics for one of the actor; the paper's is the number of updates a step. No more online."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subset > self.critics:
            raise ReverieError(f"subset = {self.subset} exceeds critics = {self.critics}; choose at most so many")

    def check_online(self, online: Any) -> None:
        if self.policy_delay > max(1, online.utd_ratio):
            raise RunError(
                f"The actor would learn once in policy_delay={self.policy_delay} updates, of which "
                f"utd_ratio={online.utd_ratio} makes fewer in an environment step; give utd_ratio={self.policy_delay} "
                f"(--utd-ratio {self.policy_delay}), or policy_delay=1 (--policy-delay 1)."
            )

    def init(self, key, spec: Spec) -> State:  # type: ignore[override]  # a SAC's, and more
        state = super().init(key, spec)
        return State(state.actor, state.critic, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):  # type: ignore[override]
        next_key, subset_key, actor_key = (jax.random.fold_in(key, i) for i in (2, 3, 4))
        s = batch["next_observations"]
        action, log_prob = state.actor.policy.params(s).sample_and_log_prob(next_key)
        chosen = jax.random.permutation(subset_key, self.critics)[: self.subset]
        next_value = state.critic.target.members(chosen)(s, action).min(0) - state.actor.temperature * log_prob
        critic, metrics = self.learn_q(state.critic, batch, next_value)

        def learn(actor):
            return self.learn_actor(actor, critic.online.params, batch, actor_key)[0]

        actor = where_due((state.step + 1) % self.policy_delay == 0, learn, state.actor)
        return State(actor, critic, state.step + 1), metrics | {"temperature": actor.temperature}

    def actor_value(self, values) -> jax.Array:
        return values.mean(0)
