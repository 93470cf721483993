"""Which discount tells the better of two ways to act: of early rewards against late ones, by hand."""

import numpy as np
import pytest

from reverie.data import Dataset
from reverie.evaluation.discounts import order_by_discount


def episodes(lengths, first) -> Dataset:
    """Of so many steps of reward 1, but for the first, whose reward is `first`."""
    rewards = np.concatenate([[paid, *[1.0] * (n - 1)] for n, paid in zip(lengths, first, strict=True)])
    ends = np.zeros(len(rewards))
    ends[np.cumsum(lengths) - 1] = 1
    return Dataset.from_arrays(np.zeros((len(rewards), 1)), np.zeros((len(rewards), 1)), rewards, ends)


def test_the_longest_episode_is_the_best_by_a_discount_that_sees_its_end():
    """What the first reward takes from longer episodes weighs more than what comes after 20 and 40 further steps."""
    data = episodes([1, 1, 1, 20, 40, 60], [0, 0, 0, 3.0, 2.0, 1.0])
    found = order_by_discount(data, (0.5, 0.99))
    assert found == pytest.approx({0.5: -1, 0.99: 1})


@pytest.mark.parametrize("data", [episodes([4, 4, 4], [1, 1, 1]), episodes([3, 4], [1, 1])])
def test_without_better_and_worse_episodes_there_is_no_order(data):
    assert order_by_discount(data) == {}


def test_without_rewards_there_is_no_order():
    assert order_by_discount(Dataset.from_arrays(np.zeros((4, 1)), np.zeros((4, 1)), timeouts=[0, 1, 0, 1])) == {}
