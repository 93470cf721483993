"""Data of several tasks: what is refused, how sets are joined, and the shares of a batch."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from reverie.data import Dataset, Spec, balanced, join_tasks, tasks_of, windows
from reverie.data.host import on_host
from reverie.data.tasks import text_rows, texts
from reverie.errors import DataError

NAMES = ["go left", "öffne", "go right"]


def single(episodes: int, fill: float = 0.0, columns: int = 2) -> Dataset:
    """Episodes of three steps."""
    rows = np.full((3 * episodes, columns), float(fill))
    last = np.arange(3 * episodes) % 3 == 2
    return Dataset.from_arrays(rows, rows[:, :1], rows[:, 0], np.zeros(len(last)), last, action_low=-9, action_high=9)


def several() -> Dataset:
    """Four episodes of the first task, one of the second, two of the third."""
    return join_tasks({name: single(count, fill) for name, count, fill in zip(NAMES, (4, 1, 2), range(3), strict=True)})


def test_sets_of_single_tasks_become_one_whose_steps_know_their_task():
    data = several()
    assert tasks_of(data).names == NAMES
    np.testing.assert_array_equal(tasks_of(data).episode, [0, 0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(data.infos["task"], data.observations[:, 0])
    assert data.infos["task"].dtype == np.int32
    part = data.take_episodes([4, 6])
    np.testing.assert_array_equal(part.infos["task"], np.repeat([1, 2], 3))


def test_tasks_with_other_spaces_are_not_joined():
    with pytest.raises(
        DataError, match=r"'a' has 2 columns of observations and 'b' has 5; only data with equally many"
    ):
        join_tasks({"a": single(1), "b": single(1, columns=5)})
    with pytest.raises(DataError, match="There is no task to join"):
        join_tasks({})


REFUSED = {
    "'one' has no tasks; give the info 'task' .the number of each step's task. and": {"infos": {}},
    "Step 3 has no task": {"infos": {"task": np.where(np.arange(21) == 3, -1, 0)}},
    "Episode 1 has steps of several tasks": {"infos": {"task": np.where(np.arange(21) == 5, 2, 0)}},
    "There is no episode of the task 'öffne'": {"infos": {"task": np.repeat([0, 2, 2], 7) * (np.arange(21) > 11)}},
    "lists 'x' twice": {"attributes": {"tasks": ["x", "y", "x"]}},
    "is 2 where 'tasks' lists 1 tasks": {"attributes": {"tasks": ["x"]}},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_no_data_of_several_tasks_is_refused_in_a_sentence(said):
    with pytest.raises(DataError, match=said) as caught:
        tasks_of(replace(several(), **{"attributes": {"tasks": NAMES, "name": "one"}, **REFUSED[said]}))
    assert str(caught.value).endswith(".")


def view():
    data = several()
    found = windows(data, Spec.fit(data), 2, pad=True, columns=("observations", "task"))
    return found, np.asarray(found.per_window["task"])


@pytest.mark.parametrize("size, shares", [(6, [2, 2, 2]), (1, [0, 0, 1]), (8, [2, 3, 3])])
def test_every_task_has_its_share_of_each_batch_whatever_its_steps(size, shares):
    windows, task = view()
    index = jax.jit(jax.vmap(lambda key: balanced(windows, task).index(key, size)))
    drawn = task[np.asarray(index(jax.random.split(jax.random.key(0), 300)))]
    batches = (drawn[:, None] == np.arange(3)[:, None]).sum(2)
    np.testing.assert_array_equal(np.sort(batches), [shares] * 300)
    # The remainder goes to one task, or leaves one out, each time anew: a binomial's standard error is 0.027.
    np.testing.assert_allclose(batches.mean(0) / size, 1 / 3, atol=3 * 0.027 / size)


def test_within_a_task_every_window_is_equally_likely_and_none_of_another_is_drawn():
    windows, task = view()
    index = np.asarray(balanced(windows, task).index(jax.random.key(1), 3 * 4000))
    counts = np.bincount(index, minlength=21)
    expected = 4000 / np.bincount(task)[task]
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_windows_of_no_group_are_never_drawn_and_a_group_without_any_is_refused():
    windows, task = view()
    drawn = balanced(windows, np.where(np.arange(21) < 9, -1, task))
    assert len(drawn) == 12
    assert set(np.asarray(drawn.index(jax.random.key(0), 900)).tolist()) == set(range(9, 21))
    with pytest.raises(DataError, match="Group 1 has no window"):
        balanced(windows, np.where(task == 1, 0, task))


def test_it_is_drawn_alike_on_the_host():
    windows, task = view()
    here, there = (
        each.draw(jax.random.key(3), 7) for each in (balanced(windows, task), on_host(balanced(windows, task)))
    )
    for name in here:
        np.testing.assert_array_equal(here[name], there[name])


def test_names_are_kept_as_bytes():
    assert texts(text_rows(NAMES)) == NAMES
    assert texts(text_rows([""])) == [""]
