"""Diffusion-QL (Wang, Hunt & Zhou 2023, "Diffusion Policies as an Expressive Policy Class for Offline RL").

A diffusion policy that clones the behaviour and maximises Q by the gradient through its whole denoising chain. With
`action_approximation="one-step"` it is EDP (Kang et al. 2023), which maximises Q at x0_hat of a single evaluation.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import EMA
from reverie.data import Spec
from reverie.learning import Optimised
from reverie.networks import DenoisingMLP, mish
from reverie.rl import ActorCritic, Critic, DiscreteDiffusionActor, Selection, magnitude, select
from reverie.settings import Acting, Count, Natural, NonNegative


class State(eqx.Module):
    actor: Optimised
    ema: DenoisingMLP
    """Of the actor, which gives the next actions of td_target; the live actor acts."""
    critic: Critic
    step: jax.Array


@dataclass(frozen=True)
class DiffusionQL(EMA, DiscreteDiffusionActor, ActorCritic):
    """Diffusion-QL: a diffusion policy improved by Q-learning."""

    name: ClassVar = "diffusion-ql"
    paper: ClassVar = "Wang et al. 2023; EDP: Kang et al. 2023"
    activation: ClassVar[Any] = staticmethod(mish)

    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1; the released code's do not."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    eta: NonNegative = 1.0
    """Weight of Q, in units of its mean magnitude, against the behaviour cloning loss."""
    action_approximation: Literal["chain", "one-step"] = "chain"
    """Q is maximised through the whole denoising chain, or (EDP, eq. 9) at x0_hat of a noised action of the data."""
    backup_actions: Count = 1
    """Next actions over which each target critic takes its largest value; 10 in the paper's max-Q backup."""
    ema_every: Count = 5
    """Updates between two steps of the average."""
    ema_start: Natural = 1000
    """Updates during which the average is a copy (in the released code it stands still until then)."""
    candidates: Acting[Count] = 50
    """Actions drawn to act, of which one is chosen by its value."""
    selection: Acting[Selection] = "argmax"
    """How it is chosen: the best, or, as in the released code, in proportion to exp Q, which is nearly at random where
    the candidates differ in Q by less than 1."""

    @property
    def critic_optimiser(self):
        """The actor's: where its learning rate falls (`decay_updates`) the critics' does, as in the released code. They
        choose among the candidates, and do so by noise where their last updates are as large as the first."""
        return self.optimiser

    def network(self, key, spec: Spec) -> DenoisingMLP:
        return DenoisingMLP(key, spec.action_dim, spec.observation_dim, hidden=self.hidden)

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net, step = self.network(actor_key, spec), jnp.zeros((), jnp.int32)
        return State(Optimised.create(net, self.optimiser), net, self.init_critic(critic_key, spec), step)

    def update(self, state: State, batch, key):
        next_key, actor_key = jax.random.split(key)
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))

        def loss(net):
            bc_loss, q_loss = self.actor_losses(net, critic, batch, actor_key)
            return bc_loss + self.eta * q_loss, bc_loss

        (_, bc_loss), gradient = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        actor = state.actor.apply(gradient, self.optimiser)
        ema = self.averaged(state.ema, actor.params, state.step)
        return State(actor, ema, critic, state.step + 1), metrics | {"diffusion_loss": bc_loss}

    def next_value(self, state: State, batch, key) -> jax.Array:
        """Each target critic's largest value over next actions of the actor's ema, then the critics' smallest."""
        s, n = batch["next_observations"], self.backup_actions
        actions = self.sample_candidates(state.ema, s, key, n, batch["actions"].shape[-1])
        return state.critic.target(s[:, None], actions).max(-1).min(0)

    def actor_losses(self, net, critic: Critic, batch, key):
        """The behaviour cloning loss, and -Q in units of its size (eq. 3). The critics swap the two roles at random."""
        bc_key, act_key, coin_key = jax.random.split(key, 3)
        bc_loss = self.denoising_loss(net, batch, bc_key).mean()
        action = self.action(net, batch, act_key)
        q = critic.online.params(batch["observations"], action)
        chosen = jax.random.randint(coin_key, (), 0, self.critics)
        return bc_loss, -q[chosen].mean() / magnitude(q[(chosen + 1) % self.critics])

    def action(self, net, batch, key):
        """The policy's action [B, action], with its gradient."""
        s, a = batch["observations"], batch["actions"]
        if self.action_approximation == "chain":
            return self.sample(net, s, key, a.shape)
        noisy, t, _ = self.process.noised(key, a)
        return jnp.clip(self.process.denoise(net, noisy, t, s), -1, 1)

    def behaviour_network(self, state: State):
        return state.actor.params

    def choose(self, state, spec, observation, key):
        draw_key, pick_key = jax.random.split(key)
        actions = self.sample_candidates(state.actor.params, observation, draw_key, self.candidates, spec.action_dim)
        if self.candidates == 1:
            return actions[:, 0]
        value = state.critic.target(observation[:, None], actions).min(0)
        return select(actions, value, self.selection, pick_key)
