"""DSRL (Wagenmaker et al. 2025, "Steering Your Diffusion Policy with Latent Space Reinforcement Learning").

A diffusion policy that was cloned stays as it is, and is denoised without noise, so that an action is a function of the
noise it begins from. Soft actor-critic chooses that noise. Q of actions is learned from what was done; Q of noise is
distilled from it (the paper's noise-aliased variant), so that the chain is never differentiated.

Beside the released code: who acts after training takes the noise's mode, where there a sample is evaluated
(`stochastic`), and networks have two layers of 256 and ReLU, there three of 128 to 2048, a task's own, and tanh.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import SolverName
from reverie.data import Spec
from reverie.diffusion import SOLVERS
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.rl import BackboneActor, Critic, QNetwork, SoftActor, SoftActorCritic
from reverie.settings import Acting, Count, Natural, Positive


class State(eqx.Module):
    base: Any
    """The cloned policy's network, which stays as it was."""
    actor: SoftActor
    """Of the noise, in units of the magnitude."""
    critic: Critic
    """Of actions."""
    noise_critic: Optimised
    """Q of noise, in units of the magnitude."""


@dataclass(frozen=True)
class DSRL(BackboneActor, SoftActorCritic):
    """DSRL: soft actor-critic on the noise that a cloned diffusion policy begins from."""

    name: ClassVar = "dsrl"
    role: ClassVar = "policy"
    paper: ClassVar = "Wagenmaker et al. 2025"
    begins_from: ClassVar = "a run of diffusion-bc, diffusion-ql, dac or idql"

    nfe: Acting[Natural] = 0
    """Network function evaluations (NFE) for one action; 0 for one a noise level. Noise is chosen for the actions that
    it led to in training: with others than there it leads to other actions."""
    solver: Acting[SolverName] = "ddim"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS, of a solver that adds no noise. In acting as of
    `nfe`."""
    magnitude: Positive = 1.5
    """Largest entry of the noise. Below 1 the policy's common actions are all there is; much above 2 leaves them."""
    target_entropy: float | None = 0.0
    """Which the noise's is kept at, in nats of the whole noise in units of the magnitude; none for SAC's minus one a
    dimension. 0 is the released code's, of a noise that is wider."""
    actor_hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of what chooses the noise."""
    critic_layer_norm: bool = True
    """Whether the critics' hidden layers are normalised, as in the released code."""
    noise_critic_updates: Count = 1
    """Of Q of noise, for each update of Q of actions; 10 in the released code."""
    stochastic: Acting[bool] = False
    """Whether to act by a sample of the noise, as in training, or by its mode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if SOLVERS[self.solver].noisy:
            raise ReverieError(f"solver = {self.solver!r} adds noise, and the first is to decide all; choose ddim")

    @property
    def exploring(self) -> "DSRL":
        """How it acts while it collects data."""
        return replace(self, stochastic=True)

    @property
    def warming(self) -> "Unsteered":
        """How it acts before it has learned."""
        return Unsteered(**{field.name: getattr(self, field.name) for field in fields(DSRL)})

    def init(self, key, spec: Spec) -> State:
        base_key, actor_key, critic_key, noise_key = jax.random.split(key, 4)
        return State(
            self.network(base_key, spec),
            self.init_actor(actor_key, spec, self.actor_hidden),
            self.init_critic(critic_key, spec),
            Optimised.create(self.q_network(noise_key, spec), self.critic_optimiser),
        )

    def init_from(self, key, spec: Spec, other, state) -> State:
        """With the run's network. Raises RunError for a run of another kind."""
        return replace(self.init(key, spec), base=self.cloned(other, state))

    def action(self, base, observation, noise) -> jax.Array:
        """What the cloned policy does from the noise `[..., action]`, in units of the magnitude."""
        unused, start = jax.random.key(0), self.magnitude * noise
        return self.sample(base, observation, unused, noise.shape, noise=start)

    def update(self, state: State, batch, key):
        next_key, noise_key, actor_key = (jax.random.fold_in(key, i) for i in (2, 3, 4))
        s = batch["next_observations"]
        noise, _ = state.actor.policy.params(s).sample_and_log_prob(next_key)
        next_value = state.critic.target(s, self.action(state.base, s, noise)).min(0)
        critic, metrics = self.learn_q(state.critic, batch, next_value)
        noise_critic, distilled = self.learn_noise_q(state, critic.online.params, batch, noise_key)
        actor, more = self.learn_actor(state.actor, noise_critic.params, batch, actor_key)
        learned = State(state.base, actor, critic, noise_critic)
        return learned, metrics | more | {"noise_q_loss": distilled}

    def learn_noise_q(self, state: State, q: QNetwork, batch, key) -> tuple[Optimised, jax.Array]:
        """Steps towards Q of what the cloned policy does from noise N(0, I), in units of the magnitude."""

        def step(noise_critic, key):
            noise = jax.random.normal(key, batch["actions"].shape) / self.magnitude
            values = q(batch["observations"], self.action(state.base, batch["observations"], noise))

            def loss(net):
                return jnp.square(net(batch["observations"], noise) - values).mean(-1).sum()

            return noise_critic.minimise(loss, self.critic_optimiser)

        noise_critic, losses = jax.lax.scan(step, state.noise_critic, jax.random.split(key, self.noise_critic_updates))
        return noise_critic, losses.mean()

    def choose(self, state: State, spec: Spec, observation, key):
        noise = state.actor.policy.params(observation)
        return self.action(
            state.base, observation, noise.sample_and_log_prob(key)[0] if self.stochastic else noise.mode
        )


@dataclass(frozen=True)
class Unsteered(DSRL):
    """What the cloned policy does from noise N(0, I), as in the released code's warm-up."""

    def choose(self, state: State, spec: Spec, observation, key):
        noise = jax.random.normal(key, (*observation.shape[:-1], spec.action_dim))
        return self.action(state.base, observation, noise / self.magnitude)
