"""A diffusion policy that learns online: what DIPO, QSM, QVPO, DPMD and SDAC share.

They differ in what the denoising network is fitted to. The critics, the slow copy and the choice of an action are here.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.diffusion import Process, vp_cosine
from reverie.learning import Optimised, ema
from reverie.networks import DenoisingMLP, mish
from reverie.settings import Acting, Count, NonNegative

from .candidates import select
from .critics import ActorCritic, Critic
from .diffusion_actor import DiffusionActor


class OnlineState(eqx.Module):
    actor: Optimised
    slow: DenoisingMLP
    """Its slow copy, of whose actions td_target takes the value."""
    critic: Critic


@dataclass(frozen=True)
class OnlineDiffusion(DiffusionActor, ActorCritic):
    """Critics by bootstrapping from the slow copy's actions, and a denoising network that follows them. An algorithm
    adds `actor_loss`."""

    activation: ClassVar[Any] = staticmethod(mish)

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the actor's hidden layers."""
    critic_layer_norm: bool = False
    """Whether the critics' hidden layers are normalised. What they say far from what was tried, the next steps
    correct."""
    diffusion_steps: Count = 20
    """Noise levels."""
    candidates: Acting[Count] = 1
    """Actions drawn to act, of which the best by Q is taken."""
    exploring_candidates: Count = 1
    """The same while data is collected."""
    target_candidates: Count = 1
    """Of the slow copy's actions, of whose values by the target critics td_target takes the largest."""
    noise: Acting[NonNegative] = 0.0
    """Standard deviation of what is added to an action, in units of half the bounds' width."""
    exploring_noise: NonNegative = 0.1
    """The same while data is collected."""

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps)

    @property
    def exploring(self) -> Self:
        """How it acts while it collects data."""
        return replace(self, candidates=self.exploring_candidates, noise=self.exploring_noise)

    def network(self, key, spec: Spec) -> DenoisingMLP:
        return DenoisingMLP(key, spec.action_dim, spec.observation_dim, hidden=self.hidden)

    def init(self, key, spec: Spec) -> OnlineState:
        actor_key, critic_key = jax.random.split(key)
        net = self.network(actor_key, spec)
        return OnlineState(Optimised.create(net, self.optimiser), net, self.init_critic(critic_key, spec))

    def actor_loss(self, net: DenoisingMLP, state: OnlineState, batch, key) -> jax.Array:
        """What the denoising network is fitted by, a scalar; the state's critic is of this update."""
        raise NotImplementedError

    def update(self, state: OnlineState, batch, key):
        next_key, actor_key = jax.random.split(key)
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))
        state = replace(state, critic=critic)
        state, loss = self.learn_actor(state, batch, actor_key)
        return state, metrics | {"diffusion_loss": loss}

    def learn_actor(self, state, batch, key) -> tuple[Any, jax.Array]:
        """A step of the actor, one of its slow copy, and the loss."""
        actor, loss = state.actor.minimise(lambda net: self.actor_loss(net, state, batch, key), self.optimiser)
        return replace(state, actor=actor, slow=ema(state.slow, actor.params, 1 - self.tau)), loss

    def next_value(self, state: OnlineState, batch, key) -> jax.Array:
        """The target critics' smallest value of one of the slow copy's actions, of several the largest."""
        s, n = batch["next_observations"], self.target_candidates
        actions = self.sample_candidates(state.slow, s, key, n, batch["actions"].shape[-1])
        return state.critic.target(s[..., None, :], actions).min(0).max(-1)

    def values(self, state: OnlineState, observation, actions) -> jax.Array:
        """The critics' smallest value of several actions `[..., n, action]` for each observation: `[..., n]`."""
        return state.critic.online.params(observation[..., None, :], actions).min(0)

    def acted(self, net: DenoisingMLP, observation, key, n: int, action_dim: int) -> jax.Array:
        """n actions to act by, for each observation: `[..., n, action]`."""
        return self.sample_candidates(net, observation, key, n, action_dim)

    def choose(self, state: OnlineState, spec, observation, key):
        draw_key, noise_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
        net, n = state.actor.params, self.candidates
        actions = self.acted(net, observation, draw_key, n, spec.action_dim)
        action = select(actions, self.values(state, observation, actions)) if n > 1 else actions[..., 0, :]
        return action + self.noise * jax.random.normal(noise_key, action.shape)
