"""Collecting part by part: by one process or several, after a stop, and what is kept of it."""

import os
import signal
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from reverie.collection.datasets import SUITES
from reverie.collection.parts import collecting, joined
from reverie.collection.recipe import Part, Rows, cut
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError


@dataclass(frozen=True)
class Draws:
    """Rows of random numbers; a part that is in `broken` fails."""

    scale: float = 1.0
    broken: tuple[int, ...] = ()

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, 10, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        if part.index in self.broken:
            raise KeyboardInterrupt
        values = part.rng().normal(size=(part.steps, 2))
        return {"observations": self.scale * values, "timeouts": np.arange(part.steps) == part.steps - 1}

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        return Dataset.from_arrays(actions=np.zeros((steps, 1)), **rows)

    def __repr__(self) -> str:  # the same set, whether it breaks or not
        return f"Draws({self.scale})"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    return tmp_path / "collecting"


def collect(recipe=Draws(), **settings):
    with collecting(recipe, "draws", **({"steps": 35} | settings)) as data:
        return data


def test_the_parts_are_whole_and_in_their_order():
    assert [(part.index, part.steps) for part in cut(35, 10, 0)] == [(0, 10), (1, 10), (2, 10), (3, 5)]
    data = collect(seed=3)
    np.testing.assert_array_equal(data.episodes, [[0, 10], [10, 20], [20, 30], [30, 35]])
    second = np.random.default_rng([3, 1, 0]).normal(size=(10, 2)).astype(np.float32)
    np.testing.assert_array_equal(data.observations[10:20], second)


@pytest.mark.slow
def test_several_processes_collect_the_same():
    assert collect(jobs=2).fingerprint == collect().fingerprint != collect(seed=1).fingerprint


@dataclass(frozen=True)
class Devices(Draws):
    """Collects what JAX runs on."""

    def collect(self, part: Part, progress: bool = False) -> Rows:
        kind = jax.devices()[0].platform
        return super().collect(part) | {"rewards": np.full(part.steps, float(kind == "cpu"))}


@pytest.mark.slow
def test_several_processes_leave_a_gpu_alone(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none_such")  # which they would fail on
    assert collect(Devices(0.5), steps=20, jobs=2).rewards.all()


def test_a_stopped_collection_goes_on_bit_for_bit(cache, monkeypatch):
    whole = collect()
    assert not list(cache.glob("*/*.npz"))
    with pytest.raises(KeyboardInterrupt):
        collect(Draws(broken=(2,)))
    assert [file.name for file in sorted(cache.glob("*/*"))] == ["00000.npz", "00001.npz"]
    # What is there is not collected again.
    again = collect(Draws(broken=(0, 1)))
    assert again.fingerprint == whole.fingerprint


def test_sigterm_is_as_ctrl_c_while_parts_are_collected(cache, monkeypatch):
    def killed(self, part, progress=False):
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler  # else this would end the tests
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(Draws, "collect", killed)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        collect()
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_could_not_be_saved_is_kept(cache):
    with pytest.raises(OSError), collecting(Draws(), "draws", steps=35):
        raise OSError("no room")
    assert len(list(cache.glob("*/*.npz"))) == 4
    collect(Draws(broken=(0, 1, 2, 3)))
    assert not list(cache.glob("*/*.npz"))


def test_parts_of_other_settings_are_others(cache):
    with pytest.raises(KeyboardInterrupt):
        collect(Draws(broken=(1,)))
    assert collect(Draws(2.0)).observations.std() > 1.4


def test_two_processes_do_not_collect_the_same_at_once():
    with collecting(Draws(), "draws", steps=35), pytest.raises(DataError, match="Another process collects 'draws'"):
        collect()


@pytest.mark.parametrize(("key", "value", "least"), [("steps", 0, 1), ("seed", -1, 0), ("jobs", 0, 1)])
def test_bad_requests_get_a_sentence(key, value, least):
    with pytest.raises(ReverieError, match=f"{key} must be at least {least}, but is {value}"):
        collect(**{key: value})


def test_joined_takes_the_parts_one_after_another():
    parts = [{"x": np.arange(3)}, {"x": np.arange(2)}]
    np.testing.assert_array_equal(joined(parts)["x"], [0, 1, 2, 0, 1])


def test_no_two_suites_have_a_name_in_common():
    names = [name for suite in SUITES for name in suite.entries]
    assert len(names) == len(set(names))
