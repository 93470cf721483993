"""Values of noisy windows: their units, and the loss by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, rewards_to_go
from reverie.diffusion import vp_cosine
from reverie.planning import noisy_value_loss, return_units

PROCESS = vp_cosine(4, prediction="x0")


def test_units_are_those_of_the_discounted_returns_to_go():
    """Two episodes, of which the first ends by a terminal: 1 + 0.5 (2 - 8), 2 - 8, 3 + 0.5 4, 4."""
    data = Dataset.from_arrays(
        *(np.zeros((4, 1)), np.zeros((4, 1)), np.array([1.0, 2, 3, 4])),
        terminals=[0, 1, 0, 0], timeouts=[0, 0, 0, 1],
    )  # fmt: skip
    returns = np.array([1 + 0.5 * (2 - 8), 2 - 8, 3 + 0.5 * 4, 4])
    np.testing.assert_allclose(rewards_to_go(data, 0.5, -8.0), returns, rtol=1e-6)
    units = return_units(data, 0.5, -8.0)
    np.testing.assert_allclose((units.mean[0], units.std[0]), (returns.mean(), returns.std()), rtol=1e-6)


@pytest.mark.parametrize("project", [None, lambda x, t: jnp.zeros_like(x)])
def test_the_loss_is_the_squared_error_at_the_noisy_windows(project):
    """Of a network that sums its window and adds its time, for the process's own times and noise."""
    key, x, returns = jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 4, 2)), jnp.arange(8.0)
    key_t, key_eps = jax.random.split(key)
    t = PROCESS.draw_times(key_t, (8,))
    noisy = PROCESS.perturb(x, t, jax.random.normal(key_eps, x.shape)).sum((1, 2)) if project is None else 0
    expected = np.square(noisy + PROCESS.time_feature(t) - returns).mean()
    found = noisy_value_loss(PROCESS, lambda x, t: x.sum((1, 2)) + t, x, returns, key, project)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
