"""The transition as one vector: there and back, by kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec, transitions
from reverie.errors import DataError
from reverie.loading import load_dataset
from reverie.synthesizers import transition

N = 300


def data(**changed):
    """Columns of very different scale; the second observation and the second action are constant."""
    draw = np.random.default_rng(0)
    observations = np.stack([draw.normal(50, 9, N), np.full(N, 0.1), draw.normal(0, 1e-3, N)], 1)
    given = {
        "observations": observations,
        "actions": np.stack([draw.uniform(-1, 1, N), np.full(N, 0.3)], 1),
        "rewards": draw.normal(-7, 2, N),
        "terminals": draw.random(N) < 0.2,
        "timeouts": np.ones(N),
        "next_observations": observations * [1.5, 1, 1] + [0, 1, 2],
    }
    return Dataset.from_arrays(**given | changed)


def vectors(data):
    spec = transition.fit(data)
    view = transitions(data, spec)
    return np.asarray(transition.blocks(spec).join(view.rows)), spec


def test_a_vector_has_every_column_standardised_but_the_terminal():
    x, spec = vectors(data())
    assert x.shape == (N, transition.blocks(spec).size) == (N, 10)
    varying = [0, 2, 3, 5, 6, 8]
    np.testing.assert_allclose(x[:, varying].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x[:, varying].std(0), 1, rtol=1e-4)
    np.testing.assert_array_equal(x[:, [1, 4, 7]], 0)
    np.testing.assert_array_equal(x[:, 9], data().terminals)


def test_what_was_joined_is_split_again():
    x, spec = vectors(data())
    parts = transition.split(x, spec)
    for key in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_allclose(parts[key], getattr(data(), key), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts["terminals"], data().terminals)


def test_whatever_is_generated_constants_are_exact_and_actions_inside_their_bounds():
    spec = transition.fit(data())
    x = 100 * jnp.sign(jax.random.normal(jax.random.key(0), (N, 10)))
    parts = jax.jit(transition.split)(x, spec)
    for key, column in (("observations", 1), ("next_observations", 1), ("actions", 1)):
        assert set(np.asarray(parts[key][:, column])) == {getattr(data(), key)[0, column]}
    assert set(np.unique(parts["actions"][:, 0])) == {-1.0, 1.0}
    np.testing.assert_array_equal(parts["terminals"], x[:, 9] > 0.5)
    constant = transition.fit(data(rewards=np.full(N, 0.1)))
    np.testing.assert_array_equal(transition.split(x, constant)["rewards"], np.float32(0.1))


@pytest.mark.parametrize("value", [False, True])
def test_terminals_that_never_or_always_occur_do_so_in_what_is_generated(value):
    x, spec = vectors(data(terminals=np.full(N, value)))
    noise = 5 * jax.random.normal(jax.random.key(0), x.shape)
    assert (transition.split(noise, spec)["terminals"] == value).all()


def test_every_row_is_an_episode_ended_by_its_terminal_or_cut():
    x, spec = vectors(data())
    made = transition.dataset(transition.split(x, spec), spec, 100, name="made", synthetic=True)
    assert len(made) == len(made.episodes) == 100
    np.testing.assert_array_equal(made.terminals, data().terminals[:100])
    np.testing.assert_array_equal(made.timeouts, ~made.terminals)
    np.testing.assert_allclose(made.next_observations, data().next_observations[:100], rtol=1e-5, atol=1e-6)
    assert made.attributes == {"name": "made", "synthetic": True}
    assert (made.action_low == -1).all() and (made.action_high == 1).all()
    assert len(transitions(made, Spec.fit(made))) == 100


def test_an_action_that_is_constant_outside_the_usual_bounds_has_none():
    odd = data(actions=np.full((N, 2), 3.0))
    x, spec = vectors(odd)
    made = transition.dataset(transition.split(x, spec), spec, N)
    assert made.action_low is None
    np.testing.assert_array_equal(made.actions, 3)


def test_the_data_set_is_saved_and_read_again(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    x, spec = vectors(data())
    made = transition.dataset(transition.split(x, spec), spec, 20, name="made", synthetic=True)
    for target in (f"d4rl:{tmp_path}/made.hdf5", "minari:test/made-v0"):
        made.save(target)
        read = load_dataset(target)
        for key in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"):
            np.testing.assert_array_equal(getattr(read, key), getattr(made, key), key)
        assert read.attributes["synthetic"] is True


def test_terminals_that_are_not_known_are_refused():
    with pytest.raises(DataError, match="no terminals"):
        transition.fit(data(terminals=None))


def test_spec_round_trip(tmp_path):
    spec = transition.fit(data())
    spec.save(tmp_path / "spec")
    again = Spec.load(tmp_path / "spec")
    x = jnp.linspace(-3, 3, 10 * N).reshape(N, 10)
    for key, values in transition.split(x, spec).items():
        np.testing.assert_array_equal(values, transition.split(x, again)[key])


@pytest.mark.parametrize("standardised", [False, True])
def test_terminals_come_back_from_network_units(standardised):
    """1 in 50 rows: 0 and 1 for the network, or of mean 0 and standard deviation 1; the same booleans return."""
    terminals = np.arange(N) % 50 == 0
    rare = data(terminals=terminals)
    spec = transition.fit(rare, standardised)
    view = transition.view(rare, spec)
    seen = np.asarray(view.rows["terminals"])
    np.testing.assert_allclose((seen.mean(), seen.std()), (0, 1) if standardised else (0.02, 0.14), atol=1e-3)
    back = transition.split(transition.blocks(spec).join(view.rows), spec)["terminals"]
    np.testing.assert_array_equal(back, terminals)
