"""Episodes, returns, subsets, fingerprints, several sets as one; of vectors and of dictionaries."""

import json

import jax
import numpy as np
import pytest
from data_sets import arrays, broken, camera, three_episodes

from reverie.data import Dataset, Field, concatenate
from reverie.data.readers import read
from reverie.errors import DataError


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


def test_a_summary_is_plain_enough_for_json():
    assert json.loads(json.dumps(three_episodes().summary()))["attributes"]["noise"] == [0.0, 0.1]
    assert json.loads(json.dumps(camera().summary()))["observations"]["front"] == "images uint8 [4, 5, 3]"


# Dictionaries, agents and costs


def test_dictionaries_go_through_everything_that_vectors_do():
    """Each part of a dictionary fares as it would alone."""
    whole = camera()
    assert len(whole) == 5
    parts = {
        name: camera(observations={name: part}, next_observations={name: whole.next_observations[name]})
        for name, part in whole.observations.items()
    }
    for change in (
        lambda data: data.take_episodes([1, 0, 1]),
        lambda data: concatenate(data, data.take_episodes([1])),
        lambda data: Dataset.from_arrays(
            data.observations, data.actions, terminals=data.terminals, timeouts=data.timeouts
        ).with_next_observations(),
    ):
        for name, part in parts.items():
            made, alone = change(whole), change(part)
            np.testing.assert_array_equal(made.observations[name], alone.observations[name])
            np.testing.assert_array_equal(made.next_observations[name], alone.next_observations[name])
            assert made.observation_space == whole.observation_space
            assert not made.observations[name].flags.writeable


def test_rows_of_a_dictionary_by_hand():
    seen = {"eye": np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), "state": np.arange(6.0)[:, None]}
    data = Dataset.from_arrays(seen, np.zeros((6, 1)), terminals=[0, 0, 1, 0, 0, 0], timeouts=[0, 0, 0, 0, 0, 1])
    derived = data.with_next_observations()
    np.testing.assert_array_equal(derived.observations["eye"].ravel(), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(derived.next_observations["eye"].ravel(), [1, 2, 2, 4, 5])
    np.testing.assert_array_equal(derived.next_observations["state"].ravel(), [1, 2, 2, 4, 5])
    np.testing.assert_array_equal(data.take_episodes([1]).observations["eye"].ravel(), [3, 4, 5])
    joined = concatenate(data.take_episodes([1]), data)
    np.testing.assert_array_equal(joined.observations["eye"].ravel(), [3, 4, 5, 0, 1, 2, 3, 4, 5])


def test_arrays_of_a_dictionary_have_its_names():
    parts = ["front", "sentence", "state"]
    names = [f"{key}/{part}" for key in ("observations", "next_observations") for part in parts]
    assert set(names) <= set(camera().arrays())
    assert not {"observations", "next_observations"} & set(camera().arrays())


def test_the_fingerprint_of_vectors_is_that_of_earlier_releases():
    """Runs keep it, to know their data again."""
    known = "e2e23d4868d754d671b41be9fd475eacb27377c339732f87d46c0b8c3623bec0"
    assert Dataset.from_arrays(**arrays()).fingerprint == known


def test_the_fingerprint_of_a_dictionary_changes_with_any_pixel_and_any_name():
    front = camera().observations["front"].copy()
    front[2, 1, 1, 0] ^= 1
    rest = dict(camera().observations)
    renamed = {("back" if name == "front" else name): part for name, part in rest.items()}
    prints = {
        camera(observations=seen, next_observations=None).fingerprint
        for seen in (rest, rest | {"front": front}, renamed)
    }
    assert len(prints) == 3
    backwards = dict(reversed(rest.items()))
    assert camera(observations=backwards, next_observations=None).fingerprint in prints, "the order does not count"


def test_where_one_vector_is_needed_the_sentence_says_what_is_there():
    with pytest.raises(
        DataError,
        match=r"observations are a dictionary of front \(images uint8 \[4, 5, 3\]\), .*; this method needs one vector",
    ):
        camera().observation_dim  # noqa: B018
    several = Dataset.from_arrays(**arrays() | {"actions": np.zeros((6, 2, 3))})
    with pytest.raises(DataError, match=r"actions are several agents' vectors float32 \[2, 3\]; this method needs one"):
        several.action_dim  # noqa: B018
    assert several.action_space == Field((2, 3), "float32", "agents")
    np.testing.assert_array_equal(several.action_bounds[0], -np.ones((2, 3)))


def test_summary_and_name_of_a_dictionary():
    summary = camera().summary()
    assert summary["observations"] == {
        "front": "images uint8 [4, 5, 3]",
        "sentence": "token ids int32 [7]",
        "state": "vectors float32 [3]",
    }
    assert "observation_dim" not in summary and summary["action_dim"] == 2
    assert summary["cost"] == {"mean": 1.75, "median": 1.75, "min": 1.0, "max": 2.5}
    assert repr(camera()).startswith("Dataset(camera: 5 steps, 2 episodes, observations a dictionary of front (images")
    assert repr(Dataset.from_arrays(**arrays())) == ("Dataset(unnamed: 6 steps, 2 episodes, observations 2, actions 1)")


def test_costs_are_kept_with_their_rows_and_asked_for_like_rewards():
    np.testing.assert_array_equal(camera().take_episodes([1, 0]).require_costs(), [0, 2.5, 0, 1, 0])
    np.testing.assert_array_equal(concatenate(camera(), camera()).costs, [0, 1, 0, 0, 2.5] * 2)
    with pytest.raises(DataError, match="'camera' has no costs; choose a method that needs none, or give costs to"):
        camera(costs=None).require_costs()
    with pytest.raises(DataError, match="has costs and 'bare' has none; give costs to both or to neither"):
        concatenate(camera(), camera(costs=None, attributes={"name": "bare"}))
    assert camera(costs=None).fingerprint != camera().fingerprint


def test_dictionaries_of_different_things_are_not_joined():
    other = camera(observations={"state": np.zeros((5, 3))}, next_observations=None, attributes={"name": "blind"})
    with pytest.raises(
        DataError, match=r"observations of 'camera' are a dictionary of front .* and those of 'blind' a"
    ):
        concatenate(camera(), other)


def test_a_data_sets_observations_are_a_tree_for_jax():
    assert [leaf.dtype for leaf in jax.tree.leaves(camera().observations)] == [np.uint8, np.int32, np.float32]


def solved(**further):
    """Two trajectories of three steps; the first is solved at its second step, and goes on."""
    terminals, ends = np.array([0, 1, 0, 0, 0, 1]), np.array([0, 0, 1, 0, 0, 1])
    observations = np.arange(6, dtype=np.float32)[:, None]
    rewards = np.arange(6, dtype=np.float32)
    return Dataset.from_arrays(observations, np.zeros((6, 1)), rewards, terminals, ends=ends, **further)


def test_an_episode_may_go_on_after_a_terminal_where_the_source_says_where_it_ends():
    data = solved()
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 6]])
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [1, 5])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [2])
    np.testing.assert_array_equal(data.returns, [3, 12])
    # The terminal inside has a successor; the timeout has none and is left out.
    derived = data.with_next_observations()
    np.testing.assert_array_equal(derived.next_observations[:, 0], [1, 2, 4, 5, 5])
    np.testing.assert_array_equal(derived.episodes, [[0, 2], [2, 5]])
    np.testing.assert_array_equal(np.flatnonzero(derived.timeouts), [])
    np.testing.assert_array_equal(data.take_episodes([1]).ends, [0, 0, 1])


def test_ends_are_kept_in_files_and_beside_data_that_says_none(tmp_path):
    data = solved()
    data.save(f"d4rl:{tmp_path / 'solved.hdf5'}")
    assert read(f"d4rl:{tmp_path / 'solved.hdf5'}").fingerprint == data.fingerprint
    plain = Dataset.from_arrays(data.observations, data.actions, data.rewards, data.terminals)
    both = concatenate(data, plain)
    np.testing.assert_array_equal(both.episodes, [[0, 3], [3, 6], [6, 8], [8, 12]])
    with pytest.raises(DataError, match=r"cannot hold a terminal \(row 1\) after which the episode goes on"):
        solved(next_observations=np.arange(1, 7, dtype=np.float32)[:, None]).save("minari:mine/solved-v0")
