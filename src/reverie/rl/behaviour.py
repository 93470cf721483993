"""A diffusion model of the behaviour in continuous time, which is trained first."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.configs import SampleOptions, SolverName
from reverie.data import Spec
from reverie.diffusion import Process, vp_linear
from reverie.networks import UMLP
from reverie.settings import Acting, Count

from .diffusion_actor import DiffusionActor


@dataclass(frozen=True)
class BehaviourModel(DiffusionActor):
    """SfBC's and QGPO's: VP in continuous time with betas 0.1 to 20, DPM-Solver++ of NFE 15 (SfBC's code: order 3)."""

    # With an NFE of 15 at uniform times DPM-Solver++ overshoots narrow modes by many of their standard deviations (the
    # noise falls from 0.24 to 0.01 in one step). Uniform in log-SNR, exact samples have the modes' width.
    sampling: ClassVar[SampleOptions] = {"schedule": "log-snr"}

    behaviour_updates: Count = 600_000
    """Updates of the first stage, which learns the behaviour."""
    support: Count = 16
    """Actions of the behaviour for every observation, among which values are averaged."""
    widths: tuple[int, ...] = (512, 256, 128)
    """Of the behaviour network's narrowing half."""
    time_scale: float = 30.0
    """Standard deviation of the frequencies with which the networks see the time in [0, 1]. The paper's 30 resolves
    hundredths; 1 is smooth, and enough for a short training."""
    nfe: Acting[Count] = 15
    """Network function evaluations (NFE) for one action."""
    solver: Acting[SolverName] = "dpm++2m"
    """How actions are denoised: a name from reverie.diffusion.SOLVERS."""

    @property
    def process(self) -> Process:
        return vp_linear(0.1, 20.0, feature=lambda t: t)

    def network(self, key, spec: Spec):
        return UMLP(key, spec.action_dim, spec.observation_dim, widths=self.widths, time_scale=self.time_scale)

    def supports(self, net, observations, key, action_dim: int) -> jax.Array:
        """Actions of the behaviour, in the bounds, for observations `[B, observation]`: `[B, support, action]`."""
        return jnp.clip(self.sample_candidates(net, observations, key, self.support, action_dim), -1, 1)

    def learn_behaviour(self, state, batch, key):
        """An update of the first stage; the state's `behaviour` is the network in training."""
        behaviour, loss = state.behaviour.minimise(
            lambda net: self.denoising_loss(net, batch, key).mean(), self.optimiser
        )
        return replace(state, behaviour=behaviour), {"diffusion_loss": loss}


def tilted_mean(q, alpha: float) -> jax.Array:
    """The mean of Q `[..., support]` under the behaviour tilted by exp(alpha Q): `[...]`."""
    return (jax.nn.softmax(alpha * q) * q).sum(-1)
