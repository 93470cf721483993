"""Windows of states that are told of themselves, with inverse dynamics beside them (Ajay et al. 2023): what Decision
Diffuser plans by, and what DiffStitch builds its bridges of."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.learning import Optimised
from reverie.planning import conditions as given
from reverie.planning.inverse_dynamics import InverseDynamics
from reverie.planning.windows import UNetWindows
from reverie.settings import Acting, Count, Fraction, NonNegative


class ToldState(eqx.Module):
    """The networks in training, and their averages, which are used."""

    denoiser: Optimised
    denoiser_ema: given.Told
    inverse: Optimised
    inverse_ema: Any
    step: jax.Array


@dataclass(frozen=True)
class ToldStates(UNetWindows, given.Guided):
    """Of their return, or of what else a method gives its windows."""

    parts: ClassVar = ("observations",)

    horizon: Count = 100
    """Rows of a window; a multiple of 2^(levels - 1)."""
    width: Count = 128
    """Channels of the U-Net's first level, and numbers of the embedding of what is told."""
    multipliers: tuple[int, ...] = (1, 4, 8)
    """Channels of the levels, in multiples of the width."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the inverse dynamics' hidden layers."""
    discount: Fraction = 0.99
    """Of the rewards to go that windows are told."""
    termination_penalty: float = -100.0
    """Added to the last reward of an episode that ends by a terminal, in what windows are told."""
    temperature: Acting[NonNegative] = 0.5
    """Scale of all noise in sampling."""

    def cond_dim(self, spec: Spec) -> int:
        return self.width

    def inverse_dynamics(self, key, spec: Spec) -> Any:
        return InverseDynamics(key, spec.observation_dim, spec.action_dim, hidden=self.hidden)

    def init(self, key, spec: Spec) -> Any:
        net_key, told_key, inverse_key = jax.random.split(key, 3)
        net = given.Told(told_key, self.network(net_key, spec), given.condition_size(spec), self.cond_dim(spec))
        inverse = self.inverse_dynamics(inverse_key, spec)
        denoiser, actor = (Optimised.create(each, self.optimiser) for each in (net, inverse))
        return ToldState(denoiser, net, actor, inverse, jnp.zeros((), jnp.int32))

    def update(self, state: Any, batch, key) -> tuple[Any, dict[str, jax.Array]]:
        """Algorithm of section 4.2: both losses of the same windows. Neither network is in the other's loss."""
        noise_key, told_key = jax.random.split(key)
        condition = given.told(batch, told_key, self.told, state.denoiser_ema.size)
        denoiser, loss = state.denoiser.minimise(
            lambda net: self.denoising_loss(net, batch, noise_key, condition), self.optimiser
        )
        inverse, error = state.inverse.minimise(
            lambda net: net.loss(batch["observations"], batch["actions"], batch["mask"]), self.optimiser
        )
        averages = {
            "denoiser_ema": self.averaged(state.denoiser_ema, denoiser.params, state.step),
            "inverse_ema": self.averaged(state.inverse_ema, inverse.params, state.step),
        }
        state = replace(state, denoiser=denoiser, inverse=inverse, step=state.step + 1, **averages)
        return state, {"diffusion_loss": loss, "inverse_loss": error}
