"""Data in the host's memory: the same updates, bit for bit."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from tiny_algorithm import TinyBC, assert_same, leaves, synthetic

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.data import Gaussian, Spec, windows
from reverie.errors import RunError
from reverie.learning.stages import Stage
from reverie.synthesizers import MBPO

DATA = synthetic()
ENDLESS = replace(DATA, terminals_known=True)
fit = partial(reverie.fit, data=DATA, segment=40, progress=False)  # 20 updates are gathered at once


@dataclass(frozen=True)
class TinyWindows(TinyBC):
    """The same for every step of a window."""

    name: ClassVar[str] = "tiny-windows"

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data, observations=Gaussian)
        return windows(data, spec, 4, pad=True), spec


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, TinyWindows.name, TinyWindows)


@pytest.mark.parametrize("algorithm", [TinyBC(), TinyWindows()], ids=lambda each: each.name)
def test_states_and_metrics_are_the_devices(algorithm, tmp_path):
    device = fit(algorithm, steps=80, seeds=2)
    assert_same(fit(algorithm, steps=80, seeds=2, host_data=True), device)
    path = tmp_path / "run"
    fit(algorithm, steps=40, seeds=2, host_data=True, out=path)
    resumed = reverie.resume(path, DATA, steps=80, progress=False)  # with the data where they were
    assert reverie.training.folder.read_config(path)["training"]["host_data"]
    for x, y in zip(leaves(resumed), leaves(device), strict=True):
        np.testing.assert_array_equal(x, y)


def test_views_that_draw_by_an_array_too():
    method = MBPO(members=2, elites=1, hidden=(8,), policy_hidden=(8,), batch_size=4, kept_rows=20)
    device, host = (fit(method, data=ENDLESS, steps=40, host_data=where) for where in (False, True))
    assert all(map(np.array_equal, leaves(device), leaves(host)))


def test_seeds_at_once_too():
    at_once = partial(fit, TinyBC(), steps=40, seeds=2, seeds_by="vmap")
    assert_same(at_once(host_data=True), at_once())


def test_derived_columns_need_the_device():
    @dataclass(frozen=True)
    class Deriving(TinyBC):
        name: ClassVar[str] = "deriving"

        @property
        def stages(self):
            later = Stage(self.update, derive=lambda state, view, key: {})
            return Stage(self.update, 600_000), later

    # In whatever stage, at once: not when the stage begins.
    with pytest.raises(RunError, match="deriving derives further columns of the data; keep them on the device"):
        fit(Deriving(), steps=5, host_data=True)
