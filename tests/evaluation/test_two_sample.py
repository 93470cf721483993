"""The classifier two-sample test: it sees what differs, and nothing where nothing does."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec
from reverie.errors import DataError, ReverieError
from reverie.evaluation import two_sample
from reverie.training import Run


def data(n=8000):
    """Two ways to act, +-0.5 x with the sign of a coin."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, size=(n, 1))
    actions = 0.5 * x * rng.choice([-1, 1], size=(n, 1)) + 0.05 * rng.normal(size=(n, 1))
    return Dataset.from_arrays(x, actions, timeouts=np.arange(n) % 10 == 9, action_low=-2.0, action_high=2.0)


@dataclass(frozen=True)
class Actor:
    kind: str
    name: str = "actor"

    def reset(self, spec, n, wishes):
        return ()

    def act(self, state, spec, observation, carry, feedback, key):
        sign_key, noise_key, x_key = jax.random.split(key, 3)
        x = observation
        if self.kind == "marginal":  # right on the whole, but of another observation
            x = jax.random.permutation(x_key, observation)
        sign = 2.0 * jax.random.bernoulli(sign_key, shape=x.shape) - 1
        noise = jax.random.normal(noise_key, x.shape)
        return (0.5 * x * noise if self.kind == "gaussian" else 0.5 * x * sign + 0.05 * noise), carry


def judged(kind, seeds=1) -> Any:
    run = Run(Actor(kind), Spec.fit(data()), jnp.zeros((seeds, 1)), 1, tuple(range(seeds)))
    return two_sample(run, data(), rows=2000, updates=250)


def test_the_same_distribution_is_not_distinguished():
    found = judged("true")
    assert np.abs(found.accuracy - 0.5).max() < 4 * found.noise


@pytest.mark.parametrize(("kind", "least"), [("gaussian", 0.7), ("marginal", 0.6)])
def test_a_gaussian_and_a_wrong_dependence_are(kind, least):
    assert judged(kind).accuracy.min() > least


def test_too_many_rows_are_refused():
    with pytest.raises(ReverieError, match="rows = 3000: 12000 steps are needed and the data has 8000"):
        two_sample(None, data(), rows=3000)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            {"observations": {"at": np.zeros((8, 2))}},
            r"observations are a dictionary .*; the two-sample test needs",
        ),
        (
            {"observations": np.zeros((8, 2, 3))},
            "observations are several agents' .*; the two-sample test needs",
        ),
        ({"actions": np.zeros((8, 2, 1))}, r"The actions are several agents.*: give such actions\.$"),
    ],
)
def test_what_is_no_vector_is_refused_in_a_sentence_about_the_test(other, sentence):
    arrays = {"observations": np.zeros((8, 2)), "actions": np.zeros((8, 1))} | other
    with pytest.raises(DataError, match=sentence):
        two_sample(None, Dataset.from_arrays(**arrays, timeouts=np.arange(8) == 7), rows=2)
