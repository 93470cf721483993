"""OMAR (Pan et al. 2022, "Plan Better Amid Conservatism: Offline Multi-Agent Reinforcement Learning with Actor
Rectification"): conservative critics of each agent's own, and actors drawn to the best action that a search finds.

It stands in TD3's frame, with its two critics. The released code has neither noise on the target's action nor a delay
(`policy_noise` 0, `policy_delay` 1), clips gradients at 0.5, and in the particle worlds has `discount` 0.95 and `tau`
0.01.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.baselines.td3_bc import TD3BC
from reverie.data import Spec
from reverie.data.agents import Team, team_of_spec
from reverie.learning import Optimised, where_due
from reverie.rl import (
    Critic,
    DelayedState,
    DeterministicActor,
    Normal,
    QNetwork,
    TeamActor,
    TeamPolicy,
    conservatism,
    each_agent,
)
from reverie.settings import Count, Fraction, Natural, NonNegative, Positive

NEAR = 0.2
"""Standard deviation of the noise about the actor's actions for the conservatism."""


class Agents(DelayedState):
    """With the team, as batches do not tell it."""

    team: Team = eqx.field(static=True)


@dataclass(frozen=True)
class OMAR(TD3BC, TeamPolicy):
    """OMAR: several agents, each with a conservative critic of what it sees and does itself, and a search beside it."""

    name: ClassVar = "omar"
    paper: ClassVar = "Pan et al. 2022"

    alpha: NonNegative = 1.0
    """Weight of the critics' conservatism. The released code's, chosen for each set: 5 for experts' data and for medium
    ones in spread and tag, 0.5 to 5 else."""
    sampled_actions: Count = 10
    """Uniform actions for the conservatism's log-sum-exp."""
    policy_actions: Natural = 0
    """Actions beside them about the actor's own at s, with noise of standard deviation 0.2, and as many about its own
    at s', all weighted by their density. The released code has none in the particle worlds, and 10 in HalfCheetah."""
    rectification: Fraction = 0.9
    """Weight of the distance to the best action found, against that of Q (the paper's tau). The released code's, chosen
    for each set, is 0.1 to 1, and 1 in all of spread's: there the actor follows no gradient of Q at all."""
    search_steps: Count = 3
    """Of the search, each with a Gaussian of the last one's actions weighted by the softmax of their Q. In HalfCheetah
    the released code has 2, of 20 actions, and fits each Gaussian to the five best so far."""
    search_actions: Count = 10
    """Drawn in each step."""
    search_std: Positive = 2.0
    """Standard deviation of the first step, around 0; actions are in -1 to 1."""

    def init(self, key, spec: Spec) -> Agents:
        actor_key, critic_key = jax.random.split(key)
        team = team_of_spec(spec)
        actor = DeterministicActor(actor_key, *TeamActor.sizes(team, joint=False), hidden=self.hidden)
        critic = self.init_critic(critic_key, spec)
        return Agents(Optimised.create(actor, self.optimiser), actor, critic, jnp.zeros((), jnp.int32), team)

    def q_network(self, key, spec: Spec) -> QNetwork:
        return self.q_network_of(key, sum(TeamActor.sizes(team_of_spec(spec), joint=False)))

    def update(self, state: Agents, batch, key):  # type: ignore[override]  # of its own state
        """Each agent's transition is one of its own, with the team's reward: decentralised critics, shared by all.

        The search is made where the actor is due, by the first critic. The code searches that after its step, and
        penalises the actions' squares by 0.001. There each agent learns from its own reward.
        """
        uniform_key, search_key, key = jax.random.split(key, 3)
        batch = each_agent(batch, state.team)
        batch |= self.candidates(state, batch, uniform_key)
        nothing = jnp.zeros_like(batch["actions"])
        # What is found is for the actor alone.
        found = where_due(self.due(state), lambda _: self.rectified(state, batch, search_key), nothing)
        return super().update(state, batch | {"best": found}, key)

    def learn_q(self, critic: Critic, batch, next_value, penalty=None):
        return super().learn_q(critic, batch, next_value, lambda q: self.penalty(q, batch))

    def penalty(self, q: QNetwork, batch) -> jax.Array:
        """The conservatism, by the `candidates` `[K, B, action]` of the batch and their `log_density` `[K, B]`."""
        return self.alpha * conservatism(q, batch, batch["candidates"], batch["log_density"])

    def candidates(self, state: DelayedState, batch, key) -> dict[str, jax.Array]:
        """For the conservatism: uniform actions, and such about the actor's; their log densities in an agent's own
        columns, of the latter before they are cut at the bounds."""
        own, shape = batch["own"], (self.sampled_actions, *batch["actions"].shape)
        actions = [own * jax.random.uniform(key, shape, minval=-1, maxval=1)]
        densities = [jnp.broadcast_to(-math.log(2) * own.sum(-1), shape[:-1])]
        for i, name in enumerate(("observations", "next_observations") if self.policy_actions else ()):
            mean = state.actor.params(batch[name])
            about = Normal(mean, jnp.full_like(mean, NEAR)).only(own > 0)
            drawn = own * about.sample(jax.random.fold_in(key, i), (self.policy_actions,))
            actions.append(jnp.clip(drawn, -1, 1))
            densities.append(about.log_prob(drawn))
        return {"candidates": jnp.concatenate(actions), "log_density": jnp.concatenate(densities)}

    def rectified(self, state: DelayedState, batch, key) -> jax.Array:
        """Of the actor's action and those of the last search step, that of the largest Q (section 4): `[B, action]`."""
        observation, q = batch["observations"], state.critic.online.params.first

        def step(gaussian, key):
            mean, std = gaussian
            drawn = mean + std * jax.random.normal(key, (self.search_actions, *mean.shape))
            actions = batch["own"] * jnp.clip(drawn, -1, 1)
            values = q(observation, actions)[0]
            mean = (jax.nn.softmax(values, 0)[..., None] * actions).sum(0)
            return (mean, jnp.sqrt(jnp.square(actions - mean).mean(0))), (actions, values)

        start = jnp.zeros_like(batch["actions"])
        keys = jax.random.split(key, self.search_steps)
        _, (actions, values) = jax.lax.scan(step, (start, jnp.full_like(start, self.search_std)), keys)
        own = batch["own"] * state.actor.params(observation)
        actions = jnp.concatenate([actions[-1], own[None]])
        values = jnp.concatenate([values[-1], q(observation, own)])
        return jnp.take_along_axis(actions, values.argmax(0)[None, :, None], 0)[0]

    def next_actions(self, state: DelayedState, batch, key):
        return batch["own"] * super().next_actions(state, batch, key)

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        action = batch["own"] * net(batch["observations"])
        q = critic.online.params.first(batch["observations"], action).mean()
        # Of each agent's own columns the mean, so that an agent of few counts as much as one of many.
        distance = (jnp.square(action - batch["best"]).sum(-1) / batch["own"].sum(-1)).mean()
        return self.rectification * distance - (1 - self.rectification) * q

    def choose(self, state: Agents, spec, observation, key):
        return TeamActor(state.actor.params, state.team, joint=False)(observation)
