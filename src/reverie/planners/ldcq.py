"""LDCQ (Venkatraman et al. 2024, "Reasoning with Latent Diffusion in Offline Reinforcement Learning").

Three trainings, one after another: a variational autoencoder of windows; the latents that the data has in a state, by
diffusion; and Q of a state and a latent, which looks a whole window ahead, with the best of several such latents next.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Adam, Sampling
from reverie.data import Dataset, Gaussian, MinMax, Spec
from reverie.diffusion import Process, sample, vp_cosine
from reverie.learning import Optimised, Stage, ema, map_rows, optimiser
from reverie.networks import DenoisingMLP
from reverie.planning import Plan, replan
from reverie.planning.segments import Segments, segment_returns
from reverie.planning.sequence_vae import SequenceVAE
from reverie.protocols import Actor, Feedback
from reverie.rl import Critic, QNetwork, select
from reverie.settings import Acting, Count, Fraction, LearningRate, Natural, NonNegative
from reverie.wishes import Wishes


class State(eqx.Module):
    vae: Optimised
    prior: Optimised
    prior_ema: DenoisingMLP
    """Which draws."""
    critic: Critic


def capped_snr(process: Process, t) -> jax.Array:
    """min(SNR, 5) at times t (Hang et al. 2023): what is hardly a latent any more weighs little."""
    return jnp.minimum(jnp.exp(2 * process.log_snr(t)), 5)


@dataclass(frozen=True)
class LDCQ(Sampling, Adam, Actor):
    """LDCQ: latents of windows as the data has them, chosen by Q and decoded step by step."""

    name: ClassVar = "ldcq"
    role: ClassVar = "planner"
    paper: ClassVar = "Venkatraman et al. 2024"
    needs: ClassVar = ("rewards", "terminals")

    horizon: Count = 30
    """Steps of a window."""
    latent_dim: Count = 16
    """Numbers of a latent."""
    beta: NonNegative = 0.05
    """Weight of the divergence of a window's latent from what its first state tells of it, in the evidence lower bound
    of the window's actions; 1 is the bound itself. The released code's 0.05; 1 in its mazes."""
    width: Count = 256
    """Of the encoder's two recurrent networks."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the decoder's and the prior's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    vae_updates: Count = 100_000
    """Updates of the first stage, which learns the autoencoder."""
    prior_updates: Count = 200_000
    """Updates of the second stage, which learns the prior; the third, of all that follow, learns Q."""
    learning_rate: LearningRate = 5e-5
    """Adam's step size for the autoencoder."""
    prior_learning_rate: LearningRate = 1e-4
    """Adam's step size for the prior."""
    critic_learning_rate: LearningRate = 1e-3
    """Adam's step size for the critics."""
    critic_gradient_clip: NonNegative = 1.0
    """Largest norm of the critics' gradient; 0 for any."""
    ema_decay: Fraction = 0.995
    """Of the prior's average, which draws latents, and moves in every update."""
    diffusion_steps: Count = 100
    """Noise levels."""
    discount: Fraction = 0.995
    """Of a reward one step later."""
    tau: Fraction = 0.005
    """How far the target critics move towards the critics in an update."""
    support: Count = 16
    """Latents of the prior for every window's last state, drawn once, of which the best by Q is what comes next."""
    candidates: Acting[Count] = 50
    """Latents drawn to act, of which the best by Q is decoded."""
    replan_interval: Acting[Natural] = 10
    """Steps for which a latent is decoded; 0 for as many as a window has."""

    @property
    def process(self) -> Process:
        return vp_cosine(self.diffusion_steps, prediction="x0")

    @property
    def prior_optimiser(self):
        return optimiser(self.prior_learning_rate, clip=self.gradient_clip or None)

    @property
    def critic_optimiser(self):
        return optimiser(self.critic_learning_rate, clip=self.critic_gradient_clip or None)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage(self.learn_vae, self.vae_updates),
            Stage(self.learn_prior, self.prior_updates),
            Stage(self.learn_q, derive=self.derive_supports),
        )

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or Spec.fit(data, observations=Gaussian, actions=MinMax)
        return Segments.of(data, spec, self.horizon), spec

    def autoencoder(self, key, spec: Spec) -> Any:
        sizes = (spec.observation_dim, spec.action_dim, self.latent_dim)
        return SequenceVAE(key, *sizes, width=self.width, hidden=self.hidden)

    def init(self, key, spec: Spec) -> State:
        vae_key, prior_key, critic_key = jax.random.split(key, 3)
        vae = self.autoencoder(vae_key, spec)
        prior = DenoisingMLP(prior_key, self.latent_dim, spec.observation_dim, hidden=self.hidden)
        q = QNetwork(critic_key, spec.observation_dim, self.latent_dim, hidden=self.critic_hidden)
        critic = Critic(Optimised.create(q, self.critic_optimiser), q)
        learners = Optimised.create(vae, self.optimiser), Optimised.create(prior, self.prior_optimiser)
        return State(*learners, prior, critic)

    def learn_vae(self, state: State, batch, key):
        def loss(vae):
            return vae.loss(*self.steps(batch), batch["mask"][:, :-1], key, self.beta)

        gradient, metrics = jax.grad(loss, has_aux=True)(state.vae.params)
        return replace(state, vae=state.vae.apply(gradient, self.optimiser)), metrics

    def steps(self, batch) -> tuple[jax.Array, jax.Array]:
        """The windows' observations and actions `[B, H, ...]`, without the row in which the next window begins."""
        return batch["observations"][:, :-1], batch["actions"][:, :-1]

    def latents(self, state: State, batch) -> jax.Array:
        """The windows' `[B, latent]`: the encoder's means."""
        return state.vae.params.encode(*self.steps(batch)).mean

    def learn_prior(self, state: State, batch, key):
        """Denoising of the windows' latents, given the first state, by x0's error weighted by min(SNR, 5)."""
        z, weight = self.latents(state, batch), partial(capped_snr, self.process)
        prior, loss = state.prior.minimise(
            lambda net: self.process.loss(net, z, key, batch["observations"][:, 0], weight=weight).mean(),
            self.prior_optimiser,
        )
        average = ema(state.prior_ema, prior.params, self.ema_decay)
        return replace(state, prior=prior, prior_ema=average), {"diffusion_loss": loss}

    def draw(self, prior, observation, key, n: int) -> jax.Array:
        """n latents for each observation `[B, observation]`: `[B, n, latent]`."""
        denoiser = self.process.denoiser(prior, observation[:, None])
        shape = (len(observation), n, self.latent_dim)
        return sample(self.process, denoiser, key, shape, nfe=self.nfe or self.diffusion_steps, solver=self.solver)

    def derive_supports(self, state: State, view: Segments, key) -> dict[str, Any]:
        def draw(observations, key):
            return self.draw(state.prior_ema, observations, key, self.support)

        return {"support": map_rows(draw, view.last_observations, key)}

    def learn_q(self, state: State, batch, key):
        """Q(s, z) learns the window's rewards and the value of the state that it leads to: of the latent of the support
        that the critics in training like best, by the target critics (algorithm 1, with double Q-learning)."""
        z = self.latents(state, batch)
        s, s_next, support = batch["observations"][:, 0], batch["observations"][:, -1, None], batch["support"]
        critic = state.critic
        best = select(support, critic.online.params(s_next, support).min(0))
        value = critic.target(s_next[:, 0], best).min(0)
        rewards, discount, steps = segment_returns(batch["rewards"], batch["terminals"], batch["mask"], self.discount)
        td_target = rewards + discount * value
        told = steps > 0  # all but the last known state of a cut episode, whose target would be its own value

        def loss(q):
            error = jnp.square(q(s, z) - td_target).sum(0)
            return (told * error).sum() / jnp.maximum(told.sum(), 1)

        online, error = critic.online.minimise(loss, self.critic_optimiser)
        critic = Critic(online, ema(critic.target, online.params, 1 - self.tau))
        return replace(state, critic=critic), {"q_loss": error, "td_target": td_target.mean()}

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Plan:
        return Plan.none(n, 1, self.latent_dim)

    def act(self, state: State, spec: Spec, observation, carry: Plan, feedback: Feedback, key):
        """The decoder's mean for the latent that was chosen last."""
        s = spec.normalise("observations", observation)

        def anew(rows):
            z = self.draw(state.prior_ema, s, key, self.candidates)
            return select(z, state.critic.online.params(s[:, None], z).min(0))[:, None]

        latent = replan(carry.rows, (carry.step % (self.replan_interval or self.horizon) == 0, anew))
        action = spec.denormalise("actions", state.vae.params.decode(s, latent[:, 0]).mean)
        return jnp.clip(action, spec.action_low, spec.action_high), Plan(latent, carry.step + 1)
