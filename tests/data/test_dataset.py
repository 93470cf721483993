"""Checks on the way in, episodes, returns, subsets, fingerprints."""

import re

import numpy as np
import pytest

from reverie.data import Dataset, concatenate
from reverie.errors import DataError


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


def test_casts_and_keeps_terminals_and_timeouts_apart():
    data = Dataset.from_arrays(**arrays())
    assert data.observations.dtype == data.actions.dtype == data.rewards.dtype == np.float32
    assert data.infos["goal"].dtype == np.float32
    assert data.infos["number"].dtype == np.int64
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [2])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [5])
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 6]])
    np.testing.assert_array_equal(data.returns, [6.0, 15.0])
    assert (len(data), data.observation_dim, data.action_dim) == (6, 2, 1)


def test_a_row_may_be_both_terminal_and_timeout_and_ends_one_episode():
    given = arrays() | {"timeouts": np.isin(np.arange(6), [2, 5])}
    data = Dataset.from_arrays(**given)
    assert data.terminals[2] and data.timeouts[2]
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 6]])


def test_float32_arrays_are_not_copied_and_cannot_be_changed_through_the_data_set():
    observations = np.zeros((4, 3), np.float32)
    data = Dataset.from_arrays(observations, np.zeros((4, 1), np.float32), timeouts=[0, 0, 0, 1])
    assert np.shares_memory(observations, data.observations)
    with pytest.raises(ValueError, match="read-only"):
        data.observations[0, 0] = 1


def test_a_trailing_unfinished_episode_counts_as_cut():
    timeouts = np.zeros(6, bool)
    data = Dataset.from_arrays(**arrays() | {"timeouts": timeouts})
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 6]])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [5])
    assert not timeouts.any(), "the caller's array was changed"


def broken(key, place, value):
    array = np.array(arrays()[key], dtype=float)
    array[place] = value
    return {key: array}


CASES = {
    "observations of one axis": (
        {"observations": np.zeros(6)},
        "'observations' has shape (6,); give [steps, dim], episodes one after another.",
    ),
    "actions of three axes": ({"actions": np.zeros((6, 1, 1))}, "'actions' has shape (6, 1, 1); give [steps, dim]"),
    "rewards in a column": ({"rewards": np.zeros((6, 1))}, "'rewards' has shape (6, 1); give [steps]"),
    "flags in a column": (
        {"terminals": np.zeros((6, 1))},
        "'terminals' has shape (6, 1); give [steps], one flag a step.",
    ),
    "a shorter array": ({"actions": np.zeros((5, 1))}, "'actions' has 5 rows where 'observations' has 6"),
    "a shorter flag": ({"timeouts": [0, 1]}, "'timeouts' has 2 rows where 'observations' has 6"),
    "a shorter info": ({"infos": {"goal": np.zeros((4, 2))}}, "'infos/goal' has 4 rows where 'observations' has 6"),
    "a single info": ({"infos": {"goal": 3.0}}, "'infos/goal' is one number"),
    "ragged rows": ({"observations": [[1.0], [1.0, 2.0]]}, "'observations' has rows of differing lengths"),
    "NaN": (broken("observations", (4, 1), np.nan), "'observations' holds nan at row 4, column 1 (1 such in all)"),
    "infinity": (broken("rewards", 3, -np.inf), "'rewards' holds -inf at row 3 (1 such in all)"),
    "beyond 32 bits": (broken("actions", (2, 0), 1e300), "'actions' holds 1e+300 at row 2, column 0 (1 such in all)"),
    "NaN in an info": (
        {"infos": {"goal": np.full((6, 2), np.nan)}},
        "'infos/goal' holds nan at row 0, column 0 (12 such in all)",
    ),
    "objects": ({"actions": np.full((6, 1), None)}, "'actions' has type object; give an array of numbers."),
    "text": ({"rewards": ["good"] * 6}, "'rewards' has type <U4; give an array of numbers."),
    "nothing": ({"observations": np.zeros((0, 2))}, "'observations' is empty (shape (0, 2))"),
    "no dimension": ({"actions": np.zeros((6, 0))}, "'actions' is empty (shape (6, 0))"),
    "no end": (
        {"terminals": np.zeros(6), "timeouts": None},
        "No episode ends: 'terminals' and 'timeouts' are false in all 6 rows; set 'timeouts'",
    ),
    "a flag of 2": ({"terminals": [0, 0, 2, 0, 0, 0]}, "'terminals' holds 2 at row 2; give 0 or 1 (or booleans)."),
    "NaN as a flag": ({"timeouts": [0, np.nan, 0, 0, 0, 1]}, "'timeouts' holds nan at row 1; give 0 or 1"),
    "wider successors": (
        {"next_observations": np.zeros((6, 3))},
        "'next_observations' has 3 columns where 'observations' has 2; give both the same.",
    ),
    "an action out of bounds": (
        {"action_low": -1, "action_high": 0.9},
        "'actions' holds 1.0 at row 5, column 0, outside its bounds [-1.0, 0.9",
    ),
    "one bound": ({"action_low": -1}, "Only one of 'action_low' and 'action_high' is given; give both or neither."),
    "bounds exchanged": (
        {"action_low": 1, "action_high": -1},
        "'action_low' 1.0 is not below 'action_high' -1.0 in column 0",
    ),
    "too many bounds": (
        {"action_low": [-1, -1], "action_high": [1, 1]},
        "'action_low' has shape (2,); give one number or 1, one an action.",
    ),
    "an attribute of parts": ({"attributes": {"made": {"by": "me"}}}, "The attribute 'made' is a dict"),
}


@pytest.mark.parametrize("changed, sentence", CASES.values(), ids=CASES)
def test_bad_input_gets_its_sentence(changed, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        Dataset.from_arrays(**arrays() | changed)


def test_actions_are_free_where_no_bounds_are_given():
    data = Dataset.from_arrays(**arrays() | {"actions": np.linspace(-3, 2, 6)[:, None]})
    low, high = data.action_bounds
    assert (low, high) == (-3, 2)


def test_action_bounds_default_to_one_and_yield_to_declared_ones():
    given = arrays() | {"actions": np.full((6, 1), 0.5)}
    assert [bound.tolist() for bound in Dataset.from_arrays(**given).action_bounds] == [[-1.0], [1.0]]
    declared = Dataset.from_arrays(**given, action_low=-2, action_high=[0.5])
    assert [bound.tolist() for bound in declared.action_bounds] == [[-2.0], [0.5]]


def test_returns_without_rewards_say_so():
    with pytest.raises(DataError, match="'maze' has no rewards"):
        Dataset.from_arrays(**arrays() | {"rewards": None}, attributes={"name": "maze"}).returns  # noqa: B018


def test_take_episodes_takes_whole_episodes_in_order():
    data = Dataset.from_arrays(**arrays(), action_low=-1, action_high=1, attributes={"name": "two"})
    taken = data.take_episodes([1, 0, 1])
    np.testing.assert_array_equal(taken.rewards, [4, 5, 6, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(taken.infos["number"], [3, 4, 5, 0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(taken.episodes, [[0, 3], [3, 6], [6, 9]])
    assert taken.attributes == data.attributes
    assert data.take_episodes([0, 1]).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "indices, sentence",
    [([2], "no episode 2; the data set has 2"), ([-1], "no episode -1"), ([], "No episode was chosen")],
)
def test_take_episodes_names_what_is_not_there(indices, sentence):
    with pytest.raises(DataError, match=sentence):
        Dataset.from_arrays(**arrays()).take_episodes(indices)


CHANGES = {
    "observation": broken("observations", (1, 1), 3.5),
    "action": broken("actions", (1, 0), 0.25),
    "reward": broken("rewards", 5, 6.5),
    "terminal": broken("terminals", 1, 1),
    "timeout": broken("timeouts", 2, 1),
    "info": {"infos": {"goal": np.ones((6, 2)), "number": np.arange(6)[::-1]}},
    "info's name": {"infos": {"aim": np.ones((6, 2)), "number": np.arange(6)}},
    "a new array": {"next_observations": arrays()["observations"]},
    "bounds": {"action_low": -1, "action_high": 1},
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_any_value(changed):
    assert Dataset.from_arrays(**arrays() | changed).fingerprint != Dataset.from_arrays(**arrays()).fingerprint


def test_the_fingerprint_ignores_attributes_and_where_the_arrays_lie():
    given = arrays()
    strided = given | {"observations": np.repeat(given["observations"], 2, axis=0)[::2]}
    first, second = Dataset.from_arrays(**given), Dataset.from_arrays(**strided, attributes={"name": "other"})
    assert first.fingerprint == second.fingerprint


def test_summary():
    data = Dataset.from_arrays(**arrays(), attributes={"name": "two", "score": np.float32(0.5)})
    assert data.summary() == {
        "steps": 6,
        "episodes": 2,
        "observation_dim": 2,
        "action_dim": 1,
        "return": {"mean": 10.5, "median": 10.5, "min": 6.0, "max": 15.0},
        "episode_length": {"mean": 3.0, "median": 3.0, "min": 3.0, "max": 3.0},
        "terminals": 1,
        "timeouts": 1,
        "action_range": [-1.0, 1.0],
        "action_bounds": [[-1.0], [1.0]],
        "next_observations": False,
        "infos": {"goal": [2], "number": []},
        "attributes": {"name": "two", "score": 0.5},
    }


@pytest.mark.parametrize("actions", [[0, 1, 2], [[0], [1], [2]], np.array([[True], [False], [True]])])
def test_discrete_actions_are_refused(actions):
    with pytest.raises(DataError, match=r"discrete actions\. Every method here needs continuous ones"):
        Dataset.from_arrays(np.zeros((3, 2)), actions, terminals=[0, 0, 1])


# Successors, and several data sets as one


def test_derived_successors_by_hand():
    """Rows 0-2 to a terminal, row 3 a one-step episode that was cut, rows 4-6 cut, 7 both terminal and cut."""
    rows = np.arange(8)
    given = Dataset.from_arrays(
        rows[:, None] * 1.0, np.zeros((8, 1)), rows * 1.0,
        terminals=np.isin(rows, [2, 7]), timeouts=np.isin(rows, [3, 6, 7]), infos={"row": rows},
    )  # fmt: skip
    derived = given.with_next_observations()
    np.testing.assert_array_equal(derived.observations[:, 0], [0, 1, 2, 4, 5, 7])
    np.testing.assert_array_equal(derived.next_observations[:, 0], [1, 2, 2, 5, 6, 7])
    np.testing.assert_array_equal(derived.terminals, [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(derived.timeouts, [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(derived.episodes, [[0, 3], [3, 5], [5, 6]])
    np.testing.assert_array_equal(derived.infos["row"], derived.rewards)
    assert derived.with_next_observations() is derived


def test_concatenation_keeps_every_row_and_never_merges_episodes():
    first = Dataset.from_arrays(**arrays(), attributes={"name": "one", "noise": 0.1, "seed": 0})
    second = Dataset.from_arrays(**arrays() | {"infos": {"goal": np.zeros((6, 2)), "number": np.ones((6, 1))}},
                                 attributes={"name": "two", "noise": 0.1, "seed": 1})  # fmt: skip
    both = concatenate(first, second, first)
    np.testing.assert_array_equal(both.episodes, [[0, 3], [3, 6], [6, 9], [9, 12], [12, 15], [15, 18]])
    for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(both, key)[6:12], getattr(second, key))
        np.testing.assert_array_equal(getattr(both, key)[12:], getattr(first, key))
    np.testing.assert_array_equal(both.infos["goal"][:, 0], np.repeat([1, 0, 1], 6))
    assert set(both.infos) == {"goal"}, "one info is of another shape in one of them"
    assert both.attributes == {"name": "one+two+one", "noise": 0.1}
    assert concatenate(first).fingerprint == first.fingerprint


def test_concatenation_derives_the_successors_that_one_lacks():
    given = arrays() | {"next_observations": arrays()["observations"] + 100}
    both = concatenate(Dataset.from_arrays(**arrays()), Dataset.from_arrays(**given))
    np.testing.assert_array_equal(both.next_observations[:, 0], [2, 4, 4, 8, 10, 100, 102, 104, 106, 108, 110])
    np.testing.assert_array_equal(both.episodes, [[0, 3], [3, 5], [5, 8], [8, 11]])


def test_bounds_that_one_declares_hold_for_both_and_unknown_terminals_stay_unknown():
    bounded = Dataset.from_arrays(**arrays() | {"action_low": -2, "action_high": 1})
    unknown = Dataset.from_arrays(**arrays() | {"terminals": None})
    both = concatenate(unknown, bounded)
    assert (both.action_low, both.action_high) == ([-2], [1])
    assert not both.terminals_known
    assert concatenate(bounded, bounded).terminals_known


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"observations": np.zeros((6, 3))}, "'one' has 2 columns of observations and 'two' has 3"),
        ({"actions": np.zeros((6, 4))}, "'one' has 1 columns of actions and 'two' has 4"),
        ({"rewards": None}, "'one' has rewards and 'two' has none"),
        ({"action_low": -1, "action_high": 3}, r"'one' bounds action 0 by \[-1.0, 1.0\], and the bounds of 'two'"),
        ({"actions": np.full((6, 1), 1.5)}, r"the actions of 'two' are \[1.5, 1.5\]; bring the two to the same scale"),
    ],
)
def test_data_that_do_not_match_are_refused_by_name(changed, sentence):
    first = Dataset.from_arrays(**arrays(), action_low=-1, action_high=1, attributes={"name": "one"})
    second = Dataset.from_arrays(**arrays() | changed, attributes={"name": "two"})
    with pytest.raises(DataError, match=sentence):
        concatenate(first, second)
    if "rewards" in changed:
        with pytest.raises(DataError, match=sentence):
            concatenate(second, first)


def test_nothing_cannot_be_concatenated():
    with pytest.raises(DataError, match="nothing to concatenate"):
        concatenate()
