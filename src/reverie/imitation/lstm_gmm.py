"""LSTM-GMM (Mandlekar et al. 2021): a recurrent network reads the observations, and each step's action is one of a
mixture of Gaussians.

In acting the network reads the last observations anew at every step, where robomimic keeps its state and empties it
every `observation_horizon` steps; so each action is chosen from equally much of the past. Settings and the mixture are
those of robomimic for demonstrations by people, seen as vectors.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.errors import ReverieError
from reverie.imitation.mdn import MixtureHead
from reverie.networks import LSTM, ObservationEncoder
from reverie.planning.chunks import Fitted, FittedChunks, Overlap
from reverie.rl import NormalMixture
from reverie.settings import Acting, Count, LearningRate, NonNegative, Positive


class Network(eqx.Module):
    """Observation histories `[..., T, ...]` to a mixture over each step's action, `[..., T, 1, action]`."""

    encoder: ObservationEncoder
    layers: tuple[LSTM, ...]
    head: MixtureHead

    def __call__(self, observations, key=None) -> NormalMixture:
        hidden = self.encoder(observations, key=key)
        for layer in self.layers:
            hidden, _ = layer.sequence(hidden)
        return self.head(hidden)


@dataclass(frozen=True)
class LSTMGMM(FittedChunks):
    """LSTM-GMM: actions one by one from a recurrent network, whose mixtures keep several ways apart."""

    name: ClassVar = "lstm-gmm"
    paper: ClassVar = "Mandlekar et al. 2021"

    observation_horizon: Count = 10
    """Observations that are seen: the current one and those before."""
    horizon: Count = 10
    """Actions of a chunk; here one for each observation that is seen."""
    action_horizon: Acting[Count] = 1
    """Actions that are executed of a chunk: the newest observation's."""
    mask_padding: bool = True
    """Whether actions beyond an episode's ends are left out of the loss."""
    batch_size: Count = 100
    """Rows an update."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size."""
    width: Count = 400
    """Of the recurrent layers."""
    depth: Count = 2
    """Recurrent layers."""
    components: Count = 5
    """Gaussians of the mixture."""
    smallest_std: Positive = 1e-4
    """Of a component, in units of half the actions' range."""
    noise: Acting[NonNegative] = 0.0
    """In acting, of a component's standard deviation; with 0 its mean acts, as in robomimic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon != self.observation_horizon:
            raise ReverieError(
                f"horizon = {self.horizon}, but LSTM-GMM has one action for each of its observation_horizon = "
                f"{self.observation_horizon} observations; give both the same"
            )

    def network(self, key, spec: Spec) -> Network:
        encoder_key, head_key, *keys = jax.random.split(key, 2 + self.depth)
        encoder = self.encoder(encoder_key, spec)
        inputs = [encoder.dim, *[self.width] * (self.depth - 1)]
        layers = tuple(LSTM(each, n_in, self.width) for each, n_in in zip(keys, inputs, strict=True))
        options: Any = {"components": self.components, "hidden": (), "smallest": self.smallest_std, "bounded": True}
        return Network(encoder, layers, MixtureHead(head_key, self.width, 1, spec.action_dim, **options))

    def loss(self, net: Network, batch, key) -> jax.Array:
        """Minus the mean log-likelihood of an action's entry."""
        likelihood = net(batch["observations"], key).log_prob(batch["actions"][..., None, :])
        return -self.error(batch, likelihood) / batch["actions"].shape[-1]

    def choose(self, state: Fitted, spec: Spec, observations, overlap: Overlap, key):
        return state.net.params(observations).sample(key, self.noise)[..., 0, :]
