"""IDQL (Hansen-Estruch et al. 2023, "Implicit Q-Learning as an Actor-Critic Method with Diffusion Policies").

Implicit Q-learning's critics, a diffusion model of the behaviour that knows nothing of them, and a choice among its
samples when acting.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.networks import LayerNormResNet
from reverie.rl import IMPLICIT_LOSSES, DiffusionActor, ImplicitCritic, ImplicitQ
from reverie.training.state import Optimised, ema


class State(eqx.Module):
    actor: Optimised
    average: LayerNormResNet
    """The behaviour model's running average, which acts."""
    critic: ImplicitCritic


@dataclass(frozen=True)
class IDQL(DiffusionActor, ImplicitQ):
    """IDQL: the behaviour, sampled often, and the sample that implicit Q-learning likes best."""

    name: ClassVar = "idql"
    paper: ClassVar = "Hansen-Estruch et al. 2023"
    acting_fields: ClassVar = ("calls", "solver", "candidates", "selection")
    limits: ClassVar = (
        DiffusionActor.limits | ImplicitQ.limits | {"width": 1, "blocks": 1, "dropout": (0.0, 0.99), "candidates": 1}
    )
    sampling: ClassVar = {"clip_x": (-1.0, 1.0)}  # the released code clips x_t at every step, and x0_hat never

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the critics' hidden layers."""
    solver: str = "ddpm-beta"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS. The released code's noise has variance beta."""
    batch_size: int = 512
    """Transitions an update."""
    width: int = 256
    """Of the behaviour network."""
    blocks: int = 3
    """Residual blocks of the behaviour network."""
    dropout: float = 0.1
    """In training the behaviour network."""
    average_decay: float = 0.999
    """Decay of the behaviour model's running average."""
    candidates: int = 64
    """Actions drawn to act; the paper's N."""
    selection: Literal["argmax", "implicit"] = "argmax"
    """The best by Q, or a draw in proportion to the weights of the policy that the implicit loss implies (eq. 8)."""

    def network(self, key, spec: Spec):
        size: Any = {"width": self.width, "blocks": self.blocks, "rate": self.dropout}
        return LayerNormResNet(key, spec.action_dim, spec.observation_dim, **size)

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net = self.network(actor_key, spec)
        return State(Optimised.create(net, self.actor_optimiser), net, self.init_implicit(critic_key, spec))

    def update(self, state: State, batch, key):
        noise_key, dropout_key = jax.random.split(key)

        def loss(net):
            def dropped(x, t, observation):
                return net(x, t, observation, key=dropout_key)

            # The released code sums over the action's entries, which Adam does not notice.
            return self.denoising_loss(dropped, batch, noise_key).mean()

        actor, error = state.actor.minimise(loss, self.actor_optimiser)
        critic, metrics = self.learn_v(state.critic, batch)
        critic, more = self.learn_implicit_q(critic, batch)
        state = State(actor, ema(state.average, actor.params, self.average_decay), critic)
        return state, metrics | more | {"diffusion_loss": error}

    def choose(self, state, spec, observation, key):
        draw_key, pick_key = jax.random.split(key)
        if self.candidates == 1:
            return self.sample(state.average, observation, key, (*observation.shape[:-1], spec.action_dim))
        actions = self.candidates_for(state.average, observation, draw_key, self.candidates, spec.action_dim)
        advantage = state.critic.advantage(observation[:, None], actions)
        if self.selection == "argmax":
            best = advantage.argmax(-1)
        else:
            weight = IMPLICIT_LOSSES[self.implicit_loss].weight(advantage, self.parameter)
            best = jax.random.categorical(pick_key, jnp.log(weight))
        return jnp.take_along_axis(actions, best[:, None, None], 1)[:, 0]
