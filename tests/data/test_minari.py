"""Minari: round trips, what its own files hold, downloads, and the sentences for what is damaged or not there."""

import builtins
import re

import numpy as np
import pytest
from data_sets import assert_same, camera, three_episodes

from reverie.data.readers import read
from reverie.errors import DataError


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


def collect(minari, identity, observations, ends, space, infos=None):
    """A Minari data set made by Minari's own function: `ends` gives steps, terminal and cut for every episode."""
    from gymnasium.spaces import Box

    buffers = [
        minari.data_collector.EpisodeBuffer(
            observations=observed,
            actions=np.full((steps, 1), 0.5, np.float32),
            rewards=np.arange(steps, dtype=np.float64),
            terminations=np.arange(steps) == (steps - 1 if terminal else -1),
            truncations=np.arange(steps) == (steps - 1 if cut else -1),
            infos=infos,
        )
        for observed, (steps, terminal, cut) in zip(observations, ends, strict=True)
    ]
    minari.create_dataset_from_buffers(
        identity, buffers, observation_space=space, action_space=Box(-2, 2, (1,), np.float32), data_format="hdf5"
    )


def test_minari_round_trip_bit_for_bit(minari):
    three_episodes().save("minari:mine/three-v0")
    loaded = read("minari:mine/three-v0")
    assert_same(three_episodes(), loaded)
    assert loaded.fingerprint == three_episodes().fingerprint
    assert loaded.attributes == {**three_episodes().attributes, "source": "minari:mine/three-v0"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_last_observation_and_open_episodes(minari):
    from gymnasium.spaces import Box

    observations = [np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(4, 2) + 100]
    infos = {"after": np.arange(3.0), "note": np.arange(7)}
    collect(
        minari, "mine/walk-v1", observations, [(2, True, False), (3, False, False)], Box(-np.inf, np.inf, (2,)), infos
    )
    loaded = read("minari:mine/walk-v1")
    np.testing.assert_array_equal(loaded.observations[:, 0], [0, 2, 100, 102, 104])
    np.testing.assert_array_equal(loaded.next_observations[:, 0], [2, 4, 102, 104, 106])
    np.testing.assert_array_equal(loaded.terminals, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(loaded.timeouts, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(loaded.infos["after"], [1, 2, 0, 1, 2])
    assert list(loaded.infos) == ["after"]
    assert (loaded.action_low, loaded.action_high) == (-2, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_goal_environments(minari):
    from gymnasium.spaces import Box, Dict

    parts = {"observation": 2, "desired_goal": 1, "achieved_goal": 1}
    space = Dict({key: Box(-np.inf, np.inf, (size,)) for key, size in parts.items()})
    observed = {key: np.arange(3.0 * size).reshape(3, size) + size for key, size in parts.items()}
    collect(minari, "maze-v0", [observed], [(2, False, True)], space)
    loaded = read("minari:maze-v0")
    np.testing.assert_array_equal(loaded.observations, [[2, 3], [4, 5]])
    np.testing.assert_array_equal(loaded.next_observations, [[4, 5], [6, 7]])
    np.testing.assert_array_equal(loaded.infos["goal"], [[1], [2]])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_other_dictionaries_stay_dictionaries(minari):
    from gymnasium.spaces import Box, Dict

    space = Dict({"observation": Box(-9, 9, (2,)), "eye": Box(0, 255, (2, 2, 1), np.uint8)})
    observed = {"observation": np.arange(6.0).reshape(3, 2), "eye": np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)}
    collect(minari, "eyes-v0", [observed], [(2, True, False)], space)
    loaded = read("minari:eyes-v0")
    np.testing.assert_array_equal(loaded.observations["observation"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(loaded.next_observations["eye"], observed["eye"][1:])
    assert loaded.observations["eye"].dtype == np.uint8


def test_minari_dictionaries_come_back_bit_for_bit(minari):
    camera().save("minari:mine/camera-v0")
    loaded = read("minari:mine/camera-v0")
    assert_same(camera(), loaded)
    assert loaded.fingerprint == camera().fingerprint


def test_large_images_lose_nothing_in_minari(minari):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    seen = camera(observations=pictures[:5], next_observations=pictures[[1, 2, 5, 4, 5]])
    seen.save("minari:mine/large-v0")
    assert_same(seen, read("minari:mine/large-v0"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_nested_dictionaries_are_refused(minari):
    from gymnasium.spaces import Box, Dict

    space = Dict({"left": Box(-1, 1, (2,)), "right": Dict({"eye": Box(-1, 1, (2,))})})
    observed = {"left": np.zeros((3, 2)), "right": {"eye": np.zeros((3, 2))}}
    collect(minari, "eyes-v0", [observed], [(2, True, False)], space)
    with pytest.raises(DataError, match="'minari:eyes-v0': The observations' part 'right' is made of parts itself"):
        read("minari:eyes-v0")


def test_a_minari_data_set_that_is_not_here_is_downloaded(minari, monkeypatch):
    asked = []

    def download(identity):
        asked.append(identity)
        three_episodes().save(f"minari:{identity}")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", download)
    assert read("minari:far/away-v3").fingerprint == three_episodes().fingerprint
    assert read("minari:far/away-v3").fingerprint == three_episodes().fingerprint
    assert asked == ["far/away-v3"], "the second time it is here"


def test_a_failed_download_says_why(minari, monkeypatch):
    def download(identity):
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", download)
    with pytest.raises(
        DataError, match=r"no Minari data set 'far/away-v3' .*\(ConnectionError: no route to host\); 'min"
    ):
        read("minari:far/away-v3")


@pytest.mark.parametrize("file", ["metadata.json", "main_data.hdf5"])
def test_a_damaged_minari_data_set_is_named(minari, tmp_path, file):
    three_episodes().save("minari:mine/three-v0")
    path = tmp_path / "minari/mine/three-v0/data" / file
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"mine/three-v0' is (damaged|on this machine but cannot be read)"):
        read("minari:mine/three-v0")


@pytest.mark.parametrize("identity", ["three", "th ree-v0"])
def test_a_malformed_minari_name_is_refused(minari, identity):
    for attempt in (lambda: read(f"minari:{identity}"), lambda: three_episodes().save(f"minari:{identity}")):
        with pytest.raises(DataError, match=f"'{identity}' is no Minari name; write it as NAMESPACE/NAME-vNUMBER"):
            attempt()


def test_without_minari_the_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "minari":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataError, match=re.escape("Minari is not installed; install it with: pip install 'reverie[minari]'")
    ):
        read("minari:mine/three-v0")
