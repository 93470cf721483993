"""SynthER: its sampler on a Gaussian in closed form, its network on a linear system, and data that others train on."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.cli import main
from reverie.data import Dataset, Spec, concatenate, transitions
from reverie.data.appendable import AppendableHDF5
from reverie.errors import DataError, ReverieError, ReverieWarning, RunError
from reverie.loading import load_dataset
from reverie.networks.layers import parameter_count
from reverie.synthesizers import SynthER, transition

OPTIMISED = True

N = 8000
A, B = np.array([[0.9, 0.2], [-0.3, 0.8]]), np.array([[0.5], [-0.4]])
REWARD, NOISE = np.array([1.0, -0.5, 0.3]), 0.25
SMALL = {"width": 64, "blocks": 3, "learning_rate": 3e-3, "ema_decay": 0.9, "chunk": 2000}


def system(n=N, seed=0, **attributes):
    """Correlated states, s' = A s + B a + noise, a reward linear in (s, a), and an end wherever s_0 > 1."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    actions = np.clip(0.5 * states[:, :1] + 0.6 * draw.normal(size=(n, 1)), -3, 3)
    next_states = states @ A.T + actions @ B.T + NOISE * draw.normal(size=(n, 2))
    rewards = np.c_[states, actions] @ REWARD + NOISE * draw.normal(size=n)
    return Dataset.from_arrays(
        states, actions, rewards, states[:, 0] > 1, np.ones(n),
        next_observations=next_states, action_low=-3, action_high=3, attributes=attributes,
    )  # fmt: skip


def columns(data):
    """The continuous columns [N, 6]."""
    return np.c_[data.observations, data.actions, data.rewards, data.next_observations].astype(np.float64)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    algorithm = SynthER(**SMALL, decay_updates=1500)
    folder = tmp_path_factory.mktemp("synther") / "run"
    return reverie.fit(algorithm, system(name="line"), steps=1500, out=folder, progress=False)


@pytest.fixture(scope="module")
def made(run):
    return run.generate(16_000, progress=False)


# The sampler alone


def test_the_sampler_reaches_a_gaussians_moments_with_its_own_denoiser():
    """Of x0 ~ N(m, C) the denoiser is m + C (C + sigma^2)^-1 (x - m): what is left is the sampler's error."""
    draw = np.random.default_rng(1)
    root = draw.normal(size=(6, 6)) / np.sqrt(6)
    covariance, mean = jnp.asarray(root @ root.T + 0.05 * np.eye(6)), jnp.asarray(draw.normal(size=6))
    algorithm = SynthER()

    def denoiser(x, t):
        shrink = jnp.linalg.solve(covariance + algorithm.process.sigma(t) ** 2 * jnp.eye(6), covariance)
        return mean + (x - mean) @ shrink

    x = np.asarray(jax.jit(lambda key: algorithm.sample(denoiser, key, (8000, 6)))(jax.random.key(0)))
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((x.mean(0) - mean) / scale, 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.cov(x.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.08)


def variance_left(c, steps, churn):
    """Variance of what Karras et al.'s algorithm 2 makes of N(0, c) with its own denoiser, by exact recursion."""
    rho = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps) ** 7
    variance = 80.0**2
    for sigma, after in zip(rho, np.append(rho[1:], 0), strict=True):
        gamma = min(churn / steps, np.sqrt(2) - 1) * (0.05 <= sigma <= 50)
        raised = sigma * (1 + gamma)
        slope, h = raised / (c + raised**2), after - raised
        predicted = 1 + h * slope
        factor = predicted if after == 0 else 1 + h / 2 * (slope + after / (c + after**2) * predicted)
        variance = (variance + 1.003**2 * (raised**2 - sigma**2)) * factor**2
    return variance


@pytest.mark.parametrize(("steps", "churn"), [(128, 80.0), (16, 80.0), (16, 3.0)])
def test_the_sampler_is_algorithm_2_to_the_percent(steps, churn):
    """Coarse steps leave too much variance, 3 percent in 128 and a third in 16 steps with the paper's churn: exactly
    as much as the algorithm leaves in closed form."""
    c = jnp.array([0.05, 0.3, 1.0, 3.0])
    algorithm = SynthER(nfe=2 * steps - 1, churn=churn)

    def denoiser(x, t):
        return x * c / (c + algorithm.process.sigma(t) ** 2)

    n = 50_000
    x = np.asarray(jax.jit(lambda key: algorithm.sample(denoiser, key, (n, 4)))(jax.random.key(0)))
    expected = [variance_left(float(each), steps, churn) for each in c]
    np.testing.assert_allclose(x.var(0), expected, rtol=4 * np.sqrt(2 / n))


def test_the_sampler_has_the_nfe_that_it_says_and_churns():
    times = []

    def denoiser(x, t):
        jax.debug.callback(lambda t: times.append(float(t)), t, ordered=True)
        return jnp.zeros_like(x)

    SynthER().sample(denoiser, jax.random.key(0), (1, 1)).block_until_ready()
    sigma = 80 * np.array(times)
    assert len(sigma) == 2 * 128 - 1
    before, after = sigma[:-1:2], sigma[1::2]  # of each step: noise raised at its start, and the schedule's at its end
    schedule = np.append(80.0, after)[: len(before)]
    raised = (schedule >= 0.05) & (schedule <= 50)
    np.testing.assert_allclose(before / schedule, np.where(raised, np.sqrt(2), 1), rtol=1e-3)
    np.testing.assert_allclose(after[-1], 0.002, rtol=1e-3)


# The network, trained


def test_the_default_network_is_the_papers_in_size():
    eye = np.eye(11)
    spec = transition.fit(Dataset.from_arrays(eye, eye[:, :3], eye[0], eye[0], next_observations=eye))
    assert 6e6 < parameter_count(jax.eval_shape(SynthER().network, jax.random.key(0), spec)) < 7e6


def test_mean_and_covariance_are_the_datas(made):
    """8000 rows are learned from, 16,000 compared; in units of the data's standard deviations."""
    real, x = columns(system(seed=5, n=100_000)), columns(made)
    scale = real.std(0)
    np.testing.assert_allclose((x.mean(0) - real.mean(0)) / scale, 0, atol=0.05)
    np.testing.assert_allclose(np.cov((x / scale).T), np.cov((real / scale).T), atol=0.06)


def residual(data, shuffled=False):
    """Standard deviation of s' from what is linear in (s, a), by a regression within the samples."""
    known, after = np.c_[data.observations, data.actions, np.ones(len(data))], data.next_observations
    after = np.random.default_rng(0).permutation(after) if shuffled else after
    return (after - known @ np.linalg.lstsq(known, after, rcond=None)[0]).std(0)


def test_the_next_observation_obeys_the_dynamics(made):
    assert (residual(made) < 1.15 * NOISE).all()
    assert (residual(made) > 0.85 * NOISE).all()
    assert (residual(made, shuffled=True) > 2.5 * NOISE).all()
    known = np.c_[made.observations, made.actions]
    slopes = np.linalg.lstsq(known, made.next_observations, rcond=None)[0].T
    np.testing.assert_allclose(slopes, np.c_[A, B], atol=0.05)
    np.testing.assert_allclose(np.linalg.lstsq(known, made.rewards, rcond=None)[0], REWARD, atol=0.05)


def test_another_solver_obeys_the_dynamics_with_a_smaller_nfe(run):
    made = run.acting(solver="dpm++2m", nfe=31).generate(4000, progress=False)
    assert (residual(made) < 1.15 * NOISE).all()


def test_terminals_come_as_often_and_where_they_do_in_the_data(made):
    assert abs(made.terminals.mean() - 0.159) < 0.015
    np.testing.assert_array_equal(made.timeouts, ~made.terminals)
    first = made.observations[:, 0]
    assert ((first > 1) == made.terminals).mean() > 0.97


def test_what_is_made_is_no_copy(made):
    """Distances to the nearest real row, of rows made and of fresh real rows."""
    known, scale = columns(system()), columns(system()).std(0)

    def nearest(data):
        x, y = columns(data)[:1000] / scale, known / scale
        return np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0).min(1))

    ratio = np.median(nearest(made)) / np.median(nearest(system(seed=9)))
    assert 0.9 < ratio < 1.15


# What is made, and how


def test_attributes_tell_that_it_is_synthetic_and_from_what(made, run):
    assert made.attributes["name"] == "synthetic line by synther"
    assert made.attributes["synthetic"] is True
    assert (made.attributes["algorithm"], made.attributes["real_data"]) == ("synther", "line")
    assert (made.attributes["updates"], made.attributes["seed"], made.attributes["key"]) == (1500, 0, 0)
    unnamed = replace(run, data={}).generate(3, progress=False)
    assert unnamed.attributes["name"] == "synthetic data by synther"
    assert "real_data" not in unnamed.attributes


def test_chunks_are_functions_of_their_number_alone(run, made):
    few = run.acting(chunk=500, nfe=9)
    complete = few.generate(1700, progress=False)
    state, key = few.state(), jax.random.key(0)
    assert len(complete) == 1700
    assert few.generate(1500, progress=False).fingerprint == complete.take_episodes(range(1500)).fingerprint
    rest = concatenate(*few.algorithm.chunks(state, few.spec, key, 1700, start=1000))
    assert rest.fingerprint == complete.take_episodes(range(1000, 1700)).fingerprint
    assert few.algorithm.generate(state, few.spec, key, 1700).fingerprint == complete.fingerprint
    other = few.generate(500, key=1, progress=False)
    assert not np.isin(other.observations, complete.observations).any()
    assert not np.isin(complete.observations[:500], complete.observations[500:]).any()


def test_an_interrupted_file_goes_on_bit_for_bit(run, tmp_path, monkeypatch, capsys):
    few, path = run.acting(chunk=500, nfe=9), tmp_path / "made.hdf5"
    complete = few.generate(1700, progress=False)
    few.write(f"d4rl:{tmp_path}/complete.hdf5", 1700, progress=False)

    append = AppendableHDF5.append

    def stopped_after_two(file, piece):
        if file.written == 1000:
            raise KeyboardInterrupt
        append(file, piece)

    monkeypatch.setattr(AppendableHDF5, "append", stopped_after_two)
    with pytest.raises(KeyboardInterrupt):
        few.write(f"d4rl:{path}", 1700)
    assert "1000 of 1700 rows are in" in capsys.readouterr().err
    assert not path.exists()
    monkeypatch.undo()

    chunks, begun = SynthER.chunks, []
    monkeypatch.setattr(SynthER, "chunks", lambda *given: begun.append(given[-1]) or chunks(*given))
    reverie.load(run.path).acting(chunk=500, nfe=9).write(f"d4rl:{path}", 1700)
    assert begun == [1000]
    said = capsys.readouterr().err
    assert "Going on from row 1000" in said
    assert "1700/1700 rows" in said
    assert path.read_bytes() == (tmp_path / "complete.hdf5").read_bytes()
    read = load_dataset(f"d4rl:{path}")
    assert read.fingerprint == complete.fingerprint
    assert read.attributes["name"] == "synthetic line by synther"


def test_a_folder_of_shards_is_what_is_made_at_once(run, tmp_path):
    few = run.acting(chunk=500, nfe=9)
    few.write(f"parquet:{tmp_path}/made", 1700, progress=False)
    read, complete = load_dataset(f"parquet:{tmp_path}/made"), few.generate(1700, progress=False)
    assert read.fingerprint == complete.fingerprint
    assert read.attributes == dict(complete.attributes) | {"source": f"parquet:{tmp_path}/made"}


def test_a_part_of_another_run_step_key_or_size_is_refused(run, tmp_path, monkeypatch):
    few, target = run.acting(chunk=500, nfe=9), f"d4rl:{tmp_path}/made.hdf5"
    monkeypatch.setattr(AppendableHDF5, "finish", lambda file: None)
    few.write(target, 700, progress=False)
    other = replace(few, states=jax.tree.map(lambda leaf: leaf + 1, few.states))
    for changed, arguments, sentence in [
        (few, {"key": 1}, "key = 0 and not 1"),
        (few, {"n": 900}, "rows = 700 and not 900"),
        (replace(few, step=1501), {}, "updates = 1500 and not 1501"),
        (run.acting(chunk=250, nfe=9), {}, "configuration = "),
        (other, {}, "state = "),
    ]:
        with pytest.raises(DataError, match=sentence):
            changed.write(target, **{"n": 700, "progress": False} | arguments)


def test_any_offline_method_trains_on_it_and_on_a_mixture(run, made, tmp_path):
    made.save(f"d4rl:{tmp_path}/made.hdf5")
    system().save(f"d4rl:{tmp_path}/real.hdf5")
    mixture = load_dataset(f"d4rl:{tmp_path}/real.hdf5+d4rl:{tmp_path}/made.hdf5")
    assert len(mixture) == N + len(made)
    trained = reverie.fit(reverie.baselines.TD3BC(hidden=(8,), critic_hidden=(8,)), mixture, steps=2, progress=False)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.states))
    assert len(transitions(made, Spec.fit(made))) == len(made)


def test_the_command_line_generates(run, tmp_path, capsys):
    arguments = ["generate", str(run.path), "-n", "30", "--out", f"d4rl:{tmp_path}/few.hdf5"]
    assert main([*arguments, "--acting", "nfe=5", "chunk=20"]) == 0
    assert len(load_dataset(f"d4rl:{tmp_path}/few.hdf5")) == 30
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments[:3], "0", "--out", f"d4rl:{tmp_path}/none.hdf5"]) == 2
    assert "n=0 rows cannot be generated" in capsys.readouterr().err
    assert main([*arguments[:3], "10000000", "--out", "minari:test/much-v0"]) == 2
    assert "save to d4rl:" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["few.hdf5"]


def test_the_command_line_warns_in_a_sentence(tmp_path, capsys):
    system(100).save(f"d4rl:{tmp_path}/few.hdf5")
    arguments = ["train", "synther", "--data", f"d4rl:{tmp_path}/few.hdf5", "--steps", "1", "--batch-size", "2"]
    assert main([*arguments, "--width", "16", "--blocks", "1", "--out", f"{tmp_path}/run"]) == 0
    said = capsys.readouterr().err
    assert "reverie: 100 transitions of 7 numbers are few" in said
    assert "Warning" not in said


def test_a_synthesizer_does_not_act(run):
    with pytest.raises(RunError, match="synther is a synthesizer: it generates data and does not act"):
        run.policy()


# What is refused, and what is warned of


def test_data_without_rewards_or_terminals_is_refused():
    ends = np.arange(8) % 4 == 3
    for lacking, given in (("rewards", {"terminals": ends}), ("terminals", {"rewards": np.ones(8)})):
        data = Dataset.from_arrays(np.eye(8), np.zeros((8, 1)), timeouts=ends, **given)
        with pytest.raises(DataError, match=f"no {lacking}"):
            SynthER().prepare(data)


def test_successors_are_derived_and_rows_without_one_left_out():
    cut = np.arange(12) % 4 == 3
    observations = np.arange(24.0).reshape(12, 2)
    data = Dataset.from_arrays(observations, np.zeros((12, 1)), np.ones(12), np.zeros(12), cut)
    with pytest.warns(ReverieWarning, match="9 transitions"):
        view, spec = SynthER(width=16, blocks=1).prepare(data)
    after = spec.denormalise("next_observations", view.rows["next_observations"])
    np.testing.assert_allclose(after, observations[[1, 2, 3, 5, 6, 7, 9, 10, 11]], rtol=1e-5)


def test_few_rows_for_the_network_are_warned_of_in_numbers():
    """The threshold is a tenth of the parameters; there are 7 columns."""
    small = SynthER(width=16, blocks=1)
    parameters = parameter_count(small.network(jax.random.key(0), transition.fit(system())))
    enough = -(-parameters // 70)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.prepare(system(enough))
    sentence = f"{enough - 1} transitions of 7 numbers are few .* {parameters} parameters.* a width below 16"
    with pytest.warns(ReverieWarning, match=sentence):
        small.prepare(system(enough - 1))


@pytest.mark.parametrize(
    ("field", "value"), [("chunk", 0), ("width", 0.5), ("churn", -1), ("learning_rate", 0), ("ema_decay", 1.5)]
)
def test_fields_that_cannot_work_are_refused(field, value):
    with pytest.raises(ReverieError, match=f"{field} = {value}, but it must be"):
        SynthER(**{field: value})


def test_an_unknown_solver_is_refused_with_the_known_ones():
    with pytest.raises(ReverieError, match=r"solver 'heum' is unknown; choose one of ddpm, .*edm-churn"):
        SynthER(solver="heum")
