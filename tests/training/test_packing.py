"""fit_many: settings in one program are the trainings of each alone, and what one does harms no other."""

import json
import os
import signal
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyBC, leaves, synthetic
from tiny_algorithm import assert_same as same

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.cli import main
from reverie.errors import DivergenceError, ReverieError, RunError
from reverie.training import folder, loop
from reverie.training.packing import diverged
from reverie.training.store import Store, Stores

DATA = synthetic()
fit_many = partial(reverie.fit_many, progress=False)


@dataclass(frozen=True)
class Settled(TinyBC):
    """With fields that are read in an update, in preparing the data, and where the program is made."""

    name = "settled"
    decay: float = 0.0
    fails_at: float = 0.0
    noise: float = 0.0
    steep: float = 0.0

    def prepare(self, data, spec=None):
        if self.noise:
            data = replace(data, observations=data.observations + self.noise)
        return super().prepare(data, spec)

    def update(self, state, batch, key):
        if self.steep > 1:
            raise AssertionError
        state, told = super().update(state, batch, key)
        params = jax.tree.map(lambda p: p * (1 - self.decay), state.actor.params)
        state = replace(state, actor=replace(state.actor, params=params))
        return state, told | {"decay": jnp.where(state.made == self.fails_at, jnp.nan, self.decay)}


ALGORITHMS[Settled.name] = Settled
SETTINGS = Settled(lr=1e-3), Settled(decay=0.01), Settled(lr=1e-2, decay=0.1)


OPTIONS = {"segment": 10, "checkpoint_every": 10, "seeds_by": "map"}


@pytest.fixture(scope="module")
def straight():
    return fit_many(SETTINGS, DATA, steps=40, **OPTIONS)


def near(first, second):
    """But for the rounding of another program."""
    for x, y in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seeds_by", ["map", "vmap"])
def test_each_is_its_setting_trained_alone(seeds_by):
    together = fit_many(SETTINGS, DATA, steps=40, seeds=2, seed=3, segment=20, seeds_by=seeds_by)
    for algorithm, run in zip(SETTINGS, together, strict=True):
        alone = reverie.fit(algorithm, DATA, steps=40, seeds=2, seed=3, segment=20, seeds_by=seeds_by, progress=False)
        assert run.algorithm == algorithm and run.seeds == (3, 4) and run.step == 40
        near(run, alone)
        assert run.metrics()["step"].tolist() == [20, 20, 40, 40]
        np.testing.assert_allclose(run.metrics()["loss"], alone.metrics()["loss"], rtol=1e-4)
        assert run.policy(4).act(np.zeros(3, np.float32), run.policy(4).reset())[0].shape == (2,)


def test_they_are_one_program_whose_inputs_the_settings_are():
    view, spec = Settled().prepare(DATA)

    def text(algorithm, values):
        each = loop.each_seed((0,) * len(values), {"decay": values})
        return loop.advance.lower(
            algorithm, loop.initial_states(algorithm, each, spec), each, np.uint32(0), view, length=2
        ).as_text()

    assert text(Settled(), [0.1, 0.2]) == text(Settled(), [0.3, 0.4])
    assert len(text(Settled(), [0.1] * 8)) < 1.1 * len(text(Settled(), [0.1, 0.2]))


def test_folders_are_runs_like_others_and_go_on(tmp_path, straight):
    named = dict(zip("abc", SETTINGS, strict=True))
    fit_many(named, DATA, steps=20, out=tmp_path, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config["algorithm"]["decay"] == 0.1 and config["training"]["seeds"] == [0]
    with pytest.raises(RunError, match="already holds a run"):
        fit_many(named, DATA, steps=40, out=tmp_path, **OPTIONS)
    with pytest.raises(RunError, match=r"has decay=0\.01 and not 0\.5"):
        fit_many(named | {"b": Settled(decay=0.5)}, DATA, steps=40, out=tmp_path, resume=True, **OPTIONS)
    on = fit_many(named, DATA, steps=40, out=tmp_path, resume=True, **OPTIONS)
    for run, other in zip(on, straight, strict=True):
        same(run, other)
    alone = reverie.fit(SETTINGS[1], DATA, steps=60, seeds_by="map", out=tmp_path / "b", resume=True, progress=False)
    assert alone.step == 60 and reverie.load(tmp_path / "b").algorithm == SETTINGS[1]


def test_those_that_were_saved_later_or_not_yet_go_on_from_where_they_are(tmp_path, straight, monkeypatch):
    """As after a process that died while it saved: `a` has one checkpoint more; and `c` is new."""
    fit_many({"a": SETTINGS[0]}, DATA, steps=20, out=tmp_path, **OPTIONS)
    fit_many({"b": SETTINGS[1]}, DATA, steps=10, out=tmp_path, **OPTIONS)
    named, restored, restore = dict(zip("abc", SETTINGS, strict=True)), [], Stores.restore

    def noted(self, step, like):
        restored.append((step, list(self.stores)))
        return restore(self, step, like)

    monkeypatch.setattr(Stores, "restore", noted)
    found = fit_many(named, DATA, steps=40, out=tmp_path, resume=True, **OPTIONS)
    for run, other in zip(found, straight, strict=True):
        assert run.step == 40
        near(run, other)
    assert restored == [(10, ["a", "b"])]


def test_a_group_that_diverges_leaves_those_that_are_further_alone(tmp_path):
    fit_many({"far": Settled()}, DATA, steps=20, out=tmp_path, **OPTIONS)
    named = {"far": Settled(), "bad": Settled(fails_at=5.0)}
    run, error = fit_many(named, DATA, steps=40, out=tmp_path, resume=True, **OPTIONS)
    assert run.step == 40 and str(error).startswith("bad: decay became nan at update 5")


def test_one_that_diverges_leaves_the_others_alone(tmp_path):
    named = {"good": Settled(), "bad": Settled(fails_at=25.0)}
    run, error = fit_many(named, DATA, steps=40, out=tmp_path, **OPTIONS)
    assert isinstance(error, DivergenceError) and diverged(tmp_path / "bad") == str(error)
    assert diverged(tmp_path / "good") is None
    assert str(error).startswith("bad: decay became nan at update 25 of seed 0. The last good checkpoint is that of up")
    assert reverie.load(tmp_path / "bad").step == 20 and run.step == 40
    assert np.isfinite(reverie.load(tmp_path / "bad").metrics()["decay"]).all()
    same(run, fit_many([Settled(), Settled(fails_at=99.0)], DATA, steps=40, **OPTIONS)[0])
    on, again = fit_many(named, DATA, steps=60, out=tmp_path, resume=True, **OPTIONS)
    assert on.step == 60 and str(again) == str(error) and reverie.load(tmp_path / "bad").step == 20
    with pytest.raises(DivergenceError, match="000: decay became nan at update 5 of seed 0"):
        fit_many([Settled(fails_at=5.0), Settled(fails_at=15.0)], DATA, steps=40, segment=10)


@pytest.mark.parametrize(
    ("algorithms", "said"),
    [
        ([], "no setting to train"),
        ([Settled(), TinyBC()], "of several: settled, tiny-bc"),
        ([Settled(), Settled(widths=(8,))], r"widths = \(16,\), \(8,\): in one program only fields of type float"),
        ([Settled(), Settled(batch_size=8)], "batch_size = 32, 8: in one program only fields of type float"),
        ([Settled(), Settled(noise=1.0)], "noise is read when settled prepares the data"),
        (
            [Settled(), Settled(steep=2.0)],
            "steep cannot differ within one program of settled",
        ),
    ],
)
def test_what_cannot_be_one_program_is_refused(algorithms, said):
    with pytest.raises(ReverieError, match=said):
        fit_many(algorithms, DATA, steps=4)


def test_keep_is_at_least_two():
    with pytest.raises(RunError, match="keep=1 must be at least 2"):
        fit_many(SETTINGS, DATA, steps=4, keep=1)


def test_an_interrupted_training_is_saved_in_every_folder(tmp_path, monkeypatch):
    append = Store.append

    def interrupting(self, rows):
        if rows[0]["step"] == 20 and self.path.name == "000":
            os.kill(os.getpid(), signal.SIGINT)
        return append(self, rows)

    monkeypatch.setattr(Store, "append", interrupting)
    with pytest.raises(KeyboardInterrupt):
        fit_many(SETTINGS, DATA, steps=40, segment=10, out=tmp_path)
    assert [folder.Checkpoints(tmp_path / f"00{i}").latest() for i in range(3)] == [20, 20, 20]


@pytest.fixture
def source(tmp_path):
    DATA.save(f"d4rl:{tmp_path / 'data.hdf5'}")
    return f"d4rl:{tmp_path / 'data.hdf5'}"


def settings_file(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    return ["--settings", str(tmp_path / "settings.json"), "--out", str(tmp_path / "runs"), "--steps", "20"]


def test_the_command_line_trains_what_a_file_lists(source, tmp_path, capsys):
    words = settings_file(tmp_path, '{"slow": {"lr": 1e-4}, "fast": {"lr": 1e-2}, "bad": {"fails_at": 3}}')
    assert main(["train", "settled", "--data", source, *words]) == 2
    said = capsys.readouterr()
    assert (
        "bad: decay became nan at update 3" in said.err and "1 of 3 settings diverged, as said above: bad." in said.err
    )
    assert f"20 updates of 1 seed(s) in {tmp_path / 'runs' / 'fast'}" in said.out
    assert reverie.load(tmp_path / "runs" / "slow").algorithm == Settled(lr=1e-4)


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("[", [], "settings.json' is not JSON"),
        ("[1]", [], "has no settings by name"),
        ('{"a": {"lra": 1}}', [], "settled has no field 'lra', as 'a' of"),
        ('{"../a": {"lr": 1}}', [], "'../a' is no name for a folder"),
        ('{"..": {"lr": 1}}', [], "'..' is no name for a folder"),
        ('{"a": {"lr": 1}}', ["--loggers", "wandb"], "--loggers is not for several --settings"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(text, more, said, source, tmp_path, capsys):
    assert main(["train", "settled", "--data", source, *settings_file(tmp_path, text), *more]) == 2
    assert said in capsys.readouterr().err
