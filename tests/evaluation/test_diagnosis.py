"""What is found in data and runs with a known fault, and that nothing is where there is none."""

from dataclasses import replace

import numpy as np
import pytest

import reverie
from reverie.baselines import BC, IQL
from reverie.data import Dataset
from reverie.evaluation.diagnosis import check_data, check_discount, check_run, replayed, two_means


def data(**changed) -> Dataset:
    """Walks whose action is a known function of the place; 20 episodes of 30 steps."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(600, 2))
    arrays = {
        "observations": place, "actions": np.stack([0.5 * place[:, 0], -0.3 * place[:, 1]], -1), "rewards": None,
        "terminals": None, "timeouts": np.arange(600) % 30 == 29, "action_low": -3.0, "action_high": 3.0,
    }  # fmt: skip
    return Dataset.from_arrays(**arrays | changed)


def said(found, what):
    return [(each.level, each.said) for each in found if each.what == what]


def test_sound_data_are_called_fine():
    assert {each.level for each in check_data(data())} == {"fine"}


def test_each_fault_is_found_and_named():
    actions = data().actions.copy()
    actions[:, 1] = 0.25
    actions[3, 0] = 40.0
    found = check_data(data(actions=actions, action_low=-50.0, action_high=50.0))
    levels, words = zip(*said(found, "actions"), strict=True)
    assert levels == ("wrong", "note")
    assert words[0].startswith("number 1 never changes")
    assert words[1].startswith("number 0 spans")

    still = check_data(data(actions=np.repeat(data().actions[::6], 6, 0)))
    assert said(still, "actions")[0][1].startswith("86% are the same as the one before")


def test_a_dead_camera_is_told_from_one_that_sees():
    rng = np.random.default_rng(0)
    cameras = {
        "left": rng.integers(0, 256, (600, 4, 4, 3), dtype=np.uint8),
        "right": np.full((600, 4, 4, 3), 7, np.uint8),
        "arm": data().observations,
    }
    found = check_data(data(observations=cameras))
    assert said(found, "observations/left")[0][0] == "fine"
    assert said(found, "observations/right") == [
        ("wrong", "pixels vary by 0.00 of 255 levels (mean 7): the camera is dead")
    ]


def test_two_ways_in_one_state_are_seen():
    rng = np.random.default_rng(0)
    assert two_means(rng.normal(size=(4000, 1))) == pytest.approx(2 / np.pi, abs=0.03)
    assert two_means(np.repeat([[-1.0], [1.0]], 12, 0)) == pytest.approx(1)
    assert two_means(np.ones((24, 2))) == 0
    side = rng.choice([-1.0, 1.0], (600, 1)) + 0.05 * rng.normal(size=(600, 2))
    level, words = said(check_data(data(actions=side)), "ways to act")[0]
    assert level == "note"
    assert "a mean is neither" in words


@pytest.fixture(scope="module")
def run():
    return reverie.fit(BC(hidden=(16,), learning_rate=3e-3, batch_size=64), data(), steps=400, seeds=2, progress=False)


def test_a_run_that_learned_is_near_its_demonstrations_and_not_shifted(run):
    found = check_run(run, data(), updates=0)
    assert [each.level for each in found] == ["fine"]
    acted, shown = replayed(run, data(), episodes=4)
    assert acted.shape == shown.shape == (30, 4, 2)
    assert np.nanmax(np.abs(acted - shown)) < 0.6


def test_actions_that_are_stored_a_step_late_are_found(run):
    """The observation of a step stands beside the action of the one before."""
    late = data(actions=np.roll(data().actions, 1, 0))
    found = check_run(run, late, updates=0)
    level, words = said(found, "alignment")[0]
    assert level == "wrong"
    assert "those 1 steps later" in words


def test_whether_one_demonstration_is_learned_by_heart(run):
    quick = check_run(run, data(), updates=400)[-1]
    assert (quick.what, quick.level) == ("by heart", "fine")
    slow = replace(run, algorithm=replace(run.algorithm, learning_rate=1e-6))
    never = check_run(slow, data(), updates=10)[-1]
    assert never.level == "note"
    assert "raise the learning rate" in never.said


@pytest.mark.parametrize(
    ("algorithm", "levels", "words"),
    [
        (IQL(discount=0.9), ["note"], "train with --discount 0.99"),
        (IQL(discount=0.995), ["fine"], "to 1.00"),
        (BC(), [], ""),
    ],
)
def test_a_discount_that_does_not_see_the_end_is_told_of(algorithm, levels, words):
    """Of episodes whose first reward falls by 5 where they have 20 more."""
    lengths, first = [1, 1, 1, 20, 40, 60], [0, 0, 0, 15.0, 10.0, 5.0]
    rewards = np.concatenate([[paid, *[1.0] * (n - 1)] for n, paid in zip(lengths, first, strict=True)])
    ends = np.zeros(len(rewards))
    ends[np.cumsum(lengths) - 1] = 1
    column = np.zeros((len(rewards), 1))
    found = check_discount(algorithm, Dataset.from_arrays(column, column, rewards, ends))
    assert [each.level for each in found] == levels
    assert all(words in each.said for each in found)
