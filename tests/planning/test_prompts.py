"""Prompts: which demonstrations are kept, what is drawn of them, how a task is asked for; returns by task."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, MinMax, Spec, join_tasks, rewards_to_go, windows
from reverie.errors import DataError, ReverieError
from reverie.planning.tasks import (
    Prompted,
    kept_episodes,
    mean_rewards_to_go,
    ranges_by_task,
    shares_by_task,
    step_tasks,
    task_names,
)
from reverie.wishes import resolve


def single(start: float, gains=(1.0, 3.0, 2.0), lengths=(5, 4, 6)) -> Dataset:
    """Episodes of these lengths whose observations count on from `start`; each is paid its gain at its first step."""
    steps, stops = sum(lengths), np.cumsum(lengths)
    rewards = np.zeros(steps)
    rewards[stops - lengths] = gains
    seen = start + np.stack([np.arange(steps), -np.arange(steps)], 1)
    last = np.isin(np.arange(steps), stops - 1)
    return Dataset.from_arrays(seen, seen[:, :1] / 100, rewards, np.zeros(steps), last)


DATA = join_tasks({"up": single(0), "down": single(20, (5.0, 0.0, 9.0))})
METHOD = Prompted(prompt_steps=3)


def prepared(method=METHOD, data=DATA):
    spec = method.with_prompts(data, Spec.fit(data, observations=MinMax, actions=MinMax))
    view = windows(data, spec, 2, pad=True, columns=("observations", "actions"))
    return method.by_task(view, data, spec), spec


def test_the_best_demonstrations_are_kept_and_never_trained_on():
    view, spec = prepared()
    np.testing.assert_array_equal(kept_episodes(DATA, spec), [False, True, False, False, False, True])
    np.testing.assert_array_equal(spec.kept["prompts"]["lengths"], [[4], [6]])
    assert task_names(spec) == ["up", "down"]
    held = step_tasks(DATA, spec) < 0
    index = np.asarray(view.index(jax.random.key(0), 1000))
    assert set(index.tolist()) == set(np.flatnonzero(~held).tolist())
    batch = view.draw(jax.random.key(0), 40)
    np.testing.assert_array_equal(batch["task"], DATA.infos["task"][batch["index"]])


def test_without_rewards_the_first_are_kept_and_those_too_short_for_a_prompt_are_not():
    silent = replace(DATA, rewards=None)
    for steps, kept in ((3, [0, 3]), (6, [2, 5])):
        _, spec = prepared(Prompted(prompt_steps=steps), silent)
        np.testing.assert_array_equal(np.flatnonzero(kept_episodes(silent, spec)), kept)
    _, spec = prepared(Prompted(prompt_steps=3, demonstrations=2))
    np.testing.assert_array_equal(np.flatnonzero(kept_episodes(DATA, spec)), [1, 2, 3, 5])


def test_prompts_are_steps_in_a_row_of_the_task_s_demonstrations_all_equally_often():
    _, spec = prepared(Prompted(prompt_steps=3, demonstrations=2))
    prompts = Prompted(prompt_steps=3).prompts(spec)
    task = jnp.tile(jnp.arange(2), 3000)
    drawn = np.asarray(prompts.draw(jax.random.key(0), task))
    whole = np.concatenate(
        [spec.normalise("observations", DATA.observations), spec.normalise("actions", DATA.actions)], 1
    )
    for number, spans in enumerate(([(5, 9), (9, 15)], [(15, 20), (24, 30)])):
        starts = [at for begin, end in spans for at in range(begin, end - 2)]
        expected = np.stack([whole[at : at + 3] for at in starts])
        mine = drawn[np.asarray(task) == number]
        found = np.abs(mine[:, None] - expected).max((-1, -2)) < 1e-6
        assert (found.sum(1) == 1).all()
        sizes = [end - begin - 2 for begin, end in spans]
        share = np.concatenate([np.full(size, 1 / size / 2) for size in sizes])
        assert (np.abs(found.mean(0) - share) < 4 * np.sqrt(share / len(mine))).all()


@pytest.mark.parametrize("starts", [1, 2, 150])
@pytest.mark.parametrize("at_end", [False, True])
def test_prompts_begin_at_so_many_steps_of_a_side_and_the_first_of_these_is_shown(starts, at_end):
    method = type("Sided", (Prompted,), {"prompts_at_end": at_end})(prompt_steps=3, prompt_starts=starts)
    _, spec = prepared(method)
    drawn = np.asarray(method.prompts(spec).draw(jax.random.key(0), jnp.tile(jnp.arange(2), 300)))
    shown = np.asarray(method.in_network_units(spec, method.first_prompts(spec)))
    whole = np.concatenate(
        [spec.normalise("observations", DATA.observations), spec.normalise("actions", DATA.actions)], 1
    )
    for number, (begin, end) in enumerate([(5, 9), (24, 30)]):
        possible = list(range(begin, end - 2))
        allowed = possible[-starts:] if at_end else possible[:starts]
        found = {int(np.abs(whole - each[0]).sum(-1).argmin()) for each in drawn[number::2]}
        assert found == set(allowed)
        np.testing.assert_allclose(shown[number], whole[allowed[0] : allowed[0] + 3], atol=1e-6)


def test_permuted_tasks_draw_permuted_prompts():
    _, spec = prepared()
    prompts, order = METHOD.prompts(spec), jnp.array([1, 0])
    other = replace(prompts, starts=prompts.starts[order], lengths=prompts.lengths[order])
    task = jnp.array([0, 1, 1, 0, 1])
    np.testing.assert_array_equal(prompts.draw(jax.random.key(2), task), other.draw(jax.random.key(2), order[task]))


def test_a_task_is_asked_for_by_name_number_or_a_demonstration():
    wish = METHOD.task_wish(prepared()[1])
    first = {"up": slice(5, 8), "down": slice(24, 27)}
    rows = {name: np.concatenate([DATA.observations[at], DATA.actions[at]], 1) for name, at in first.items()}

    def asked(value, n=3):
        return resolve("it", {"task": wish}, {"task": value}, n)["task"]

    for value in ("down", 1, np.int32(1), rows["down"]):
        np.testing.assert_array_equal(asked(value), np.stack([rows["down"]] * 3))
    for value in (["up", "down", "up"], [0, 1, 0], np.array([0, 1, 0]), np.array(["up", "down", "up"])):
        np.testing.assert_array_equal(asked(value), np.stack([rows["up"], rows["down"], rows["up"]]))
    for value, said in {
        "left": "task = 'left' is none of 0 to 1, or by name 'up', 'down'",
        2: "task = 2 is none of 0 to 1",
        -1: "task = -1 is none of",
    }.items():
        with pytest.raises(ReverieError, match=said):
            asked(value)
    with pytest.raises(ReverieError, match=r"task has shape \(3, 7\), and must be an array of shape \(3, 3\)"):
        asked(np.zeros((3, 7)))
    with pytest.raises(ReverieError, match=r"it must be told task \(a task by its name or number, or 3 steps of a"):
        asked(None)


def test_where_there_is_one_task_none_need_be_asked_for():
    data = join_tasks({"up": single(0)})
    wish = METHOD.task_wish(prepared(data=data)[1])
    np.testing.assert_array_equal(wish.default[:, :2], data.observations[5:8])


def test_a_specification_that_is_given_keeps_its_prompts_and_its_numbers():
    _, spec = prepared()
    turned = join_tasks({"down": single(20), "up": single(40)})
    assert METHOD.with_prompts(turned, spec) is spec
    expected = 1 - turned.infos["task"]
    expected[9:15] = -1  # the kept demonstration of the other data, which is here too
    np.testing.assert_array_equal(step_tasks(turned, spec), expected)
    other = join_tasks({"aside": single(0)})
    with pytest.raises(DataError, match="was not told of 'aside'; its tasks are up, down"):
        step_tasks(other, spec)


@pytest.mark.parametrize("method", [Prompted(prompt_steps=7), Prompted(prompt_steps=5, demonstrations=3)])
def test_too_few_demonstrations_are_said(method):
    with pytest.raises(
        DataError, match=r"The task 'up' has 3 episodes, of which \d have the prompts' \d steps"
    ) as caught:
        prepared(method)
    assert str(caught.value).endswith(".")


def test_every_episode_cannot_be_a_demonstration():
    with pytest.raises(DataError, match="of which 3 have the prompts' 2 steps, and 3 are to be kept"):
        prepared(Prompted(prompt_steps=2, demonstrations=3))


def test_the_mean_reward_to_go_is_the_sum_over_what_it_is_of_ones():
    found = mean_rewards_to_go(DATA, 0.5)
    np.testing.assert_allclose(found[:5], [1 / 1.9375, 0, 0, 0, 0])
    constant = replace(DATA, rewards=np.full(30, 7.0, np.float32))
    np.testing.assert_allclose(mean_rewards_to_go(constant, 0.9), 7, rtol=1e-6)
    np.testing.assert_allclose(mean_rewards_to_go(DATA, 1.0)[5:9] * [4, 3, 2, 1], rewards_to_go(DATA)[5:9])


def test_returns_are_shares_of_their_task_s_range_whatever_its_rewards_units():
    rng = np.random.default_rng(0)
    rewards, task = rng.normal(size=30).astype(np.float32), DATA.infos["task"]
    found = []
    for scale, shift in ((1, 0), (100, -7)):
        data = replace(DATA, rewards=np.where(task == 1, scale * rewards + shift, rewards).astype(np.float32))
        values = mean_rewards_to_go(data, 0.9)
        ranges = ranges_by_task(values, task, 2)
        found.append(shares_by_task(values, task, ranges))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    for number in range(2):
        mine = found[0][task == number]
        np.testing.assert_allclose([mine.min(), mine.max()], [0, 1], atol=1e-6)
    alike = np.full(30, 2.0)
    np.testing.assert_array_equal(shares_by_task(alike, task, ranges_by_task(alike, task, 2)), 0)


def test_observations_must_be_vectors():
    parts = replace(DATA, observations={"hand": DATA.observations})
    spec = Spec.fit(parts)
    with pytest.raises(DataError, match="observations are a dictionary of hand"):
        METHOD.with_prompts(parts, spec)
