"""S4RL: the data's rows, with noise of the asked standard deviation on both states."""

import jax
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.synthesizers import S4RL

N = 500


def data(**changed):
    draw = np.random.default_rng(0)
    observations = np.c_[draw.normal(5, 2, N), draw.normal(0, 100, N), np.full(N, 0.3)]
    given = {
        "observations": observations,
        "actions": draw.uniform(-1, 1, (N, 2)),
        "rewards": np.arange(N),
        "terminals": np.arange(N) % 7 == 0,
        "timeouts": np.ones(N),
        "next_observations": observations + np.array([1, 2, 0]),
    }
    return Dataset.from_arrays(**given | changed)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s4rl") / "run"
    return reverie.fit(S4RL(noise=0.01, chunk=3000), data(), steps=1, out=folder, progress=False)


def test_rows_are_the_datas_with_noise_on_their_states_alone(run):
    made, real = reverie.load(run.path).generate(7000, progress=False), data()
    assert len(made) == 7000
    row = made.rewards.astype(int)
    np.testing.assert_array_equal(np.unique(row), np.arange(N))
    np.testing.assert_array_equal(made.actions, real.actions[row])
    np.testing.assert_array_equal(made.terminals, real.terminals[row])
    np.testing.assert_array_equal(made.timeouts, ~made.terminals)
    noise = made.observations - real.observations[row], made.next_observations - real.next_observations[row]
    for each in noise:
        np.testing.assert_allclose(each.std(0), 0.01 * real.observations.std(0), rtol=0.05, atol=1e-7)
        np.testing.assert_allclose(each[:, 2], 0)
    assert abs(np.corrcoef(noise[0][:, 0], noise[1][:, 0])[0, 1]) < 0.05


def test_no_noise_is_the_data_and_the_same_call_the_same_rows(run):
    made = run.acting(noise=0.0).generate(100, progress=False)
    np.testing.assert_array_equal(made.observations, data().observations[made.rewards.astype(int)])
    assert run.generate(100, progress=False).fingerprint == run.generate(100, progress=False).fingerprint
    more = [*run.algorithm.chunks(run.state(), run.spec, jax.random.key(0), 7000, start=3000)]
    complete = run.generate(7000, progress=False)
    np.testing.assert_array_equal(np.concatenate([each.observations for each in more]), complete.observations[3000:])


def test_refusals():
    with pytest.raises(DataError, match="no rewards"):
        S4RL().prepare(data(rewards=None))
    with pytest.raises(ReverieError, match=r"noise = -1.0, but it must be a number of at least 0"):
        S4RL(noise=-1.0)
