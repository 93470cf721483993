import json
import re

import numpy as np
import pytest

from reverie.cli import main
from reverie.errors import ReverieError, RunError
from reverie.evaluation import Latency, Scores, comparing
from reverie.training.metrics import Table

COMMON = {"training": {"steps": 20}, "data": {"fingerprint": "0", "attributes": {"name": "hopper"}}}


def write_run(path, loss, returns=None, own="own", **settings):
    """A run's folder of two seeds with these losses `[seeds, steps]` and returns `[seeds, episodes]`."""
    path.mkdir(parents=True)
    config = {"algorithm": {"name": "bc", "batch_size": 256, **settings}, **COMMON}
    (path / "config.json").write_text(json.dumps(config))
    table = Table(path / "metrics.csv")
    for step, losses in enumerate(np.transpose(loss), 1):
        table.append(
            [{"seed": s, "step": 10 * step, "loss": x, own: 1.0, "seconds": 9.0} for s, x in enumerate(losses)]
        )
    if returns is not None:
        returns = np.array(returns, float)
        ends, latency = np.zeros(returns.shape, bool), Latency(1.0, 1.0, 1.0, returns.size)
        given = {"environment": "maze", "policy": "bc", "seeds": (0, 1), "step": 20, "seed": 0}
        Scores(**given, returns=returns, lengths=returns, terminated=ends, latency=latency).save(
            path / "evaluation.json"
        )
    return path


@pytest.fixture
def two(tmp_path):
    one = write_run(tmp_path / "a" / "run", [[3.0, 1.0], [5.0, 2.0]], [[1, 2, 3], [2, 3, 4]], own="kl")
    other = write_run(tmp_path / "b" / "run", [[3.0, 4.0], [5.0, 6.0]], [[5, 6, 7], [6, 7, 8]], hidden=[64], tau=0.1)
    return one, other


def test_settings_that_differ_are_shown_and_others_are_not(two):
    head, rows = comparing.settings_table(comparing.compare(two))
    assert head == ["setting", "a/run", "b/run"]
    assert rows == [["algorithm.hidden", "–", "[64]"], ["algorithm.tau", "–", "0.1"]]


def test_what_most_runs_have_comes_first(tmp_path):
    one = write_run(tmp_path / "one", [[1.0]] * 2, tau=0.1, batch_size=8)
    other = write_run(tmp_path / "other", [[1.0]] * 2)
    assert list(comparing.compare((one, other)).differing()) == ["algorithm.batch_size", "algorithm.tau"]


def test_scores_have_their_intervals_and_the_probability_of_improvement(two):
    _, (first, second) = comparing.scores_table(comparing.compare(two))
    assert first[:5] == ["maze", "a/run", "20", "return", "2.5"] and first[-1] == "–"
    assert second[4] == "6.5" and second[6] == "6.0 to 7.0" and second[-1] == "100 % (100 to 100)"


def test_the_last_values_of_metrics_with_their_intervals(two):
    found = comparing.compare(two)
    assert comparing.metrics_table(found)[1] == [["loss", "1.5 (1 to 2)", "5 (4 to 6)"]]
    assert comparing.metrics_table(found, ["kl"])[1] == [["kl", "1 (1 to 1)", "–"]]
    with pytest.raises(ReverieError, match=r"no metric 'speed' .* there are loss, kl, own"):
        comparing.metrics_table(found, ["speed"])


def test_curves_are_means_with_a_band_over_seeds(two):
    figure = comparing.draw(comparing.compare(two))
    (ax,) = figure.axes
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], [[4, 1.5], [4, 5]])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 5.0)


def test_a_page_needs_no_other_file_and_escapes_what_it_shows(two, tmp_path, capsys):
    script = write_run(tmp_path / "<script>", [[1.0, 1.0]] * 2, tau="<b>&")
    assert main(["compare", str(two[0]), str(script), "--out", str(tmp_path / "new" / "page.html")]) == 0
    text = (tmp_path / "new" / "page.html").read_text()
    assert "&lt;b&gt;&amp;" in text and "<script>" not in text and "&lt;script&gt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "loss" in capsys.readouterr().out


def test_one_run_or_the_same_twice_cannot_be_compared(two, tmp_path):
    with pytest.raises(ReverieError, match="two different runs or more"):
        comparing.compare([two[0], two[0]])
    with pytest.raises(ReverieError, match="No run: give the folders"):
        comparing.compare([])
    with pytest.raises(RunError, match="There is no run in"):
        comparing.compare([two[0], tmp_path / "none"])
    (two[1] / "metrics.csv").unlink()
    with pytest.raises(RunError, match=r"no metrics in .* yet"):
        comparing.compare(two)
