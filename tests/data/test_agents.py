"""Agents of different sizes in one array: put together, apart, and refused where they do not fit."""

import jax
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, Spec, windows
from reverie.data.agents import Team, columns, flat, join, kept_sizes, split, team_of, team_of_spec
from reverie.errors import DataError

rng = np.random.default_rng(0)
OBSERVED = [rng.normal(size=(6, size)) + 2 for size in (3, 1)]
ACTED = [rng.uniform(0.1, 1, (6, size)) for size in (1, 2)]
SIZES = {"observation_sizes": [3, 1], "action_sizes": [1, 2]}


def data(**changed) -> Dataset:
    arrays = {"observations": join(OBSERVED), "actions": join(ACTED), "rewards": np.ones(6), "attributes": SIZES}
    return Dataset.from_arrays(**arrays | changed, timeouts=np.arange(6) % 3 == 2)


def test_split_gives_what_was_joined_and_zeros_stand_beside_it():
    joined = join(OBSERVED)
    assert joined.shape == (6, 2, 3)
    for mine, theirs in zip(split(joined, (3, 1)), OBSERVED, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not joined[:, 1, 1:].any()
    np.testing.assert_array_equal(columns((3, 1), 3), [[True] * 3, [True, False, False]])
    with pytest.raises(DataError, match=r"2 agents cannot be split by 3 sizes, \[1, 1, 1\]\."):
        split(joined, (1, 1, 1))


def test_the_data_say_whose_columns_are_whose_and_the_specification_remembers_it(tmp_path):
    team = team_of(data())
    assert team == Team((3, 1), (1, 2), (3, 2))
    spec = Spec.fit(data())
    assert team_of_spec(spec) == Team((3, 3), (2, 2), (3, 2))
    kept = Spec(spec.observation, spec.action, spec.action_low, spec.action_high, {}, kept_sizes(team))
    kept.save(tmp_path / "spec")
    assert team_of_spec(Spec.load(tmp_path / "spec")) == team
    assert jax.jit(lambda spec: np.zeros(team_of_spec(spec).observations))(kept).shape == (3, 1)
    assert kept_sizes(team_of(data(attributes={}))) == {}


def test_a_vector_is_one_agents():
    alone = Dataset.from_arrays(np.ones((4, 3)), np.ones((4, 2)), timeouts=np.arange(4) == 3)
    assert team_of(alone) == team_of_spec(Spec.fit(alone)) == Team((3,), (2,), (3, 2))


def test_windows_lie_flat_agent_after_agent():
    view = flat(windows(data(), Spec.fit(data()), 4, pad=True))
    batch = view.take(np.array([1]))
    assert batch["observations"].shape == (1, 4, 6)
    np.testing.assert_allclose(batch["observations"][0, 0], np.concatenate([OBSERVED[0][1], OBSERVED[1][1], [0, 0]]))
    np.testing.assert_array_equal(batch["observations"][0, 2:], 0)
    assert batch["actions"].shape == (1, 4, 4)


BAD = {
    "agents in one": ({"actions": np.ones((6, 2))}, "give both an axis of agents"),
    "images": ({"observations": np.zeros((6, 4, 4, 3), np.uint8)}, "The observations are images .* several agents'"),
    "too few sizes": (
        {"attributes": {"observation_sizes": [3]}},
        r"observation_sizes = \[3\] do not fit observations of 2 agents with up to 3 columns",
    ),
    "too large": ({"attributes": {"action_sizes": [1, 3]}}, r"action_sizes = \[1, 3\] do not fit actions"),
    "filled": (
        {"attributes": {"observation_sizes": [2, 1]}},
        r"'observations' holds .* at row 0, column 0, 2, where observation_sizes = \[2, 1\] leave the agent no such",
    ),
}


@pytest.mark.parametrize("changed, sentence", BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_in_a_sentence(changed, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        team_of(data(**changed))
    assert str(caught.value).endswith(".")


def test_sizes_are_kept_in_a_file(tmp_path):
    source = f"d4rl:{tmp_path}/team.hdf5"
    data().save(source)
    assert team_of(reverie.load_dataset(source)) == team_of(data())
