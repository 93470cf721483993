"""What a specification fits, and that it comes back from disk bit for bit."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_sets import camera

from reverie.data import CDF, Dataset, Field, Gaussian, Identity, MinMax, Spec
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


def of_vectors():
    spec = Spec.fit(data(), observations=CDF, actions=MinMax, rewards=Gaussian, goal=Identity)
    return replace(spec, kept={"observations": jnp.asarray(data().observations), "ends": jnp.zeros(3, bool)})


def of_a_dictionary():
    spec = Spec.fit(camera(), observations=Gaussian, actions=MinMax, next_observations=CDF)
    return replace(spec, kept={"observations": jax.tree.map(jnp.asarray, camera().observations)})


@pytest.mark.parametrize("made", [of_vectors, of_a_dictionary])
def test_save_and_load_bit_for_bit(tmp_path, made):
    spec = made()
    spec.save(tmp_path / "spec")
    loaded = Spec.load(tmp_path / "spec")
    assert (loaded.observation, loaded.action) == (spec.observation, spec.action)
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


def test_files_of_before_there_were_fields_are_read(tmp_path):
    spec = of_vectors()
    spec.save(tmp_path / "spec")
    plain = json.loads((tmp_path / "spec.json").read_text())
    plain = {"observation_dim": 3, "action_dim": 2, "normalisers": plain["normalisers"]}
    (tmp_path / "spec.json").write_text(json.dumps(plain))
    assert jax.tree.structure(Spec.load(tmp_path / "spec")) == jax.tree.structure(spec)


# Dictionaries and agents


def test_every_vector_of_a_dictionary_is_fitted_and_images_and_tokens_are_left():
    spec = Spec.fit(camera(), observations=Gaussian, next_observations=MinMax, actions=MinMax)
    assert set(spec.normalisers) == {"observations/state", "next_observations/state", "actions"}
    seen = camera().observations
    units = spec.normalise("observations", seen)
    alone = Gaussian.fit(seen["state"])
    np.testing.assert_array_equal(units["state"], alone(seen["state"]))
    for name in ("front", "sentence"):
        assert units[name].dtype == seen[name].dtype
        np.testing.assert_array_equal(units[name], seen[name])
    back = spec.denormalise("observations", units)
    np.testing.assert_allclose(back["state"], seen["state"], atol=1e-6)
    np.testing.assert_array_equal(spec.normalise("observations/state", seen["state"]), units["state"])
    window = spec.normalise("observations", jax.tree.map(lambda x: x[None, :, None], seen))
    np.testing.assert_array_equal(window["state"][0, :, 0], units["state"])


def test_one_entry_can_be_named_and_one_that_is_no_vector_is_left():
    assert set(Spec.fit(camera(), **{"observations/state": CDF}).normalisers) == {"observations/state"}
    assert not Spec.fit(camera(), **{"observations/front": CDF}).normalisers


def test_images_alone_are_left():
    pictures = np.ones((5, 4, 4, 1), np.uint8)
    spec = Spec.fit(camera(observations=pictures, next_observations=None), observations=Gaussian)
    assert not spec.normalisers
    assert spec.normalise("observations", pictures).dtype == np.uint8


def test_agents_share_their_statistics():
    draw = np.random.default_rng(0)
    seen, acted = draw.normal(size=(40, 3, 2)), draw.uniform(-1, 1, (40, 3, 1))
    several = Dataset.from_arrays(seen, acted, timeouts=np.arange(40) == 39)
    spec = Spec.fit(several, observations=Gaussian, actions=MinMax)
    np.testing.assert_allclose(spec.normalisers["observations"].mean, seen.mean(axis=(0, 1)), atol=1e-6)
    assert spec.normalisers["actions"].low == several.actions.min()
    assert spec.normalise("observations", several.observations).shape == (40, 3, 2)
    assert spec.action_low.shape == spec.action.shape == (3, 1)
    with pytest.raises(DataError, match="several agents' vectors"):
        spec.observation_dim  # noqa: B018


def test_a_dictionarys_specification_is_static_but_for_its_arrays():
    spec, compiled = of_a_dictionary(), []

    @jax.jit
    def units(spec, seen):
        compiled.append(hash((spec.observation, spec.action)))
        return spec.normalise("observations", seen)

    seen = camera().observations
    for each in (spec, replace(spec, normalisers=dict(spec.normalisers))):
        np.testing.assert_allclose(units(each, seen)["state"], spec.normalise("observations", seen)["state"], atol=1e-5)
    assert len(compiled) == 1
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(spec))


def test_sizes_may_be_given_as_numbers_fields_or_dictionaries():
    given = (-jnp.ones(1), jnp.ones(1), {})
    assert Spec(2, 1, *given).observation == Spec(Field((2,), "float32", "vector"), 1, *given).observation
    space = camera().observation_space
    forwards, backwards = (Spec(each, 1, *given) for each in (space, dict(reversed(space.items()))))
    assert forwards.observation == backwards.observation == tuple(sorted(space.items()))
    assert forwards.observation_space == space


def test_blank_observations_have_the_datas_shapes_and_types():
    blank = of_a_dictionary().blank(7)
    for name, part in camera().observations.items():
        assert (blank[name].shape, blank[name].dtype) == ((7, *part.shape[1:]), part.dtype)
        assert not blank[name].any()
    assert of_vectors().blank(4).shape == (4, 3)
