"""Data sets that several tests use."""

import h5py
import numpy as np

from reverie.data import Dataset


def arrays(steps=6):
    """Two episodes: three steps to a terminal, three cut by a timeout."""
    return {
        "observations": np.arange(2.0 * steps).reshape(steps, 2),
        "actions": np.linspace(-1, 1, steps)[:, None],
        "rewards": np.arange(steps) + 1.0,
        "terminals": np.arange(steps) == 2,
        "timeouts": np.arange(steps) == 5,
        "infos": {"goal": np.ones((steps, 2)), "number": np.arange(steps)},
    }


def broken(key, place, value):
    array = np.array(arrays()[key], dtype=float)
    array[place] = value
    return {key: array}


def three_episodes(**changed):
    """Three episodes of 4 (terminal), 3 (cut) and 5 steps (both flags), successors consistent inside each."""
    draw = np.random.default_rng(0)
    observations = draw.normal(size=(12, 3)).astype(np.float32)
    following = np.concatenate([observations[1:], np.zeros((1, 3))])
    following[[3, 6, 11]] = draw.normal(size=(3, 3))
    given = {
        "observations": observations,
        "actions": draw.uniform(-1, 1, (12, 2)),
        "rewards": draw.normal(size=12),
        "terminals": np.isin(np.arange(12), [3, 11]),
        "timeouts": np.isin(np.arange(12), [6, 11]),
        "next_observations": following,
        "infos": {"goal": draw.normal(size=(12, 2)), "cell": np.arange(12)},
        "action_low": [-1, -2],
        "action_high": 1,
        "attributes": {"name": "three", "environment": "None-v0", "noise": [0.0, 0.1], "steps": 12},
    }
    return Dataset.from_arrays(**given | changed)


def assert_same(first, second):
    assert first.arrays().keys() == second.arrays().keys()
    for key, array in first.arrays().items():
        assert array.dtype == second.arrays()[key].dtype, key
        np.testing.assert_array_equal(array, second.arrays()[key], key)


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return f"d4rl:{path}"


def camera(**changed):
    """Two episodes of 3 (terminal) and 2 steps (cut), as a robot sees them: images, token ids, a state; with costs."""
    draw = np.random.default_rng(1)
    seen = {
        "front": draw.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "sentence": draw.integers(0, 50_000, (6, 7)),
        "state": draw.normal(size=(6, 3)).astype(np.float32),
    }
    given = {
        "observations": {name: part[[0, 1, 2, 3, 4]] for name, part in seen.items()},
        "next_observations": {name: part[[1, 2, 5, 4, 5]] for name, part in seen.items()},
        "actions": draw.uniform(-1, 1, (5, 2)),
        "rewards": draw.normal(size=5),
        "costs": [0, 1, 0, 0, 2.5],
        "terminals": [0, 0, 1, 0, 0],
        "timeouts": [0, 0, 0, 0, 1],
        "infos": {"number": np.arange(5)},
        "action_low": -1,
        "action_high": 1,
        "attributes": {"name": "camera"},
    }
    return Dataset.from_arrays(**given | changed)
