"""Diffusion-QL (Wang, Hunt & Zhou 2023, "Diffusion Policies as an Expressive Policy Class for Offline RL").

A diffusion policy that imitates the data and, through its whole denoising chain, climbs Q. With
`action_approximation="one-step"` it is EDP (Kang et al. 2023), which climbs Q from one network call.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.networks import DenoisingMLP, mish
from reverie.rl import ActorCritic, Critic, DiffusionActor
from reverie.training.state import Optimised, delayed_ema


class State(eqx.Module):
    actor: Optimised
    average: DenoisingMLP
    """The actor's running average, which the critics' targets ask; the live actor acts."""
    critic: Critic
    step: jax.Array


@dataclass(frozen=True)
class DiffusionQL(DiffusionActor, ActorCritic):
    """Diffusion-QL: a diffusion policy improved by Q-learning."""

    name: ClassVar = "diffusion-ql"
    paper: ClassVar = "Wang et al. 2023; EDP: Kang et al. 2023"
    activation: ClassVar[Any] = staticmethod(mish)
    acting_fields: ClassVar = ("calls", "solver", "candidates", "selection")
    limits: ClassVar = DiffusionActor.limits | ActorCritic.limits | {"eta": 0.0, "candidates": 1, "backup_actions": 1}

    eta: float = 1.0
    """Weight of Q, in units of its mean magnitude, against imitation."""
    action_approximation: Literal["chain", "one-step"] = "chain"
    """Q is climbed through the whole denoising chain, or (EDP, eq. 9) through x0_hat of a noised action of the data."""
    backup_actions: int = 1
    """Next actions over which each target critic takes its largest value; 10 in the paper's max-Q backup."""
    average_decay: float = 0.995
    """Decay of the actor's running average."""
    average_every: int = 5
    """Updates between two steps of the average."""
    average_start: int = 1000
    """Updates during which the average is a copy (in the released code it stands still until then)."""
    candidates: int = 50
    """Actions drawn to act, of which one is chosen by its value."""
    selection: Literal["softmax", "argmax"] = "softmax"
    """How it is chosen: in proportion to exp Q, or the best."""

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net, step = self.network(actor_key, spec), jnp.zeros((), jnp.int32)
        return State(Optimised.create(net, self.actor_optimiser), net, self.init_critic(critic_key, spec), step)

    def update(self, state: State, batch, key):
        next_key, actor_key = jax.random.split(key)
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))

        def loss(net):
            imitation, improvement = self.actor_losses(net, critic, batch, actor_key)
            return imitation + self.eta * improvement, imitation

        (_, imitation), gradient = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        actor = state.actor.apply(gradient, self.actor_optimiser)
        average = delayed_ema(
            *(state.average, actor.params, state.step),
            decay=self.average_decay,
            every=self.average_every,
            start=self.average_start,
        )
        return State(actor, average, critic, state.step + 1), metrics | {"diffusion_loss": imitation}

    def next_value(self, state: State, batch, key) -> jax.Array:
        """Each target critic's best over the averaged actor's next actions, then the least of the critics."""
        s, n = batch["next_observations"], self.backup_actions
        actions = self.candidates_for(state.average, s, key, n, batch["actions"].shape[-1])
        return state.critic.target(s[:, None], actions).max(-1).min(0)

    def actor_losses(self, net, critic: Critic, batch, key):
        """Imitation, and -Q in units of its size (eq. 3). The critics swap the two roles at random."""
        imitate_key, act_key, coin_key = jax.random.split(key, 3)
        imitation = self.denoising_loss(net, batch, imitate_key).mean()
        action = self.action(net, batch, act_key)
        q = critic.online.params(batch["observations"], action)
        chosen = jax.random.randint(coin_key, (), 0, self.critics)
        size = jax.lax.stop_gradient(jnp.abs(q[(chosen + 1) % self.critics]).mean())
        return imitation, -q[chosen].mean() / size

    def action(self, net, batch, key):
        """The policy's action [B, action], with its gradient."""
        s, known = batch["observations"], batch["actions"]
        if self.action_approximation == "chain":
            return self.sample(net, s, key, known.shape)
        time_key, noise_key = jax.random.split(key)
        t = self.process.draw_times(time_key, known.shape[:1])
        noisy = self.process.perturb(known, t, jax.random.normal(noise_key, known.shape))
        return jnp.clip(self.process.denoise(net, noisy, t, s), -1, 1)

    def choose(self, state, spec, observation, key):
        draw_key, pick_key = jax.random.split(key)
        actions = self.candidates_for(state.actor.params, observation, draw_key, self.candidates, spec.action_dim)
        if self.candidates == 1:
            return actions[:, 0]
        value = state.critic.target(observation[:, None], actions).min(0)
        best = value.argmax(-1) if self.selection == "argmax" else jax.random.categorical(pick_key, value)
        return jnp.take_along_axis(actions, best[:, None, None], 1)[:, 0]
