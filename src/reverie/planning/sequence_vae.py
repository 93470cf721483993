"""A variational autoencoder of windows: what several actions in a row have in common, as one short vector."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.networks import LSTM, MLP, Linear
from reverie.networks.layers import Draw, concatenate
from reverie.rl import Normal, NormalActor


class SequenceVAE(eqx.Module):
    """q(z | window), p(z | its first observation) and the actions p(a | s, z), all Gaussian (Venkatraman et al. 2024,
    section 4.1). The encoder reads the window in both directions; the decoder sees the latest observation only."""

    ahead: LSTM
    back: LSTM
    posterior: Linear
    prior: MLP
    decoder: NormalActor

    def __init__(
        self, key, observation_dim: int, action_dim: int, latent_dim: int, *, width: int, hidden: tuple[int, ...]
    ):
        draw, row = Draw.of(key), observation_dim + action_dim
        self.ahead, self.back = LSTM(draw, row, width), LSTM(draw, row, width)
        self.posterior = Linear(draw, 2 * width, 2 * latent_dim)
        self.prior = MLP(draw, observation_dim, 2 * latent_dim, hidden=hidden, activation=jax.nn.relu)
        self.decoder = NormalActor(draw, observation_dim + latent_dim, action_dim, hidden=hidden)

    def encode(self, observations, actions) -> Normal:
        """Of windows `[..., H, observation]` and `[..., H, action]`: z `[..., latent]`."""
        rows = concatenate(observations, actions)
        ends = [lstm.sequence(x)[1][0] for lstm, x in ((self.ahead, rows), (self.back, rows[..., ::-1, :]))]
        return _normal(self.posterior(concatenate(*ends)))

    def decode(self, observation, z) -> Normal:
        """Actions `[..., action]` for observations and latents `[..., latent]`."""
        return self.decoder(concatenate(observation, z))

    def loss(self, observations, actions, mask, key, beta: float) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The negative evidence lower bound of the windows' actions, with the divergence weighted by `beta`, divided by
        the rows where the mask `[B, H]` is 1. A scalar, and its parts in nats: the actions' negative log-likelihood, a
        row, and the divergence of q(z | window) from p(z | s_0), a window.

        A window has one z for all its rows, so that its divergence is divided by their number, as in the released code.
        """
        posterior, prior = self.encode(observations, actions), _normal(self.prior(observations[..., 0, :]))
        z = posterior.sample(key)[..., None, :]
        likelihood = self.decode(observations, z).log_prob(actions)
        rows, divergence = jnp.maximum(mask.sum(), 1), posterior.kl_divergence(prior)
        reconstruction = -(mask * likelihood).sum() / rows
        parts = {"reconstruction_loss": reconstruction, "divergence": divergence.mean()}
        return reconstruction + beta * divergence.sum() / rows, parts


def _normal(out) -> Normal:
    mean, log_std = jnp.split(out, 2, -1)
    return Normal(mean, jnp.exp(jnp.clip(log_std, -5, 2)))
