"""How well a policy's actions can be told from the data's: a classifier two-sample test (Lopez-Paz & Oquab 2017)."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset
from reverie.data.fields import dimension
from reverie.errors import ReverieError
from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.scores import Interval, bootstrap
from reverie.learning import Optimised, optimiser
from reverie.networks import MLP


@dataclass(frozen=True)
class TwoSample:
    """Accuracy on pairs (observation, action) that the classifier has not seen: 1/2 where the policy acts as the data
    do, 1 where every action betrays it."""

    accuracy: np.ndarray
    """Of each seed `[S]`."""
    rows: int
    """Pairs of each kind that were judged."""

    @property
    def mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def noise(self) -> float:
        """Standard deviation of one seed's accuracy where the two cannot be distinguished."""
        return 0.5 / np.sqrt(2 * self.rows)

    @property
    def seeds(self) -> Interval:
        return bootstrap(self.accuracy)


def two_sample(
    run: Any, data: Dataset, rows: int = 10_000, updates: int = 2000, seed: int = 0, blur: float = 0.0
) -> TwoSample:
    """Judge a run's actions in observations of the data, against the data's actions in others.

    `rows` pairs of each kind train a classifier (an MLP, 2 x 256) for `updates` updates, and as many judge it. A policy
    that has a mean and a spread must be asked for samples (`run.acting(stochastic=True)`). Noise on both, of standard
    deviation `blur` (in the actions' units), hides what is finer, such as actions of exactly 1 where data were clipped.

    Raises ReverieError where the data has fewer than 4 `rows`, or rows < 1, and DataError where its observations or
    actions are not vectors.
    """
    for what, space in (("observations", data.observation_space), ("actions", data.action_space)):
        dimension(what, space, "the two-sample test")
    if rows < 1 or 4 * rows > len(data):
        raise ReverieError(f"rows = {rows}: {4 * rows} steps are needed and the data has {len(data)}; give fewer rows")
    policy = RunPolicy(run, seed)
    seeds = len(run.seeds)
    chosen = np.random.default_rng(seed).permutation(len(data))[: 4 * rows]
    real, asked = chosen[: 2 * rows], chosen[2 * rows :]
    policy.reset(seeds * len(asked))
    acted = policy.act(np.tile(data.observations[asked], (seeds, 1))).reshape(seeds, len(asked), -1)

    noise = np.random.default_rng([seed, 1])
    own_actions, real_actions = (x + blur * noise.normal(size=x.shape) for x in (acted, data.actions[real]))
    mean, std = (f(np.concatenate([data.observations, data.actions], 1), axis=0) for f in (np.mean, np.std))
    data_pairs = np.concatenate([data.observations[real], real_actions], 1)
    own_pairs = np.stack([np.concatenate([data.observations[asked], actions], 1) for actions in own_actions])
    std = np.where(std > 0, std, 1)
    accuracy = _accuracies((data_pairs - mean) / std, (own_pairs - mean) / std, jax.random.key(seed), updates)
    return TwoSample(np.asarray(accuracy), rows)


@partial(jax.jit, static_argnames="updates")
def _accuracies(real: jax.Array, own: jax.Array, key: jax.Array, updates: int) -> jax.Array:
    """Held-out accuracies `[S]` of classifiers of real `[2n, d]` and own `[S, 2n, d]`; the first halves train."""
    half, by = len(real) // 2, optimiser(1e-3, schedule="cosine", steps=updates)
    labels = jnp.concatenate([jnp.zeros(half), jnp.ones(half)])

    def judge(own):
        train = jnp.concatenate([real[:half], own[:half]])
        test = jnp.concatenate([real[half:], own[half:]])

        def update(net, key):
            index = jax.random.randint(key, (512,), 0, len(train))

            def loss(net):
                logit = net(train[index])[:, 0]
                return (jax.nn.softplus(logit) - labels[index] * logit).mean()

            return net.minimise(loss, by)

        net = Optimised.create(MLP(jax.random.fold_in(key, 1), real.shape[1], 1, activation=jax.nn.relu), by)
        net, _ = jax.lax.scan(update, net, jax.random.split(key, updates))
        return ((net.params(test)[:, 0] > 0) == (labels > 0.5)).mean()

    return jax.lax.map(judge, own)
