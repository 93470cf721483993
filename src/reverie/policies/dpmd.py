"""DPMD (Ma et al. 2025, "Efficient Online Reinforcement Learning for Diffusion Policy"): policy mirror descent.

The next policy is the old one times exp(Q / temperature): samples of the old one are imitated with these weights.

This is flow-rl's form of it. Noise on the samples is what keeps the policy wide: without it each policy is narrower
than the one before, until it is a point. In one dimension, where each has rho of its particles' variance, as target_kl
= (rho - 1 - log rho) / 2 says, it settles at the noise's variance times rho / (1 - rho).

Beside flow-rl: the noisy particles stay within the bounds, where the critics have seen actions; they are weighed by the
smallest Q, there by the mean; squared errors are not cut at 3; the temperature's rate is ten times as high and the
actor's, 3e-4, three times; the best of 32 acts, there of 10; and td_target has the slow copy's action, there and in the
authors' own code the present policy's. That has one particle, the best of 32, with the weight exp((Q - mean) / alpha)
of an alpha on a schedule.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.errors import ReverieError
from reverie.learning import Optimised, optimiser
from reverie.networks import DenoisingMLP
from reverie.rl import OnlineDiffusion, OnlineState
from reverie.settings import Acting, Count, LearningRate, NonNegative


class State(OnlineState):
    old: DenoisingMLP
    """The policy that the next one is near to."""
    log_temperature: Optimised
    step: jax.Array


@dataclass(frozen=True)
class DPMD(OnlineDiffusion):
    """DPMD: the old policy's samples, weighted by exp(Q / temperature)."""

    name: ClassVar = "dpmd"
    paper: ClassVar = "Ma et al. 2025"

    particles: Count = 64
    """Samples of the old policy for each observation."""
    particle_noise: NonNegative = 0.2
    """Standard deviation of what is added to each of them, in units of half the bounds' width."""
    target_kl: NonNegative = 2.0
    """Which the weighted particles should have from the unweighted ones, in nats; the temperature follows it. Below
    the logarithm of their number, near which one particle has all the weight. 2 is flow-rl's in most of MuJoCo (1 in
    Ant, 3 in Hopper); of a single action it leaves 8 % of the noise's standard deviation, and 0.3 60 %."""
    temperature_rate: LearningRate = 3e-3
    """Adam's step size of the temperature's logarithm."""
    refresh: Count = 1000
    """Updates after which the old policy is replaced by the present one; as many steps of mirror descent are made as
    that number goes into the training's, so that a short one wants fewer."""
    candidates: Acting[Count] = 32
    """Actions drawn to act, of which the best by Q is taken."""
    exploring_noise: NonNegative = 0.0
    """Standard deviation of what is added to an action while data is collected."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_kl >= math.log(self.particles):
            raise ReverieError(
                f"target_kl = {self.target_kl} cannot be reached with particles = {self.particles}, whose weights have "
                f"less than {math.log(self.particles):.2f}; lower the one or raise the other"
            )

    @property
    def temperature_optimiser(self):
        return optimiser(self.temperature_rate)

    def init(self, key, spec: Spec) -> State:
        state = super().init(key, spec)
        log_temperature = Optimised.create(jnp.zeros(()), self.temperature_optimiser)
        return State(**vars(state), old=state.slow, log_temperature=log_temperature, step=jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):  # type: ignore[override]  # an OnlineState, and more
        next_key, sample_key, loss_key = (jax.random.fold_in(key, i) for i in (2, 3, 4))
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))
        state = replace(state, critic=critic)
        s = batch["observations"]
        actions = self.sample_candidates(state.old, s, sample_key, self.particles, batch["actions"].shape[-1])
        actions = self.noisy(actions, jax.random.fold_in(key, 5))
        weight, kl = weights(self.values(state, s, actions), jnp.exp(state.log_temperature.params))
        particles = {"particles": actions, "weights": weight}
        learned, loss = self.learn_actor(state, batch | particles, loss_key)
        log_temperature, _ = state.log_temperature.minimise(
            lambda log_temperature: -log_temperature * (kl - self.target_kl), self.temperature_optimiser
        )
        due = (state.step + 1) % self.refresh == 0
        old = jax.tree.map(lambda new, old: jnp.where(due, new, old), learned.actor.params, state.old)
        more = {"diffusion_loss": loss, "kl": kl, "temperature": jnp.exp(state.log_temperature.params)}
        return replace(learned, old=old, log_temperature=log_temperature, step=state.step + 1), metrics | more

    def noisy(self, actions, key) -> jax.Array:
        """The old policy's actions with noise, within the bounds."""
        return jnp.clip(actions + self.particle_noise * jax.random.normal(key, actions.shape), -1, 1)

    def actor_loss(self, net, state: OnlineState, batch, key) -> jax.Array:
        b, n, d = batch["particles"].shape
        s = jnp.repeat(batch["observations"], n, 0)
        losses = self.process.loss(net, batch["particles"].reshape(-1, d), key, s).reshape(b, n)
        return (batch["weights"] * losses).sum(-1).mean()


def weights(q, temperature) -> tuple[jax.Array, jax.Array]:
    """Of particles of values `[B, n]` in proportion to exp(q / temperature), `[B, n]` of sum 1, and the mean KL
    divergence of what they weigh from what they do not, a scalar."""
    log_weight = jax.nn.log_softmax(q / temperature)
    weight = jnp.exp(log_weight)
    return weight, (weight * (log_weight + jnp.log(q.shape[-1]))).sum(-1).mean()
