"""QAM (Li & Levine 2026, "Q-learning with Adjoint Matching").

A flow clones the behaviour, and a second one is tuned to the behaviour tilted by exp Q: Q's gradient is brought back
along the noisy chain that has the flow's own marginals, by the behaviour's Jacobians, and regressed on at every step.
No gradient goes through the chain that the tuned flow draws.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import adjoints, draw_chain, posterior, steps_of_chain
from reverie.learning import Optimised, ema
from reverie.rl import ChunkedActions, Critic, Flow, FlowActor, SamplingExplorer, lower_bound, magnitude, select
from reverie.settings import Acting, Count, Limit, NonNegative

MEMORYLESS = partial(posterior, variance="beta")
"""The steps of the chain whose end does not depend on where it begins, as adjoint matching needs: ancestral sampling.
The released code takes Euler-Maruyama's steps of the same equation, moved by one to keep them from its singular end;
they are one and the same where there are many. With ten, and Gaussian behaviour of standard deviations 0.1 to 1, the
tuned flow's mean moves by 0.95 to 1.17 times what it should with these, and by 0.88 to 1.97 with those."""


class State(eqx.Module):
    flow: Optimised
    """Of the behaviour."""
    flow_ema: Flow
    tuned: Optimised
    critic: Critic


@dataclass(frozen=True)
class QAM(FlowActor, ChunkedActions, SamplingExplorer):
    """QAM: a flow tuned to the behaviour times exp Q by adjoint matching. Its variants, a distilled policy of one step
    and one that edits actions, are not here."""

    name: ClassVar = "qam"
    role: ClassVar = "policy"
    paper: ClassVar = "Li & Levine 2026"

    critic_hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the critics' hidden layers."""
    critics: Annotated[int, Limit(2)] = 10
    """Q networks."""
    rho: NonNegative = 0.5
    """Standard deviations among the critics that td_target is below their mean."""
    inverse_temperature: NonNegative = 0.3
    """Of Q in the policy, the behaviour times exp(Q / temperature): the released code's; chosen a task in the paper."""
    normalise_q: bool = False
    """Whether Q is measured in units of its mean magnitude; then the temperature does not depend on the rewards'
    scale."""
    chunk_size: Count = 1
    """Actions that are chosen at once, and executed before the next are; 5 in the paper's tasks of manipulation."""
    gradient_clip: NonNegative = 1.0
    """Largest norm of a gradient; 0 for any."""
    candidates: Acting[Count] = 1
    """Actions drawn to act, of which the best by the critics' mean is taken."""

    def init(self, key, spec: Spec) -> State:
        flow_key, critic_key = jax.random.split(key)
        spec = self.as_one(spec)
        flow = self.flow_network(flow_key, spec)
        # The tuned flow begins as the behaviour's, where the released code's begins by itself.
        learned = Optimised.create(flow, self.optimiser)
        return State(learned, flow, learned, self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        next_key, flow_key, chain_key = jax.random.split(key, 3)
        then = batch["next_observations"]
        next_actions = self.best(state, then, next_key, batch["actions"].shape[-1])
        value = lower_bound(state.critic.target(then, next_actions), self.rho)
        critic, metrics = self.learn_q(state.critic, batch, value)

        flow, flow_loss = state.flow.minimise(lambda flow: self.flow_loss(flow, batch, flow_key), self.optimiser)
        chain, adjoint = self.adjoint_chain(state, batch, chain_key)
        matching = partial(self.matching_loss, state.flow_ema, batch["observations"], chain, adjoint)
        tuned, adjoint_loss = state.tuned.minimise(matching, self.optimiser)
        flow_ema = ema(state.flow_ema, flow.params, 1 - self.tau)
        metrics |= {"flow_loss": flow_loss, "adjoint_loss": adjoint_loss, "adjoint_size": jnp.abs(adjoint).mean()}
        return State(flow, flow_ema, tuned, critic), metrics

    def adjoint_chain(self, state: State, batch, key) -> tuple[jax.Array, jax.Array]:
        """A chain of the tuned flow `[B, flow_steps + 1, action]`, and at the end of each of its steps what minus Q's
        gradient at its sample is along the behaviour's: `[B, flow_steps, action]`."""
        s, shape, n = batch["observations"], batch["actions"].shape, self.flow_steps
        denoiser = self.process.denoiser(state.tuned.params, s)
        chain = draw_chain(self.process, denoiser, MEMORYLESS, key, shape, nfe=n, kept=n)

        def values(actions):
            return state.critic.target(s, jnp.clip(actions, -1, 1)).mean(0)

        q, pull = jax.vjp(values, chain[..., -1, :])
        size = magnitude(q) if self.normalise_q else 1.0
        slope = -self.inverse_temperature * pull(jnp.ones_like(q))[0] / size
        behaviour = self.process.denoiser(state.flow_ema, s)
        return chain, adjoints(self.process, behaviour, MEMORYLESS, chain, slope, nfe=n)

    def matching_loss(self, behaviour: Flow, observation, chain, adjoint, tuned: Flow) -> jax.Array:
        """How far the tuned flow's steps are from the behaviour's less the adjoints, in units of their noise, summed
        over steps: a scalar. In the last step, which has no noise, the two flows are one."""
        seen, n = observation[:, None, :], self.flow_steps
        steps = [
            steps_of_chain(self.process, self.process.denoiser(flow, seen), MEMORYLESS, chain, nfe=n)
            for flow in (tuned, behaviour)
        ]
        (mean, _), (base, std) = steps
        unit = jnp.where(std > 0, std, self.process.t_min)
        return jnp.square((mean - base) / unit + std * adjoint).sum((-2, -1)).mean()

    def best(self, state: State, observation, key, size: int) -> jax.Array:
        """Of N actions of the tuned flow that whose Q, the critics' mean, is the largest: `[..., size]`."""
        actions = self.flow_candidates(state.tuned.params, observation, key, self.candidates, size)
        if self.candidates == 1:
            return actions[..., 0, :]
        return select(actions, state.critic.online.params(observation[..., None, :], actions).mean(0))

    def behaviour_network(self, state: State):
        return state.flow.params

    def choose(self, state: State, spec: Spec, observation, key):
        return self.best(state, observation, key, spec.action_dim)
