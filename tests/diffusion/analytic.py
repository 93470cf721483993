"""Gaussian mixtures, whose optimal denoiser is known in closed form: they stand in for a perfectly trained network."""

import jax
import jax.numpy as jnp
import numpy as np


class Mixture:
    """sum_k weights_k N(means_k, diag(variances_k)) in d dimensions."""

    def __init__(self, weights, means, variances):
        self.weights, self.means, self.variances = (jnp.asarray(v, jnp.float32) for v in (weights, means, variances))

    @property
    def mean(self):
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self):
        centred = self.means - self.mean
        return np.asarray(
            jnp.diag(self.weights @ self.variances) + jnp.einsum("k,ki,kj->ij", self.weights, centred, centred)
        )

    def sample(self, key, n):
        key_k, key_x = jax.random.split(key)
        k = jax.random.choice(key_k, len(self.weights), (n,), p=self.weights)
        return self.means[k] + jnp.sqrt(self.variances[k]) * jax.random.normal(key_x, (n, self.means.shape[1]))

    def _components(self, process, x, t):
        """alpha, the log responsibilities' numerators [..., k], marginal variances, and x - alpha mu."""
        alpha = process.alpha(t)
        marginal = alpha**2 * self.variances + process.sigma(t) ** 2
        away = x[..., None, :] - alpha * self.means
        log = -0.5 * (away**2 / marginal + jnp.log(2 * jnp.pi * marginal)).sum(-1) + jnp.log(self.weights)
        return alpha, log, marginal, away

    def log_density(self, process, x, t):
        return jax.scipy.special.logsumexp(self._components(process, x, t)[1], axis=-1)

    def denoiser(self, process):
        """The exact E[x0 | x_t] as (x, t) -> x0_hat, for a scalar t."""

        def denoise(x, t):
            alpha, log, marginal, away = self._components(process, x, t)
            means = self.means + alpha * self.variances / marginal * away
            return (jax.nn.softmax(log, axis=-1)[..., None] * means).sum(-2)

        return denoise


TWO_MODES = Mixture([0.7, 0.3], [[0.6, 0.5], [-1.4, -1.0]], [[0.10, 0.15], [0.08, 0.05]])
GAUSSIAN = Mixture([1.0], [[0.5, -0.3]], [[1.2, 0.5]])
