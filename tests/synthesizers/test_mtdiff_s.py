"""MTDiff-s: whole windows of the tasks that are asked for, which keep each task's dynamics and rewards."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, join_tasks, tasks_of
from reverie.errors import DataError, ReverieError
from reverie.synthesizers import MTDiffSynthesizer

TINY = MTDiffSynthesizer(
    horizon=4, width=32, heads=2, depth=1, diffusion_steps=20, prompt_steps=6, batch_size=32, chunk=100,
    learning_rate=3e-3, decay_updates=1200, ema_start=0, ema_decay=0.95, ema_every=1,
)  # fmt: skip
KEY = jax.random.key(0)


def moved(task, states, actions):
    """One task's actions push, the other's pull; one pays for being right, the other for being left."""
    sign = 1 - 2 * np.asarray(task)
    return states + 0.3 * sign * actions, sign * states


def single(task: int, episodes: int = 40) -> Dataset:
    rng = np.random.default_rng(task)
    states, actions = [rng.uniform(-1, 1, episodes)], rng.uniform(-1, 1, (12, episodes))
    for action in actions:
        states.append(moved(task, states[-1], action)[0])
    seen = np.stack(states[:-1], 1).reshape(-1, 1)
    done = actions.T.reshape(-1, 1)
    after, paid = moved(task, seen, done)
    last = np.arange(12 * episodes) % 12 == 11
    return Dataset.from_arrays(
        seen, done, paid[:, 0], np.zeros(len(seen)), last, next_observations=after, action_low=-1, action_high=1
    )


DATA = join_tasks({"push": single(0), "pull": single(1, 20)})


@pytest.fixture(scope="module")
def made(optimised):
    with optimised():
        run = reverie.fit(TINY, DATA, steps=1200, progress=False)
        return run, run.generate(400, key=1, progress=False)


def errors(data, task):
    """How far next observations and rewards are from those of a task, `[N]`."""
    after, paid = moved(task, data.observations[:, 0], data.actions[:, 0])
    return np.abs(data.next_observations[:, 0] - after), np.abs(data.rewards - paid)


def test_what_is_made_keeps_its_own_task_s_dynamics_and_rewards_and_not_the_other_s(made):
    _, data = made
    task = data.infos["task"]
    for own, cross, spread in zip(errors(data, task), errors(data, 1 - task), (0.3, 1.0), strict=True):
        assert np.median(own) < 0.15 * spread
        assert np.median(own) < 0.2 * np.median(cross)
        # Where action or state is about 0 the tasks do not differ.
        apart = cross > 0.3 * spread
        assert (own < cross)[apart].mean() > 0.95


def test_the_prompt_alone_decides_the_task(made):
    run, _ = made
    push, pull = (run.acting(task=task).generate(200, key=2, progress=False) for task in ("push", 1))
    assert (push.infos["task"] == 0).all() and (pull.infos["task"] == 1).all()
    assert np.corrcoef(push.observations[:, 0], push.rewards)[0, 1] > 0.95
    assert np.corrcoef(pull.observations[:, 0], pull.rewards)[0, 1] < -0.95


def test_each_window_is_an_episode_cut_after_its_rows_and_of_one_task(made):
    run, data = made
    assert len(data) == 400 and not data.terminals.any()
    # A chunk of 100 rows is 25 windows of 4.
    np.testing.assert_array_equal(np.diff(data.episodes)[:, 0], 4)
    np.testing.assert_array_equal(np.unique(tasks_of(data).episode, return_counts=True)[1] // 2, [25, 25])
    assert tasks_of(data).names == ["push", "pull"]
    odd = run.acting(chunk=6).generate(11, progress=False)
    np.testing.assert_array_equal(np.diff(odd.episodes)[:, 0], [4, 2, 4, 1])
    # What is seen next is what follows, as far as it has been learned.
    inside = ~data.last
    after, before = data.next_observations[inside], data.observations[np.flatnonzero(inside) + 1]
    assert np.median(np.abs(after - before)) < 0.4 * np.median(np.abs(after - before[::-1]))


def test_it_is_deterministic_and_another_key_makes_other_data(made):
    run, data = made
    np.testing.assert_array_equal(run.generate(100, key=1, progress=False).observations, data.observations[:100])
    assert np.abs(run.generate(100, key=2, progress=False).observations - data.observations[:100]).max() > 0.1


def test_noise_is_of_its_standard_deviation_and_without_it_data_are_narrower(made):
    run, data = made
    still = run.acting(solver="ddpm", noise_temperature=0.0).generate(400, key=1, progress=False)
    for array in ("observations", "actions"):
        real, ours, narrow = (getattr(each, array).std() for each in (DATA, data, still))
        assert abs(ours / real - 1) < 0.2
        assert narrow < ours


def test_what_is_made_is_written_row_by_row_with_its_tasks(made, tmp_path):
    run, data = made
    target = f"d4rl:{tmp_path / 'made.hdf5'}"
    run.write(target, 150, key=1, progress=False)
    read = reverie.load_dataset(target)
    np.testing.assert_array_equal(read.infos["task"], data.infos["task"][:150])
    np.testing.assert_array_equal(read.rewards, data.rewards[:150])
    assert list(read.attributes["tasks"]) == ["push", "pull"]
    assert tasks_of(read).names == ["push", "pull"]


def test_a_task_that_is_not_there_is_refused(made):
    with pytest.raises(ReverieError, match="task = 'up' is none of 0 to 1, or by name push, pull"):
        made[0].acting(task="up").generate(4, progress=False)
    with pytest.raises(DataError, match="'this data set' has no tasks"):
        TINY.prepare(single(0))


def test_windows_lie_inside_their_episode_and_tasks_are_balanced():
    view, _ = TINY.prepare(DATA)
    batch = view.draw(KEY, 64)
    np.testing.assert_array_equal(np.bincount(np.asarray(batch["task"])), [32, 32])
    assert np.asarray(batch["mask"]).all()
    x = TINY.rows(batch)
    assert x.shape == (64, 4, 5) and float(jnp.abs(x).max()) <= 1 + 1e-6
    np.testing.assert_allclose(x[:, :-1, 3], x[:, 1:, 0] * 1.0, atol=0.3)  # of their own ranges


@pytest.mark.parametrize("apart, sizes", [(True, [1, 1, 1, 1, 1]), (False, [5])])
def test_a_transition_is_one_token_or_one_a_part(apart, sizes):
    method = replace(TINY, part_tokens=apart)
    _, spec = method.prepare(DATA)
    net = method.network(KEY, spec)
    assert method.sizes(spec) == sizes
    assert len(net.positions) == 1 + 6 + 4 * len(sizes)
    x = jnp.ones((3, 4, 5))
    assert net(x, 0.5, (jnp.ones((3, 6, 2)),)).shape == x.shape
