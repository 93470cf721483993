"""DAC (Fang et al. 2025, "Diffusion Actor-Critic: Formulating Constrained Policy Iteration as Diffusion Noise
Regression for Offline Reinforcement Learning").

The best policy near the behaviour has the behaviour's score plus Q's gradient, so that it is learned as a regression of
noise, at one noise level at once: no gradient goes through the denoising chain.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import EMA, SolverName
from reverie.data import Spec
from reverie.diffusion.process import expand
from reverie.learning import Optimised
from reverie.networks import mish
from reverie.rl import ActorCritic, BackboneActor, Critic, lower_bound, magnitude, select
from reverie.settings import Acting, Count, Limit, Natural, NonNegative

LEAST, LARGEST = 0.001, 100.0
"""Bounds of eta."""


class State(eqx.Module):
    actor: Optimised
    ema: Any
    """Of the actor, which gives the next actions of td_target; the live actor acts."""
    critic: Critic
    eta: jax.Array
    step: jax.Array


@dataclass(frozen=True)
class DAC(EMA, BackboneActor, ActorCritic):
    """DAC: a diffusion policy whose noise is regressed on the data's less Q's gradient."""

    name: ClassVar = "dac"
    paper: ClassVar = "Fang et al. 2025"
    activation: ClassVar[Any] = staticmethod(mish)

    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    critics: Annotated[int, Limit(2)] = 10
    """Q networks."""
    rho: NonNegative = 1.0
    """Standard deviations among the critics that td_target is below their mean; in the paper 0 to 1.5 a task."""
    eta: Annotated[float, Limit(LEAST, LARGEST)] = 1.0
    """Weight of the behaviour cloning loss, against Q in units of its mean magnitude, at the beginning: the guidance
    has the scale 1 / (2 eta)."""
    eta_learning_rate: NonNegative = 0.001
    """Step size of eta's dual ascent; 0 for an eta that stays, as the paper's in AntMaze."""
    bc_threshold: NonNegative = 1.0
    """What the behaviour cloning loss is held at, where eta learns: of unit noise it is 0 to 1, and with more the
    policy leaves the behaviour. 0.05 to 1 a task in the paper."""
    backup_actions: Count = 10
    """Next actions of td_target."""
    backup: Literal["mean", "max"] = "mean"
    """What is taken of each critic's values of them; the paper's in AntMaze is the largest."""
    gradient_clip: NonNegative = 1.0
    """Largest norm of the actor's gradient, and of the critics'; 0 for any."""
    ema_every: Count = 5
    """Updates between two steps of the average."""
    ema_start: Natural = 1000
    """Updates during which the average is a copy."""
    candidates: Acting[Count] = 10
    """Actions drawn to act, of which the best by the target critics' mean is taken."""
    solver: Acting[SolverName] = "ddpm-beta"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS. The released code's noise has variance beta."""

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        net, eta = self.network(actor_key, spec), jnp.asarray(self.eta, jnp.float32)
        actor = Optimised.create(net, self.optimiser)
        return State(actor, net, self.init_critic(critic_key, spec), eta, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        next_key, actor_key = jax.random.split(key)
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, next_key))

        def loss(net):
            bc_loss, guidance_loss = self.actor_losses(net, critic, batch, actor_key)
            return state.eta * bc_loss + guidance_loss, bc_loss

        (_, bc_loss), gradient = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        actor = state.actor.apply(gradient, self.optimiser)
        # By the loss of before the actor's step, where the released code evaluates once more after it.
        ascent = self.eta_learning_rate * jnp.clip(bc_loss - self.bc_threshold, -1, 1)
        eta = jnp.clip(state.eta + ascent, LEAST, LARGEST)
        ema = self.averaged(state.ema, actor.params, state.step)
        metrics |= {"diffusion_loss": bc_loss, "eta": eta}
        return State(actor, ema, critic, eta, state.step + 1), metrics

    def next_value(self, state: State, batch, key) -> jax.Array:
        """The target critics' lower bound of the next actions' value: `[B]`."""
        s = batch["next_observations"]
        actions = self.sample_candidates(state.ema, s, key, self.backup_actions, batch["actions"].shape[-1])
        values = state.critic.target(s[:, None], actions)
        return lower_bound(values.max(-1) if self.backup == "max" else values.mean(-1), self.rho)

    def actor_losses(self, net, critic: Critic, batch, key):
        """The behaviour cloning loss, and what moves the predicted noise against Q's gradient: together they are
        smallest at E[eps | a_t] - sigma_t grad Q / (2 eta |Q|). The critics have never learned of noisy actions."""
        s, a = batch["observations"], batch["actions"]
        noisy, t, noise = self.process.noised(key, a)
        slope = jax.grad(lambda actions: critic.target(s, actions).mean(0).sum())(noisy)
        size = magnitude(critic.target(s, a))
        predicted = self.process.network(net, noisy, t, s)
        guidance = expand(self.process.sigma(t), a) * slope / size
        return jnp.square(predicted - noise).mean(), (guidance * predicted).mean()

    def behaviour_network(self, state: State):
        return state.actor.params

    def choose(self, state: State, spec: Spec, observation, key):
        actions = self.sample_candidates(state.actor.params, observation, key, self.candidates, spec.action_dim)
        return select(actions, state.critic.target(observation[..., None, :], actions).mean(0))
