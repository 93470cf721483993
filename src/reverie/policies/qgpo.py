"""QGPO (Lu et al. 2023, "Contrastive Energy Prediction for Exact Energy-Guided Diffusion Sampling in Offline RL").

Three trainings, one after another: the behaviour, by diffusion; Q of the behaviour tilted by exp(alpha Q), over actions
sampled from it once; and the energy of noisy actions, log E[exp(alpha Q) | a_t], whose gradient guides the denoising.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.diffusion import energy
from reverie.learning import Optimised, Stage, map_rows
from reverie.networks import MLP, UMLP, TimeMLP
from reverie.networks.embeddings import Fourier
from reverie.networks.layers import Draw, concatenate
from reverie.rl import ActorCritic, BehaviourModel, Critic, tilted_mean
from reverie.settings import Acting, Count, NonNegative


class Energy(eqx.Module):
    """f(a_t, t, s): a_t `[..., action]`, t a scalar or `[...]`, s `[..., observation]` -> `[...]`."""

    time: TimeMLP
    net: MLP

    def __init__(self, key, observation_dim: int, action_dim: int, *, hidden: tuple[int, ...], time_scale: float):
        draw = Draw.of(key)
        self.time = TimeMLP(draw, Fourier(draw, 32, scale=time_scale), 32, 32, activation=jax.nn.silu)
        self.net = MLP(draw, observation_dim + action_dim + 32, 1, hidden=hidden, activation=jax.nn.silu)

    def __call__(self, action, t, observation) -> jax.Array:
        return self.net(concatenate(action, observation, self.time(t)))[..., 0]


class State(eqx.Module):
    behaviour: Optimised
    critic: Critic
    energy: Optimised


@dataclass(frozen=True)
class QGPO(BehaviourModel, ActorCritic):
    """QGPO: a behaviour model, guided by an energy that is exact at every noise level."""

    name: ClassVar = "qgpo"
    paper: ClassVar = "Lu et al. 2023"

    critic_updates: Count = 500_000
    """Updates of the second stage, which learns Q; the third, of all that follow, learns the energy (1,000,000)."""
    alpha: NonNegative = 3.0
    """Inverse temperature: the policy is the behaviour times exp(alpha Q). The paper's beta; in locomotion its 3 is of
    Q by rewards of which an episode's sum spans 1000 (`rewards="returns"`)."""
    backup_alpha: NonNegative = 1.0
    """The same in the critics' targets: 1 in the command of the released code, where the paper's equation 14 has alpha.
    The more, the nearer their maximum over the support is to that of Q's errors."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    guidance_scale: Acting[NonNegative] = 1.0
    """Of the energy's gradient; the paper tries 0 to 10."""
    energy_hidden: tuple[int, ...] = (256, 256, 256, 256)
    """Widths of the energy network's hidden layers."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage(self.learn_behaviour, self.behaviour_updates),
            Stage(self.learn_critic, self.critic_updates, derive=self.next_supports),
            Stage(self.learn_energy, derive=self.supports_here),
        )

    def init(self, key, spec: Spec) -> State:
        behaviour_key, critic_key, energy_key = jax.random.split(key, 3)
        sizes = (spec.observation_dim, spec.action_dim)
        net = Energy(energy_key, *sizes, hidden=self.energy_hidden, time_scale=self.time_scale)
        behaviour: UMLP = self.network(behaviour_key, spec)
        by = self.optimiser
        return State(Optimised.create(behaviour, by), self.init_critic(critic_key, spec), Optimised.create(net, by))

    def next_supports(self, state: State, view, key) -> dict[str, Any]:
        """Actions of the behaviour after every transition."""
        return {"next_support": self.drawn(state, view.rows, "next_observations", key)}

    def supports_here(self, state: State, view, key) -> dict[str, Any]:
        """Actions of the behaviour where every transition begins."""
        return {"support": self.drawn(state, view.rows, "observations", key)}

    def drawn(self, state: State, rows, of: str, key) -> jax.Array:
        net, size = state.behaviour.params, rows["actions"].shape[-1]
        return map_rows(lambda observations, key: self.supports(net, observations, key, size), rows[of], key)

    def learn_critic(self, state: State, batch, key):
        """V(s') is Q's mean under a tilted behaviour, by importance over the support (eq. 14)."""
        q = state.critic.target(batch["next_observations"][:, None], batch["next_support"]).min(0)
        critic, metrics = self.learn_q(state.critic, batch, tilted_mean(q, self.backup_alpha))
        return replace(state, critic=critic), metrics

    def learn_energy(self, state: State, batch, key):
        net, loss = state.energy.minimise(lambda net: self.energy_loss(net, state.critic, batch, key), self.optimiser)
        return replace(state, energy=net), {"energy_loss": loss}

    def energy_loss(self, net, critic: Critic, batch, key) -> jax.Array:
        """Cross-entropy between exp(alpha Q) and exp f over each state's noised support, of one time (eq. 12)."""
        s, support = batch["observations"][:, None], batch["support"]
        noisy, t, _ = self.process.noised(key, support)
        wanted = jax.nn.softmax(self.alpha * critic.target(s, support).min(0))
        predicted = jax.nn.log_softmax(net(noisy, t[:, None], s))
        return -(wanted * predicted).sum(-1).mean()

    def choose(self, state, spec, observation, key):
        denoiser = self.process.denoiser(state.behaviour.params, observation)

        def log_tilt(x, t):
            return state.energy.params(x, t, observation)

        guided = energy(self.process, denoiser, log_tilt, self.guidance_scale)
        return self.denoise(guided, key, (*observation.shape[:-1], spec.action_dim))
