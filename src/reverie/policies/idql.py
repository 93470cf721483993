"""IDQL (Hansen-Estruch et al. 2023, "Implicit Q-Learning as an Actor-Critic Method with Diffusion Policies").

Implicit Q-learning's critics, a diffusion model of the behaviour that knows nothing of them, and a choice among its
samples when acting.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import SolverName
from reverie.data import Spec
from reverie.learning import Optimised, ema
from reverie.networks import LayerNormResNet
from reverie.rl import (
    IMPLICIT_LOSSES,
    ChosenStatistic,
    DiscreteDiffusionActor,
    ImplicitCritic,
    SamplingExplorer,
    select,
    take,
)
from reverie.settings import Acting, Count, Fraction, Limit


class State(eqx.Module):
    actor: Optimised
    ema: LayerNormResNet
    """Of the behaviour model, which acts."""
    critic: ImplicitCritic


@dataclass(frozen=True)
class IDQL(DiscreteDiffusionActor, ChosenStatistic, SamplingExplorer):
    """IDQL: the behaviour, sampled often, and the sample that implicit Q-learning likes best."""

    name: ClassVar = "idql"
    paper: ClassVar = "Hansen-Estruch et al. 2023"
    sampling: ClassVar = {"clip_x": (-1.0, 1.0)}  # the released code clips x_t at every step, and x0_hat never

    solver: Acting[SolverName] = "ddpm-beta"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS. The released code's noise has variance beta."""
    batch_size: Count = 512
    """Transitions an update."""
    width: Count = 256
    """Of the behaviour network."""
    blocks: Count = 3
    """Residual blocks of the behaviour network."""
    dropout: Annotated[float, Limit(0.0, 0.99)] = 0.1
    """In training the behaviour network."""
    ema_decay: Fraction = 0.999
    """Of the behaviour model's average, which moves in every update."""
    candidates: Acting[Count] = 4
    """Actions drawn to act, the paper's N, there 64: the more, the more often the best is the critics' error."""
    selection: Acting[Literal["argmax", "implicit"]] = "argmax"
    """The best by Q, or a draw in proportion to the weights of the policy that the implicit loss implies (eq. 8)."""

    def network(self, key, spec: Spec):
        sizes = (spec.action_dim, spec.observation_dim)
        return LayerNormResNet(key, *sizes, width=self.width, blocks=self.blocks, rate=self.dropout)

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net = self.network(actor_key, spec)
        return State(Optimised.create(net, self.optimiser), net, self.init_implicit(critic_key, spec))

    def update(self, state: State, batch, key):
        noise_key, dropout_key = jax.random.split(key)

        def loss(net):
            def dropped(x, t, observation):
                return net(x, t, observation, key=dropout_key)

            # The released code sums over the action's entries, which Adam does not notice.
            return self.denoising_loss(dropped, batch, noise_key).mean()

        actor, error = state.actor.minimise(loss, self.optimiser)
        critic, metrics = self.learn_v(state.critic, batch)
        critic, more = self.learn_implicit_q(critic, batch)
        state = State(actor, ema(state.ema, actor.params, self.ema_decay), critic)
        return state, metrics | more | {"diffusion_loss": error}

    def behaviour_network(self, state: State):
        return state.ema

    def choose(self, state, spec, observation, key):
        draw_key, pick_key = jax.random.split(key)
        if self.candidates == 1:
            return self.sample(state.ema, observation, key, (*observation.shape[:-1], spec.action_dim))
        actions = self.sample_candidates(state.ema, observation, draw_key, self.candidates, spec.action_dim)
        advantage = state.critic.advantage(observation[:, None], actions)
        if self.selection == "argmax":
            return select(actions, advantage)
        weight = IMPLICIT_LOSSES[self.implicit_loss].weight(advantage, self.statistic)
        return take(actions, jax.random.categorical(pick_key, jnp.log(weight)))
