"""Columns that callbacks bring into the metrics, and evaluation while training."""

import gc
from dataclasses import replace
from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from tiny_algorithm import TinyBC, TinyExplorer, leaves, synthetic

import reverie
from reverie.cli import main
from reverie.data import Dataset
from reverie.errors import ReverieError, RunError
from reverie.evaluation import Evaluate, Reference, during
from reverie.training import fit_online

DATA = synthetic()
fit = partial(reverie.fit, TinyBC(), DATA, segment=5, seeds=2, progress=False)


class Wandering(gymnasium.Env):
    """Noise to see, the sum of the action to gain; episodes of 3 steps, won if the last sum is positive."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    made = 0

    def __init__(self):
        Wandering.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        gain = float(action.sum())
        seen = self.np_random.normal(size=3).astype(np.float32)
        return seen, gain, False, self.steps == 3, {"success": self.steps == 3 and gain > 0}


class Noting:
    """Numbers of its own, and what it was shown."""

    def __init__(self, columns):
        self.columns, self.shown = columns, []

    def on_segment(self, run):
        self.shown.append((run.step, np.array(run.states.made) if hasattr(run.states, "made") else None))
        return self.columns


def test_a_callback_sees_each_segment_and_its_columns_join_the_metrics(tmp_path):
    noting = Noting({"one": 3, "each": [1.5, 2.5]})
    run = fit(steps=10, callbacks=[noting, Noting(None)], out=tmp_path / "run")
    assert [step for step, _ in noting.shown] == [5, 10]
    assert [made.tolist() for _, made in noting.shown] == [[5, 5], [10, 10]]
    for metrics in (run.metrics(), reverie.load(run.path).metrics()):
        assert list(metrics) == ["seed", "step", "loss", "norm", "one", "each", "seconds", "updates_per_second"]
        assert metrics["one"].tolist() == [3] * 4 and metrics["each"].tolist() == [1.5, 2.5] * 2
    plain = fit(steps=10)
    assert all(map(np.array_equal, leaves(run), leaves(plain)))


@pytest.mark.parametrize("callbacks", [[Noting({"loss": 1.0})], [Noting({"mine": 1.0}), Noting({"mine": 2.0})]])
def test_a_name_that_is_taken_is_refused(callbacks):
    with pytest.raises(RunError, match=r"A callback gives a column '(loss|mine)', and the metrics have one; choose an"):
        fit(steps=5, callbacks=callbacks)


def test_online_they_are_called_with_every_row():
    noting = Noting({"mine": 4.0})
    settings = {"warmup": 10, "update_interval": 5, "log_every": 10, "callbacks": [noting], "progress": False}
    run = fit_online(TinyExplorer(), Wandering, steps=40, **settings)
    assert [step for step, _ in noting.shown] == run.metrics()["step"].tolist() == [20, 30, 40]
    assert run.metrics()["mine"].tolist() == [4.0] * 3


HOW = {"episodes": 3, "seed": 4}


def test_evaluations_are_columns_with_the_numbers_of_evaluate():
    Wandering.made = 0
    metrics = fit(steps=20, callbacks=[Evaluate(Wandering, every=10, **HOW)]).metrics()
    assert Wandering.made == 6
    for steps in (10, 20):
        scores = reverie.evaluate(fit(steps=steps), Wandering, progress=False, **HOW)
        rows = metrics["step"] == steps
        np.testing.assert_allclose(metrics["eval_return"][rows], scores.returns.mean(1), rtol=1e-6)
        np.testing.assert_allclose(metrics["eval_success"][rows], 100 * scores.successes.mean(1))
    assert len(set(metrics["eval_return"][rows])) == 2
    for name in ("eval_return", "eval_success"):
        np.testing.assert_array_equal(np.isnan(metrics[name]), metrics["step"] % 10 != 0)


def test_a_run_in_a_folder_keeps_every_episode(tmp_path):
    """Also of an update that was evaluated twice, because the run had been killed before its checkpoint."""
    evaluate = Evaluate(Wandering, every=10, **HOW)
    metrics = fit(steps=20, out=tmp_path / "run", callbacks=[evaluate]).metrics()
    for name in ("eval_return", "eval_success"):
        kept = during.read_episodes(tmp_path / "run", name)
        assert {step: values.shape for step, values in kept.items()} == {10: (2, 3), 20: (2, 3)}
        for step, values in kept.items():
            np.testing.assert_allclose(values.mean(1), metrics[name][metrics["step"] == step])
    run = reverie.load(tmp_path / "run")
    during.keep_episodes(run.path, run, {"eval_return": np.full((2, 3), 7.0), "eval_success": np.zeros((2, 3))})
    kept = during.read_episodes(run.path)
    assert list(kept) == [10, 20] and (kept[20] == 7).all() and not (kept[10] == 7).any()
    assert during.read_episodes(run.path, "eval_cost") == during.read_episodes(tmp_path) == {}


class Toll(Wandering):
    """Has a cost of one a step; counts the open ones."""

    open = 0

    def __init__(self):
        super().__init__()
        Toll.open += 1

    def step(self, action):
        return *super().step(action)[:4], {"cost": 1.0}

    def close(self):
        Toll.open -= 1


def test_one_object_serves_runs_of_other_seeds_and_closes_what_it_made():
    """Two seeds, one, then three: as many environments as they need, and the numbers of a fresh evaluation."""
    Toll.open = 0
    three = fit(seeds=3, steps=5)

    def of(n):
        return replace(three, seeds=three.seeds[:n], states=jax.tree.map(lambda leaf: leaf[:n], three.states))

    runs = [of(2), of(1), three]
    with Evaluate(Toll, every=5, episodes=2) as evaluate:
        for run, seeds in zip(runs, (2, 1, 3), strict=True):
            found = evaluate.scores(run)
            assert Toll.open == 2 * seeds
            np.testing.assert_array_equal(
                found["eval_return"], Evaluate(Toll, 5, episodes=2).scores(run)["eval_return"]
            )
            assert found["eval_cost"].tolist() == [3.0] * seeds
        other = replace(three, spec=replace(three.spec, observation=4))
        with pytest.raises(ReverieError, match=r"vectors float32 \[4\], and those of Toll are vectors float32 \[3\]"):
            evaluate.scores(other)
    assert Toll.open == 0
    assert evaluate.scores(runs[1])["eval_cost"].tolist() == [3.0] and Toll.open == 2
    del evaluate
    gc.collect()
    assert Toll.open == 0


def test_the_reference_of_a_maze_is_measured_once(monkeypatch):
    measured = []

    def measure(name, envs, *rest):
        measured.append(len(envs))
        return Reference(0.0, 50.0, "as measured")

    monkeypatch.setattr(during, "reference_of", measure)
    evaluate, run = Evaluate(Wandering, every=5, **HOW), fit(steps=5)
    for _ in range(2):
        found = evaluate.scores(run)
        np.testing.assert_allclose(found["eval_normalised"], 2 * found["eval_return"])
    assert measured == [3]


@pytest.mark.parametrize("every, expected", [(1, [5, 10, 15, 20]), (7, [10, 15]), (15, [15])])
def test_they_come_at_the_ends_of_segments(every, expected):
    metrics = fit(steps=20, callbacks=[Evaluate(Wandering, every, episodes=1, max_steps=1)]).metrics()
    assert sorted(set(metrics["step"][~np.isnan(metrics["eval_return"])])) == expected


def test_a_resumed_run_evaluates_at_the_same_updates(tmp_path):
    evaluate = Evaluate(Wandering, every=10, **HOW)
    whole = fit(steps=20, callbacks=[evaluate]).metrics()
    fit(steps=15, out=tmp_path / "run", checkpoint_every=5, callbacks=[evaluate])  # the same object serves them all
    resumed = reverie.resume(tmp_path / "run", DATA, steps=20, callbacks=[evaluate], progress=False).metrics()
    for name in ("step", "eval_return", "eval_success"):
        np.testing.assert_array_equal(whole[name], resumed[name])


def test_what_cannot_be_evaluated_is_said():
    with pytest.raises(ReverieError, match="every = 0 must be at least 1"):
        Evaluate(Wandering, every=0)
    with pytest.raises(ReverieError, match=r"vectors float32 \[3\], and those of MountainCarContinuous-v0 are vectors"):
        fit(steps=5, callbacks=[Evaluate("MountainCarContinuous-v0", every=5, episodes=1)])


def test_the_command_line_evaluates_while_it_trains(tmp_path, capsys):
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.normal(size=(40, 3)), rng.uniform(-2, 2, (40, 1)), timeouts=np.arange(40) % 20 == 19)
    data.save(f"d4rl:{tmp_path}/pendulum.hdf5")
    train = ["train", "bc", "--data", f"d4rl:{tmp_path}/pendulum.hdf5", "--steps", "8", "--segment", "2"]
    train += ["--hidden", "8", "--batch-size", "4", "--out", str(tmp_path / "run")]
    assert main([*train, "--evaluate-every", "4"]) == 2
    assert "--evaluate-every 4 needs --env, where the run is to act" in capsys.readouterr().err
    few = ["--env", "Pendulum-v1", "--episodes", "1", "--max-steps", "3"]
    assert main([*train, "--evaluate-every", "4", *few]) == 0
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "12", "--evaluate-every", "4", *few]) == 0
    metrics = reverie.load(tmp_path / "run").metrics()
    np.testing.assert_array_equal(np.isnan(metrics["eval_return"]), metrics["step"] % 4 != 0)
    assert (metrics["eval_return"][metrics["step"] % 4 == 0] < 0).all()


class Enough(Noting):
    """Has had enough at a step."""

    def __init__(self, step):
        super().__init__(None)
        self.step = step

    def on_segment(self, run):
        self.done = run.step >= self.step


def test_a_callback_may_end_the_training(tmp_path):
    run = fit(steps=20, callbacks=[Enough(10)], out=tmp_path / "run")
    assert run.step == reverie.load(tmp_path / "run").step == 10
    assert fit(steps=20, out=tmp_path / "run", resume=True).step == 20


def test_a_callback_may_end_an_online_training(tmp_path):
    how = {"warmup": 10, "update_interval": 10, "log_every": 10, "progress": False, "out": tmp_path / "run"}
    run = fit_online(TinyExplorer(), Wandering, steps=100, callbacks=[Enough(30)], **how)
    assert run.step == reverie.load(tmp_path / "run").step == 30
