"""Measures of synthetic data where the answer is known: the same data, copies, independent columns, a simulator."""

import numpy as np
import pytest

from reverie.cli import main
from reverie.data import Dataset
from reverie.data.replay import History
from reverie.environments.collector import Collector
from reverie.errors import DataError, ReverieError
from reverie.evaluation import fidelity
from reverie.evaluation.fidelity import simulate
from reverie.evaluation.overlap import overlap


def gaussian(n, correlation=0.8, shift=0.0, ends=0.25, seed=0) -> Dataset:
    """Two correlated observations, an action, a reward and next observations that are independent."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n))
    seen = np.stack([first, correlation * first + np.sqrt(1 - correlation**2) * second], 1) + shift
    rest = {
        "actions": rng.uniform(-1, 1, (n, 1)),
        "rewards": rng.normal(size=n),
        "next_observations": rng.normal(size=(n, 2)),
    }
    terminals = rng.uniform(size=n) < ends
    return Dataset.from_arrays(seen, **rest, terminals=terminals, timeouts=~terminals)


def test_rows_of_the_same_distribution_measure_as_real_ones_do():
    found = fidelity(gaussian(3000, seed=1), gaussian(9000), rows=2000)
    for made, real in (found.marginals, found.correlations):
        assert made == pytest.approx(real, abs=0.01)
        assert made > 0.97
    assert found.nearest[0] == pytest.approx(found.nearest[1], rel=0.05)
    assert found.terminals[0] == pytest.approx(found.terminals[1], abs=0.03)


def test_each_measure_sees_its_fault():
    """A shift of 0.5 is a Kolmogorov-Smirnov distance of 2 Phi(0.25) - 1 = 0.197 in 2 of 6 columns; a lost correlation
    of 0.8 is 0.4 in 1 of 15 pairs; copies are at distance 0; ends at a rate of 1 in 10."""
    real = gaussian(9000)
    shifted = fidelity(gaussian(3000, shift=0.5, seed=1), real).marginals
    assert shifted[1] - shifted[0] == pytest.approx(2 * 0.197 / 6, abs=0.012)
    independent = fidelity(gaussian(3000, correlation=0.0, seed=1), real).correlations
    assert independent[1] - independent[0] == pytest.approx(0.4 / 15, abs=0.005)
    assert fidelity(real, real).nearest[0] == 0
    made = gaussian(3000, ends=0.1, seed=1)
    assert fidelity(made, real).terminals == (made.terminals.mean(), real.terminals.mean())  # of all rows, exactly


def test_the_plane_of_the_overlap_is_that_of_the_real_rows_spread():
    """The first two of six standardised columns have a correlation of 0.8, so that their sum, which has a variance of
    1.8 of 6, is the first component; rows shifted by 2 in both lie 2 sqrt(2) further along it."""
    real, same, moved = gaussian(9000), gaussian(3000, seed=1), gaussian(3000, shift=2.0, seed=1)
    found, shifted = overlap(same, real), overlap(moved, real)
    assert found.shares[0] == pytest.approx(1.8 / 6, rel=0.03)
    np.testing.assert_allclose(found.made.mean(0), found.real.mean(0), atol=0.1)
    np.testing.assert_allclose(found.made.std(0), found.real.std(0), rtol=0.05)
    assert abs((shifted.made - found.made).mean(0)[0]) == pytest.approx(2 * np.sqrt(2), rel=0.03)
    with pytest.raises(DataError, match="3000 transitions and rows = 4000"):
        overlap(same, real, rows=4000)


@pytest.fixture(scope="module")
def hopper() -> Dataset:
    rngs = [np.random.default_rng(0)]
    env = Collector("Hopper-v5", (0,), 1)
    history = History(env.low, env.high)
    history.append({name: x[0] for name, x in env.steps(lambda _: env.random_actions(rngs), 600).items()})
    env.close()
    return history.dataset()


def test_the_simulator_repeats_what_it_did(hopper):
    """To the observations' 32 bits, and for velocities that it does not clip."""
    kept = np.abs(hopper.observations).max(1) < 9.9
    after, rewards = simulate("Hopper-v5", hopper.observations[kept].astype(float), hopper.actions[kept].astype(float))
    np.testing.assert_allclose(after, hopper.next_observations[kept], atol=2e-4)
    np.testing.assert_allclose(rewards, hopper.rewards[kept], atol=1e-4)


def test_outcomes_that_are_others_are_far_from_the_simulator_and_a_regression_is_between(hopper):
    found = fidelity(hopper, hopper, "Hopper-v5", rows=100).dynamics
    assert np.median(found.made) < 1e-3
    assert np.median(found.made) < np.median(found.regressed) / 10 < np.median(found.shuffled) / 10
    assert np.median(found.made_rewards) < 1e-3
    noisy = Dataset.from_arrays(
        **{k: v for k, v in hopper.arrays().items() if k != "next_observations"},
        next_observations=hopper.next_observations + 0.3 * hopper.next_observations.std(0),
    )
    assert np.median(fidelity(noisy, hopper, "Hopper-v5", rows=100).dynamics.made) == pytest.approx(0.3, abs=0.02)


def test_what_cannot_be_measured_is_refused(hopper):
    with pytest.raises(DataError, match="The real data has 50 transitions and rows = 2000 needs 4000"):
        fidelity(gaussian(3000), gaussian(50))
    with pytest.raises(DataError, match=r"2 \+ 1 columns.*the real 11 \+ 3"):
        fidelity(gaussian(3000), hopper)
    with pytest.raises(ReverieError, match="Pendulum-v1 cannot be put into a state"):
        fidelity(gaussian(300), gaussian(900), "Pendulum-v1", rows=100)


def test_dictionaries_are_refused_in_a_sentence_about_the_comparison():
    plain = gaussian(20)
    parts = {"at": plain.observations}
    other = Dataset.from_arrays(parts, plain.actions, plain.rewards, plain.terminals, plain.timeouts)
    with pytest.raises(DataError, match=r"dictionary of at .*; the comparison of columns needs .*such observations\.$"):
        fidelity(other, other, rows=5)


def test_the_command_line_shows_the_table_and_draws(tmp_path, capsys):
    for name, seed in (("real", 0), ("made", 1)):
        gaussian(500, seed=seed).save(f"d4rl:{tmp_path / name}.hdf5")
    sources = [f"d4rl:{tmp_path / name}.hdf5" for name in ("made", "real")]
    pictures = tmp_path / "marginals.png", tmp_path / "overlap.png"
    words = ["--rows", "200", "--out", str(pictures[0]), "--overlap", str(pictures[1])]
    assert main(["fidelity", sources[0], "--real", sources[1], *words]) == 0
    assert "marginals" in capsys.readouterr().out
    assert all(each.stat().st_size > 10_000 for each in pictures)
