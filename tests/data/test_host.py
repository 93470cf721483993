"""Data on the host: the same batches as on the device, and a thread that ends and hides no error."""

import threading

import jax
import numpy as np
import pytest

from reverie.data import Dataset, Gaussian, MinMax, Spec, transitions, windows
from reverie.data.host import AHEAD, Prefetch, host_memory, on_host


def data():
    rng = np.random.default_rng(0)
    ends = np.arange(60) % 12 == 11
    arrays = rng.normal(size=(60, 3)), rng.uniform(-1, 1, (60, 2)), rng.normal(size=60)
    return Dataset.from_arrays(*arrays, terminals=ends & (np.arange(60) < 30), timeouts=ends, infos={"task": ends})


def spec():
    return Spec.fit(data(), observations=Gaussian, actions=MinMax, rewards=Gaussian)


def long_windows(data, spec):
    names = ("observations", "actions", "rewards", "terminals", "timesteps", "returns_to_go", "returns", "task")
    return windows(data, spec, 4, 2, "zeros", 0.9, history=2, columns=names)


VIEWS = pytest.mark.parametrize("build", [transitions, long_windows], ids=["transitions", "windows"])


def assert_same(batch, other):
    assert set(batch) == set(other)
    for name, column in batch.items():
        assert column.dtype == other[name].dtype
        np.testing.assert_array_equal(column, other[name])


@VIEWS
def test_batches_of_the_host_are_those_of_the_device(build):
    view = build(data(), spec())
    host, take = on_host(view), jax.jit(lambda view, index: view.take(index))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(host))
    assert (len(host), host.nbytes) == (len(view), view.nbytes)
    drawn = view.index(jax.random.key(1), 8)
    assert_same(host.draw(jax.random.key(1), 8), take(view, drawn))
    for index in (drawn, drawn.reshape(2, 4)):
        batch = host.take(np.asarray(index))
        assert all(type(column) is np.ndarray for column in batch.values())
        assert_same(batch, take(view, index))


def bringing(view):
    return lambda index: jax.device_put(view.take(index))


@VIEWS
def test_batches_come_to_the_device_in_the_order_of_their_numbers(build):
    view = build(data(), spec())
    draw = jax.jit(lambda view, key: view.draw(key, 8))
    host, keys = on_host(view), jax.random.split(jax.random.key(0), 5)
    index = jax.jit(lambda key: host.index(key, 8))
    with Prefetch(bringing(host), (index(key) for key in keys)) as batches:
        made = list(batches)
    assert len(made) == 5
    for key, batch in zip(keys, made, strict=True):
        assert all(isinstance(column, jax.Array) for column in batch.values())
        assert_same(batch, draw(view, key))


def test_a_view_is_built_in_the_hosts_memory():
    with host_memory():
        view = transitions(data(), spec())
    assert all(leaf.device.platform == "cpu" and not leaf.committed for leaf in jax.tree.leaves(view))
    index = np.arange(5)
    assert_same(on_host(view).take(index), transitions(data(), spec()).take(index))


def threads() -> int:
    return sum(thread.name == "reverie-prefetch" for thread in threading.enumerate())


def numbers(read: list):
    """Numbers without end; `read` keeps those that were asked for."""
    while True:
        read.append(len(read))
        yield np.full(3, len(read) - 1)


def test_the_thread_gathers_a_few_batches_ahead_and_ends_with_close():
    view, read = on_host(transitions(data(), spec())), []
    before = threads()
    with Prefetch(bringing(view), numbers(read)) as batches:
        assert threads() == before + 1
        for n in range(4):
            np.testing.assert_array_equal(next(batches)["index"], [n] * 3)
            # One more index may have been read, and waits for room.
            assert len(read) <= n + 1 + AHEAD + 1
    assert threads() == before
    assert list(batches) == []
    batches.close()


def test_the_thread_ends_with_its_indices():
    before = threads()
    batches = Prefetch(bringing(on_host(transitions(data(), spec()))), [np.zeros(2, int)])
    assert len(list(batches)) == 1
    assert threads() == before
    assert list(batches) == []


def test_what_goes_wrong_in_the_thread_is_raised_in_its_turn():
    view = on_host(transitions(data(), spec()))

    def failing():
        yield np.zeros(2, int)
        raise ValueError("no more numbers")

    for indices, error in (([np.zeros(2, int), np.array([10**6])], IndexError), (failing(), ValueError)):
        before = threads()
        batches = Prefetch(bringing(view), indices)
        np.testing.assert_array_equal(next(batches)["index"], [0, 0])
        with pytest.raises(error):
            next(batches)
        assert threads() == before
        assert list(batches) == []


def test_a_context_that_is_left_by_an_error_ends_the_thread():
    before = threads()
    with pytest.raises(KeyError), Prefetch(bringing(on_host(transitions(data(), spec()))), numbers([])):
        raise KeyError
    assert threads() == before
