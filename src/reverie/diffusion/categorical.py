"""Diffusion of tokens: a token is kept, replaced by any other, or masked, more and more of them (Austin et al. 2021,
"Structured Denoising Diffusion Models in Discrete State-Spaces"; Gu et al. 2022, VQ-Diffusion).

After step t of T a token x0 is still itself with probability kept_t, the mask with masked_t, and else drawn uniformly
from its position's tokens; a mask stays one. Such transitions are closed under products, so that whatever is computed
of them costs O(K) a token for K tokens, and a step may be as long as one likes. Kinds of tokens that share a sequence,
of videos and of actions say, have each their own number of tokens (Hu et al. 2023, "Unified Discrete Diffusion").

A denoiser is (x, t) -> the logits of x0 `[..., L, K]`, for tokens x int `[..., L]` (K is the mask) and the step t.
Guidance of denoisers (`classifier_free`, `compose`) works on logits as on any x0_hat, and is then guidance of
log-probabilities: what is constant over a position's tokens does not matter. So do hooks that hold tokens (`inpaint`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion.hooks import Hooks, chain
from reverie.diffusion.process import expand
from reverie.errors import ReverieError

TINY = 1e-14
"""A probability below is 0 and comes from rounding."""
NEVER = -1e9
"""The logarithm of 0. Infinity has no gradient in sums of logarithms."""


class Shares(NamedTuple):
    """Log-probabilities that a token is kept, that it is drawn uniformly, and that it is masked."""

    kept: Any
    uniform: Any
    masked: Any


class Steps(NamedTuple):
    """From the noisier step t back to step s < t; one of them, or rows of a table."""

    t: Any
    clean: Shares
    """Of the whole way from 0 to s."""
    noisy: Shares
    """Of the whole way from 0 to t."""
    between: Shares
    """Of the way from s to t, for a token that is no mask at s."""


@dataclass(frozen=True, eq=False)
class Categorical:
    """The forward process of T steps. `absorbing`, `uniform` and `mask_and_replace` make the usual ones."""

    sizes: Any
    """How many tokens there are: one number, or one for each position, int `[L]`."""
    kept: np.ndarray
    """Probability that a token is kept after steps 0 to T, float64 `[T + 1]`: 1 at first, never more."""
    masked: np.ndarray
    """Probability that it is the mask, float64 `[T + 1]`: 0 at first, never less."""

    def __post_init__(self) -> None:
        falls = (
            self.kept[0] == 1 and self.masked[0] == 0 and (self.kept[:-1] > 0).all() and (self.masked[:-1] < 1).all()
        )
        if not falls or len(self.kept) < 2:
            raise ReverieError(
                f"kept = {self.kept} and masked = {self.masked} are no process of tokens: give 1 and 0 at step 0, and "
                "above 0 and below 1 at all but the last of at least one further step"
            )
        for name, ratio in (("kept", self._kept(1)), ("masked", self._unmasked(1))):
            if (ratio > 1 + TINY).any():
                raise ReverieError(f"{name} = {getattr(self, name)} goes back towards the data; let noise only grow")
        if (self._unmasked(1) - self._kept(1) < -1e-9).any():
            raise ReverieError(f"kept = {self.kept} and masked = {self.masked} leave less than 0 for other tokens")

    def _kept(self, apart: int) -> np.ndarray:
        return self.kept[apart:] / self.kept[:-apart]

    def _unmasked(self, apart: int) -> np.ndarray:
        return (1 - self.masked[apart:]) / (1 - self.masked[:-apart])

    @property
    def steps(self) -> int:
        """T."""
        return len(self.kept) - 1

    @property
    def largest(self) -> int:
        """K, the number of tokens of the kind that has the most."""
        return int(np.max(self.sizes))

    @property
    def mask(self) -> int:
        """The mask's number, K."""
        return self.largest

    @property
    def allowed(self) -> np.ndarray:
        """Which tokens a position has, bool `[K]` or `[L, K]`."""
        return np.arange(self.largest) < np.asarray(self.sizes)[..., None]

    def between(self, s, t) -> Steps:
        """Rows of the table, float32 of the shape of the whole numbers s < t (numpy)."""
        s, t = np.asarray(s), np.asarray(t)

        def logs(kept, unmasked) -> Shares:
            uniform = unmasked - kept
            return Shares(*(_log(p) for p in (kept, np.where(uniform < TINY, 0, uniform), 1 - unmasked)))

        clean, noisy = (logs(self.kept[at], 1 - self.masked[at]) for at in (s, t))
        ratio = self.kept[t] / self.kept[s], (1 - self.masked[t]) / (1 - self.masked[s])
        return Steps(t.astype(np.int32), clean, noisy, logs(*ratio))

    def table(self) -> Steps:
        """All single steps; row t - 1 goes from t to t - 1."""
        return self.between(np.arange(self.steps), np.arange(1, self.steps + 1))

    def perturb(self, x0, t, key) -> jax.Array:
        """x_t for tokens x0 int `[..., L]`, at steps t of x0's leading batch shape (or a scalar)."""
        kept, masked = (expand(jnp.asarray(p, jnp.float32)[t], x0) for p in (self.kept, self.masked))
        way, which = jax.random.uniform(key, (2, *x0.shape))
        return jnp.where(way < masked, self.mask, jnp.where(way < masked + kept, x0, self._drawn(which)))

    def prior(self, key, shape) -> jax.Array:
        """Where sampling starts: int32 `[..., L]`, masks and uniform tokens as after step T, of no data."""
        way, which = jax.random.uniform(key, (2, *shape))
        return jnp.where(way < self.masked[-1] / (1 - self.kept[-1]), self.mask, self._drawn(which))

    def _drawn(self, which) -> jax.Array:
        """A position's tokens with equal chances, for uniform numbers `[..., L]` in [0, 1)."""
        return jnp.floor(which * jnp.asarray(self.sizes, jnp.float32)).astype(jnp.int32)

    def log_probabilities(self, logits) -> jax.Array:
        """Of x0, normalised over each position's own tokens, `[..., L, K]`."""
        return jax.nn.log_softmax(jnp.where(self.allowed, jnp.maximum(logits, NEVER), NEVER))

    def one_hot(self, x0) -> jax.Array:
        """The log-probabilities of tokens that are known."""
        return jnp.where(x0[..., None] == jnp.arange(self.largest), 0.0, NEVER)

    def marginal(self, log_x0, shares: Shares) -> jax.Array:
        """log sum_x0 q(. | x0) p(x0) over tokens and, last, the mask: `[..., L, K + 1]` for `[..., L, K]`.

        p need not sum to 1. With `one_hot` and the shares of the way from 0 it is log q(x_t | x0).
        """
        total = jax.nn.logsumexp(log_x0, -1, keepdims=True)
        tokens = jnp.logaddexp(expand(shares.kept, log_x0) + log_x0, self._each(shares, log_x0) + total)
        return jnp.concatenate([tokens, expand(shares.masked, total) + total], -1)

    def likelihood(self, x, shares: Shares) -> jax.Array:
        """log q(x | y) for every token y, of tokens x int `[..., L]`: `[..., L, K]`."""
        here = self.one_hot(x)
        token = jnp.logaddexp(expand(shares.kept, here) + here, self._each(shares, here))
        masked = jnp.where(self.allowed, expand(shares.masked, here), NEVER)
        return jnp.where((x == self.mask)[..., None], masked, token)

    def _each(self, shares: Shares, like) -> jax.Array:
        """log-probability of any one of a position's tokens by uniform drawing."""
        share = expand(shares.uniform, like) - jnp.log(jnp.asarray(self.sizes, jnp.float32))[..., None]
        return jnp.where(self.allowed, share, NEVER)

    def reverse(self, x, log_x0, at: Steps) -> jax.Array:
        """log p(x_s | x_t) = log sum_x0 q(x_s | x_t, x0) p(x0) over tokens and the mask, `[..., L, K + 1]`.

        x: x_t, int `[..., L]`; log_x0: `[..., L, K]`; at: of x's leading batch shape, or scalars. With `one_hot(x0)`
        it is the posterior q(x_s | x_t, x0) (Austin et al. 2021, eq. 3). A token x0 that cannot have become x_t counts
        for nothing, and where that is all of them x_t stays.
        """
        seen = self.likelihood(x, at.noisy)
        weight = jnp.where(impossible(seen), NEVER, log_x0 - seen)
        stays = jnp.where((x == self.mask)[..., None], 0.0, NEVER)
        step = jnp.concatenate([self.likelihood(x, at.between), stays], -1)
        log_x = self.marginal(weight, at.clean) + step
        itself = jnp.where(x[..., None] == jnp.arange(self.largest + 1), 0.0, NEVER)
        return jnp.where(impossible(log_x).all(-1, keepdims=True), itself, log_x)

    def token_losses(self, denoiser: Callable, x0, key, *, auxiliary: float = 0.0, project: Hooks = None) -> jax.Array:
        """What each token of x0 int `[B, L]` adds to the loss, `[B, L]`, at a step that is drawn for each example.

        KL(q(x_{t-1} | x_t, x0) | p(x_{t-1} | x_t)), which at t = 1 is -log p(x0 | x_1), and `auxiliary` times
        -log p(x0 | x_t) (Austin et al. 2021, eq. 5). T times the first, summed over tokens, bounds -log p(x0), but for
        what is left of the data at step T. `project` is applied to x_t, as in-painting needs.
        """
        t_key, noise_key = jax.random.split(key)
        t = jax.random.randint(t_key, x0.shape[:1], 1, self.steps + 1)
        at = jax.tree.map(lambda row: jnp.asarray(row)[t - 1], self.table())
        x = chain(project)(self.perturb(x0, t, noise_key), t)
        log_x0, true = self.log_probabilities(denoiser(x, t)), self.one_hot(x0)
        posterior, model = self.reverse(x, true, at), self.reverse(x, log_x0, at)
        entropy = jnp.where(true == 0, log_x0, 0).sum(-1)
        return kl_divergence(posterior, model) - auxiliary * entropy

    def loss(
        self, denoiser: Callable, x0, key, *, auxiliary: float = 0.0, project: Hooks = None, mask=None
    ) -> jax.Array:
        """The mean of `token_losses` over each example's tokens, or those where `mask` is 1: `[B]`."""
        each = self.token_losses(denoiser, x0, key, auxiliary=auxiliary, project=project)
        if mask is None:
            return each.mean(-1)
        mask = jnp.broadcast_to(mask, each.shape)
        return (mask * each).sum(-1) / jnp.maximum(mask.sum(-1), 1)


def absorbing(sizes, steps: int) -> Categorical:
    """Tokens are masked, at an even rate: masked_t = t / T (Austin et al. 2021, section 3.1)."""
    masked = np.arange(_at_least_one(steps) + 1) / steps
    return Categorical(sizes, 1 - masked, masked)


def uniform(sizes, steps: int) -> Categorical:
    """Tokens are replaced, and none is masked: kept_t falls by a cosine (Hoogeboom et al. 2021)."""
    t = np.arange(_at_least_one(steps) + 1) / steps
    kept = np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)
    return Categorical(sizes, np.append(kept[:-1], 0.0), np.zeros(steps + 1))


def mask_and_replace(
    sizes,
    steps: int,
    *,
    kept: tuple[float, float] = (0.99999, 9e-6),
    masked: tuple[float, float] = (9e-6, 0.99999),
) -> Categorical:
    """Both: kept_t and masked_t go evenly from the first to the second value over the steps 1 to T (Gu et al. 2022).

    With the values of the paper's code nearly all are masked: what is left for other tokens is 1e-6 at every step.
    """

    def evenly(zero: float, ends: tuple[float, float]) -> np.ndarray:
        return np.append(zero, np.linspace(*ends[::-1], _at_least_one(steps))[::-1])

    return Categorical(sizes, evenly(1.0, kept), evenly(0.0, masked))


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise ReverieError(f"a process of {steps} steps has no step to train at; give at least 1")
    return steps


def sample_tokens(
    process: Categorical,
    denoiser: Callable,
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    nfe: int,
    temperature: float = 1.0,
    project: Hooks = None,
) -> jax.Array:
    """Draw tokens of `shape` `[..., L]`, int32, by `nfe` network function evaluations (NFE).

    denoiser: (x, t) -> logits of x0 `[..., L, K]` with a scalar step t.
    nfe: at most T; with fewer the steps are longer, and evenly so.
    temperature: of x0_hat, log p(x0 | x_t) / temperature; at 0 the likeliest token counts as certain. What is masked
        or replaced at which step remains a matter of chance.
    project: hook (x, t) -> x on the first x and after every step (`inpaint` holds tokens); or several, in order.

    Tokens of one step are drawn independently of each other, so that with few steps less is known of how they belong
    together. Raises ReverieError for an nfe below 1 or above T, and for a temperature below 0.
    """
    if not 1 <= nfe <= process.steps:
        raise ReverieError(f"nfe = {nfe} is none of 1 to {process.steps}, the steps of the process")
    if temperature < 0:
        raise ReverieError(f"temperature = {temperature} is below 0; give 1 for the model's own, 0 for its likeliest")
    times, settle = np.round(np.linspace(process.steps, 0, nfe + 1)).astype(int), chain(project)
    first_key, key = jax.random.split(key)

    def step(x, inputs):
        at, number = inputs
        log_x0 = sharpened(process.log_probabilities(denoiser(x, at.t)), temperature)
        log_x = process.reverse(x, log_x0, at)
        return settle(jax.random.categorical(jax.random.fold_in(key, number), log_x).astype(x.dtype), at.t), None

    x = settle(process.prior(first_key, shape), jnp.asarray(process.steps))
    rows = process.between(times[1:], times[:-1])
    return jax.lax.scan(step, x, (rows, np.arange(nfe)))[0]


def sharpened(log_x0, temperature: float) -> jax.Array:
    """log p / temperature, normalised; at 0 the likeliest, the first of several."""
    if temperature == 0:
        best = jnp.argmax(log_x0, -1, keepdims=True)
        return jnp.where(jnp.arange(log_x0.shape[-1]) == best, 0.0, NEVER)
    return jax.nn.log_softmax(log_x0 / temperature)


def impossible(log_p) -> jax.Array:
    """Whether a probability is 0, of any shape."""
    return log_p < NEVER / 2


def kl_divergence(log_p, log_q) -> jax.Array:
    """sum_k p_k (log p_k - log q_k), of distributions on the last axis: `[...]`."""
    p = jnp.exp(log_p)
    return jnp.where(p > 0, p * (log_p - log_q), 0).sum(-1)


def _log(p) -> np.ndarray:
    return np.where(p > 0, np.log(np.maximum(p, 1e-300)), NEVER).astype(np.float32)
