import json

import numpy as np
import pytest

from reverie.errors import RunError
from reverie.evaluation import REFERENCES, Latency, Reference, Scores, bootstrap, estimate


def _scores(returns=((1.0, 2.0, 6.0), (3.0, 4.0, 8.0)), environment="Hopper-v5", **changes):
    returns = np.array(returns)
    given = {
        "environment": environment,
        "policy": "fake",
        "seeds": tuple(range(len(returns))),
        "step": 10,
        "seed": 0,
        "returns": returns,
        "lengths": np.full(returns.shape, 5),
        "terminated": np.zeros(returns.shape, bool),
        "latency": Latency(1.0, 2.0, 30.0, returns.size),
    }
    return Scores(**given | changes)


def test_the_bootstrap_of_two_values_is_known_exactly():
    """Of {0, 1} the resampled mean is 0, 1/2, 1 with probability 1/4, 1/2, 1/4: the quantiles are 0 and 1."""
    found = bootstrap([0.0, 1.0])
    assert (found.low, found.high, found.count) == (0.0, 1.0, 2)


def test_the_bootstrap_of_a_constant_has_no_width():
    found = bootstrap(np.full(7, 0.1))
    assert found.low == found.high == 0.1


def test_the_bootstrap_of_one_value_says_that_there_is_none():
    found = bootstrap([3.0])
    assert (found.low, found.high, found.count) == (None, None, 1)
    assert str(found) == "none (1 value)"


def test_the_bootstrap_covers_the_mean():
    """40 exponential values, 400 trials: it should cover 95 % of the time, at skewed small samples a little less."""
    draws = np.random.default_rng(0).exponential(1.0, (400, 40))
    covered = np.mean([found.low <= 1.0 <= found.high for found in (bootstrap(x, resamples=1000) for x in draws)])
    assert 0.89 <= covered <= 0.97


def test_the_bootstrap_is_the_normal_interval_for_many_values():
    values = np.random.default_rng(1).normal(5.0, 2.0, 1000)
    found = bootstrap(values)
    width = 2 * 1.96 * values.std() / np.sqrt(1000)
    assert found.high - found.low == pytest.approx(width, rel=0.06)
    assert (found.high + found.low) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert found == bootstrap(values)


def test_seeds_and_episodes_are_resampled_apart():
    """Seeds that differ and episodes that do not: all of the uncertainty is over seeds. And the reverse."""
    seeds_differ = estimate([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert seeds_differ.mean == 0.5
    assert seeds_differ.episodes.low == seeds_differ.episodes.high == 0.5
    assert (seeds_differ.seeds.low, seeds_differ.seeds.high) == (0.0, 1.0)
    episodes_differ = estimate([[0.0, 1.0], [0.0, 1.0]])
    assert (episodes_differ.episodes.low, episodes_differ.episodes.high) == (0.0, 1.0)
    assert episodes_differ.seeds.low == episodes_differ.seeds.high == 0.5


def test_references_are_0_and_100():
    for name, reference in REFERENCES.items():
        np.testing.assert_allclose(reference.normalise([reference.low, reference.high]), [0, 100], atol=1e-9)
        published = "D4RL's reference (measured on the v2 environments)"
        assert ("experts by rule" if name.startswith("mpe-") else published) in reference.note
    assert REFERENCES["Hopper-v5"].normalise(1607.0) == pytest.approx(50.0, abs=0.01)


def test_normalised_needs_a_reference():
    assert _scores().normalised is None and "normalised" not in _scores().estimates
    scores = _scores(reference=Reference(1.0, 5.0, "these two"))
    np.testing.assert_allclose(scores.normalised, [[0, 25, 125], [50, 75, 175]])
    assert scores.estimates["normalised"].mean == pytest.approx(75.0)


def test_the_table_names_seeds_episodes_and_reference():
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(_scores([[1.0, 2.0]], reference=Reference(1.0, 5.0, "these two")).table())
    text = console.export_text()
    for part in (
        "fake in Hopper-v5",
        "over 2 episodes",
        "over 1 seed",
        "none (1 value)",
        "these two",
        "2 environments",
    ):
        assert part in text
    assert "success" not in text


def test_printed_scores_are_the_table_and_no_arrays():
    text = str(_scores([[1.0, 2.0]], reference=Reference(1.0, 5.0, "these two")))
    assert "95 % over 2 episodes" in text and "array" not in text and "\x1b" not in text


def test_json_has_every_number():
    scores = _scores(successes=np.array([[True, False, True], [True, True, True]]))
    found = json.loads(scores.to_json())
    assert found["returns"] == scores.returns.tolist() and found["seeds"] == [0, 1]
    assert found["successes"][0] == [True, False, True] and found["normalised"] is None
    assert found["estimates"]["success"]["mean"] == pytest.approx(500 / 6)
    assert found["estimates"]["return"]["seeds"]["count"] == 2
    assert found["latency"]["first"] == 30.0


def test_arrivals_are_of_the_episodes_that_succeed():
    nan = np.nan
    scores = _scores(arrivals=np.array([[4.0, nan, 6.0], [8.0, nan, nan]]))
    found = scores.estimates["arrival"]
    assert found.mean == 6.0
    assert (found.episodes.count, found.seeds.count) == (2, 2)
    # Means of the episodes 6 and 6, of the seeds 5 and 8.
    assert (found.episodes.low, found.episodes.high) == (6.0, 6.0) and (found.seeds.low, found.seeds.high) == (5, 8)
    written = json.loads(scores.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert written["arrivals"] == [[4.0, None, 6.0], [8.0, None, None]]
    never = _scores(arrivals=np.full((2, 3), nan))
    assert "arrival" not in never.estimates and json.loads(never.to_json())["arrivals"] == [[None] * 3] * 2


def test_saving_appends_and_keeps_what_is_there(tmp_path):
    path = tmp_path / "evaluation.json"
    _scores().save(path)
    _scores(environment="Ant-v5").save(path)
    _scores([[9.0]]).save(path)
    found = json.loads(path.read_text())
    assert [record["returns"] for record in found["Hopper-v5"]] == [[[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]], [[9.0]]]
    assert len(found["Ant-v5"]) == 1
    assert not (tmp_path / "evaluation.json.tmp").exists()


def test_a_file_that_is_something_else_is_left_alone(tmp_path):
    path = tmp_path / "evaluation.json"
    for content in ("{", "[1]"):
        path.write_text(content)
        with pytest.raises(RunError, match="is no evaluation of a run"):
            _scores().save(path)
        assert path.read_text() == content


def test_costs_against_a_budget_are_shares_of_it_and_episodes_above():
    """Costs of 0, 5, 10 and 10, 20, 5 against 10: 83 1/3 % of it, and one of six is above. At the budget is within."""
    costs = np.array([[0.0, 5.0, 10.0], [10.0, 20.0, 5.0]])
    found = _scores(costs=costs, budget=np.full((2, 3), 10.0)).estimates
    assert found["normalised cost"].mean == pytest.approx(250 / 3)
    assert found["violations"].mean == pytest.approx(100 / 6)
    assert found["cost"].mean == pytest.approx(25 / 3)


@pytest.mark.parametrize("budget, above", [(0.0, 500 / 6), (np.inf, 0.0)])
def test_of_no_budget_and_of_an_infinite_one_there_is_no_share(budget, above):
    costs = np.array([[0.0, 5.0, 10.0], [10.0, 20.0, 5.0]])
    found = _scores(costs=costs, budget=np.full((2, 3), budget)).estimates
    assert "normalised cost" not in found
    assert found["violations"].mean == pytest.approx(above)


def test_without_costs_or_a_budget_nothing_is_counted_against_one():
    for known in ({"costs": np.ones((2, 3))}, {"budget": np.ones((2, 3))}):
        assert not {"normalised cost", "violations"} & _scores(**known).estimates.keys()
