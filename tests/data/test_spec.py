"""What a specification fits, and that it comes back from disk bit for bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import CDF, Dataset, Gaussian, Identity, MinMax, Spec
from reverie.errors import DataError, RunError


def data():
    draw = np.random.default_rng(1)
    return Dataset.from_arrays(
        draw.normal(size=(40, 3)),
        draw.uniform(-2, 2, size=(40, 2)),
        draw.normal(size=40),
        timeouts=np.arange(40) % 10 == 9,
        infos={"goal": draw.normal(size=(40, 2))},
        action_low=[-2, -3],
        action_high=2,
    )


def test_fit_takes_sizes_bounds_and_normalisers_from_the_data():
    spec = Spec.fit(data(), observations=Gaussian, actions=MinMax, rewards=Gaussian, goal=CDF)
    assert (spec.observation_dim, spec.action_dim) == (3, 2)
    np.testing.assert_array_equal(spec.action_low, [-2, -3])
    np.testing.assert_array_equal(spec.action_high, [2, 2])
    np.testing.assert_array_equal(spec.normalisers["observations"].mean, Gaussian.fit(data().observations).mean)
    assert spec.normalisers["rewards"].mean.shape == (1,)
    assert spec.normalisers["goal"].values.shape[0] == 2
    np.testing.assert_allclose(spec.normalise("actions", data().actions).max(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(spec.normalise("unknown", np.ones(2)), np.ones(2))


def test_fit_says_what_is_missing():
    with pytest.raises(DataError, match="no 'costs' to normalise; it has action_high, action_low, actions, goal"):
        Spec.fit(data(), costs=Gaussian)


def test_save_and_load_bit_for_bit(tmp_path):
    spec = Spec.fit(data(), observations=CDF, actions=MinMax, rewards=Gaussian, goal=Identity)
    spec = replace(spec, kept={"observations": jnp.asarray(data().observations), "ends": jnp.zeros(3, bool)})
    spec.save(tmp_path / "spec")
    loaded = Spec.load(tmp_path / "spec")
    assert jax.tree.structure(loaded) == jax.tree.structure(spec)
    for before, after in zip(jax.tree.leaves(spec), jax.tree.leaves(loaded), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(np.asarray(before).view(np.uint8), np.asarray(after).view(np.uint8))


@pytest.mark.parametrize("damage", ["json", "npz", "cut"])
def test_an_incomplete_specification_is_named(tmp_path, damage):
    Spec.fit(data(), observations=Gaussian).save(tmp_path / "spec")
    if damage == "cut":
        (tmp_path / "spec.npz").write_bytes((tmp_path / "spec.npz").read_bytes()[:100])
    else:
        (tmp_path / f"spec.{damage}").unlink()
    with pytest.raises(RunError, match=r"spec' .* is no complete specification"):
        Spec.load(tmp_path / "spec")


def test_a_specification_passes_through_jit():
    spec = Spec.fit(data(), observations=Gaussian)
    x = data().observations
    jitted = jax.jit(lambda spec, x: spec.normalise("observations", x))(spec, x)
    np.testing.assert_allclose(jitted, spec.normalise("observations", x), rtol=1e-5, atol=1e-6)
