"""The sentences for what cannot be a data set, and what every kind of array is cast to."""

import re

import numpy as np
import pytest
from data_sets import arrays, broken

from reverie.data import Dataset, Field
from reverie.errors import DataError

CASES = {
    "observations of one axis": (
        {"observations": np.zeros(6)},
        "'observations' has shape (6,); give [steps, dim] ([steps, agents, dim] for several agents), episodes",
    ),
    "actions of four axes": (
        {"actions": np.zeros((6, 1, 1, 1))},
        "'actions' has shape (6, 1, 1, 1); give [steps, dim]",
    ),
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
    "costs in a column": ({"costs": np.zeros((6, 1))}, "'costs' has shape (6, 1); give [steps]"),
    "NaN in a dictionary": (
        {"observations": {"arm": broken("observations", (4, 1), np.nan)["observations"]}},
        "'observations/arm' holds nan at row 4, column 1 (1 such in all)",
    ),
    "a part that is shorter": (
        {"observations": {"arm": np.zeros((6, 2)), "leg": np.zeros((5, 2))}},
        "'observations/leg' has 5 rows where 'observations/arm' has 6",
    ),
    "a dictionary of nothing": ({"observations": {}}, "'observations' is an empty dictionary; give at least one array"),
    "a name with a slash": (
        {"observations": {"arm/left": np.zeros((6, 2))}},
        "'observations' has an entry named 'arm/left'; give every entry a name that is a text without a slash.",
    ),
    "a name that is no text": ({"observations": {3: np.zeros((6, 2))}}, "'observations' has an entry named 3; give"),
    "a dictionary in a dictionary": (
        {"observations": {"arm": {"left": np.zeros((6, 2))}}},
        "'observations/arm' is itself a dictionary; give one level of names, each with one array.",
    ),
    "images of floats": (
        {"observations": {"front": np.zeros((6, 8, 8, 3))}},
        "'observations/front' has shape (6, 8, 8, 3) and type float64; give images as uint8, 0 to 255",
    ),
    "channels first": (
        {"observations": np.zeros((6, 3, 8, 8), np.uint8)},
        "'observations' has shape (6, 3, 8, 8); give images as [steps, height, width, channels], 1 to 4 channels last "
        "(numpy.moveaxis(x, 1, -1) brings them there).",
    ),
    "no channels": (
        {"observations": {"front": np.zeros((6, 8, 8), np.uint8)}},
        "'observations/front' has shape (6, 8, 8); give images as [steps, height, width, channels], 1 to 4 channels",
    ),
    "large token ids": (
        {"observations": {"text": np.array([[1, 2]] * 5 + [[3, 2**31]])}},
        "'observations/text' holds 2147483648 at row 5, column 1, which is beyond the token ids of 32 bits (int32)",
    ),
    "tokens of three axes": (
        {"observations": {"text": np.zeros((6, 2, 2), int)}},
        "'observations/text' has shape (6, 2, 2) and type int64; give token ids as [steps, length], or floats if",
    ),
    "other agents": (
        {"observations": np.zeros((6, 3, 2)), "actions": np.zeros((6, 2, 2))},
        "'observations' has 3 agents where 'actions' has 2; give both the same, [steps, agents, dim].",
    ),
    "successors of another kind": (
        {"next_observations": {"arm": np.zeros((6, 2))}},
        "'next_observations' are a dictionary of arm (vectors float32 [2]) where 'observations' are vectors",
    ),
    "successors of other names": (
        {"observations": {"arm": np.zeros((6, 2))}, "next_observations": {"leg": np.zeros((6, 2))}},
        "'next_observations' are a dictionary of leg (vectors float32 [2]) where 'observations' are a dictionary of",
    ),
    "an agent's action out of bounds": (
        {"actions": np.full((6, 2, 1), 0.5), "action_low": -1, "action_high": [[1], [0.25]]},
        "'actions' holds 0.5 at row 0, column 1, 0, outside its bounds [-1.0, 0.25] (6 such in all)",
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


@pytest.mark.parametrize("actions", [[0, 1, 2], [[0], [1], [2]], np.array([[True], [False], [True]])])
def test_discrete_actions_are_refused(actions):
    with pytest.raises(DataError, match=r"discrete actions\. Every method here needs continuous ones"):
        Dataset.from_arrays(np.zeros((3, 2)), actions, terminals=[0, 0, 1])


KINDS = {
    "a vector": (np.ones((6, 2)), Field((2,), "float32", "vector")),
    "a vector of flags": (np.ones((6, 2), bool), Field((2,), "float32", "vector")),
    "agents": (np.ones((6, 3, 2)), Field((3, 2), "float32", "agents")),
    "an image": (np.ones((6, 8, 9, 3), np.uint8), Field((8, 9, 3), "uint8", "image")),
    "tokens": (np.full((6, 4), 2**31 - 1), Field((4,), "int32", "tokens")),
    "tokens of eight bits": (np.ones((6, 4), np.uint8), Field((4,), "int32", "tokens")),
}


@pytest.mark.parametrize("array, field", KINDS.values(), ids=KINDS)
def test_kinds_in_a_dictionary(array, field):
    data = Dataset.from_arrays(**arrays() | {"observations": {"part": array}})
    assert data.observation_space == {"part": field}
    assert data.observations["part"].dtype == field.dtype
    np.testing.assert_array_equal(data.observations["part"], array)


def test_integers_alone_are_a_vector():
    assert Dataset.from_arrays(**arrays() | {"observations": np.ones((6, 2), int)}).observation_space == Field(
        (2,), "float32", "vector"
    )


def test_images_are_not_copied_and_cannot_be_changed_through_the_data_set():
    images = np.zeros((6, 8, 8, 1), np.uint8)
    data = Dataset.from_arrays(**arrays() | {"observations": {"front": images}})
    assert np.shares_memory(images, data.observations["front"])
    with pytest.raises(ValueError, match="read-only"):
        data.observations["front"][0] = 1


def test_bounds_of_agents_may_be_given_once_for_all():
    given = arrays() | {"actions": np.zeros((6, 2, 3)), "action_low": [-1, -2, -3], "action_high": 1}
    data = Dataset.from_arrays(**given)
    np.testing.assert_array_equal(data.action_low, [[-1, -2, -3]] * 2)
    np.testing.assert_array_equal(data.action_high, np.ones((2, 3)))
