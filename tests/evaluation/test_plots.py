import subprocess
import sys

import numpy as np
import pytest

from reverie.errors import ReverieError, RunError
from reverie.evaluation import Latency, Scores, plots

STEPS = np.array([100, 200, 300])
TABLE = {
    "seed": np.repeat([0, 1], 3),
    "step": np.tile(STEPS, 2),
    "loss": np.array([3.0, 2.0, 1.0, 5.0, 4.0, 3.0]),
    "value": np.arange(6.0) - 2,
    "seconds": np.arange(6.0),
}


def _scores(returns, **changes):
    returns = np.array(returns)
    cut = np.zeros(returns.shape, bool)
    given = {"environment": "Hopper-v5", "policy": "fake policy", "seeds": tuple(range(len(returns))), "step": 5}
    latency = Latency(1.0, 1.0, 1.0, returns.size)
    return Scores(**given | changes, seed=0, returns=returns, lengths=returns, terminated=cut, latency=latency)


def _png(figure, tmp_path):
    content = plots.save(figure, tmp_path / "new" / "picture.png").read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 2000


def test_learning_curves_show_the_mean_and_the_range_over_seeds(tmp_path):
    figure = plots.learning_curves(TABLE)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "value"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), np.stack([STEPS, [4, 3, 2]], axis=1))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 5.0)
    assert "2 seeds" in figure.get_suptitle()
    assert _png(figure, tmp_path)


def test_learning_curves_read_a_runs_folder(tmp_path):
    rows = ["seed,step,loss,seconds,updates_per_second", "0,10,2.5,1.0,10.0", "0,20,1.5,2.0,10.0"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    figure = plots.learning_curves(tmp_path)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [2.5, 1.5])
    assert not figure.axes[0].collections and len(figure.axes) == 1


def test_missing_metrics_are_named(tmp_path):
    with pytest.raises(RunError, match=r"no metrics in .*metrics\.csv"):
        plots.learning_curves(tmp_path)
    with pytest.raises(ReverieError, match="no metric 'los'; there are loss, seconds"):
        plots.learning_curves(TABLE, ["los"])


def test_returns_show_every_episode_and_the_mean(tmp_path):
    several, one = _scores([[1.0, 2.0], [3.0, 10.0]]), _scores([[4.0]], step=None, policy="other")
    figure = plots.draw_returns([several, one])
    lines = figure.axes[0].lines
    shown = sorted(np.concatenate([line.get_ydata() for line in lines if line.get_marker() == "o"]))
    assert shown == [1, 2, 3, 4, 10]
    assert [line.get_ydata()[0] for line in lines if line.get_marker() == "D"] == [4.0, 4.0]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["fake\npolicy\nseeds 0, 1", "other"]
    assert _png(figure, tmp_path)
    assert _png(plots.draw_returns(one), tmp_path)


def test_errors_over_the_horizon_are_a_line_and_a_band_each(tmp_path):
    curves = {
        name: {"low": [0.1, 0.2], "median": [0.2, factor], "high": [1, 2]} for name, factor in (("a", 1), ("b", 3))
    }
    figure = plots.error_by_horizon(curves, "title")
    ax = figure.axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.2, 1], [0.2, 3]]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2]] * 2
    assert len(ax.collections) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert _png(figure, tmp_path)


def test_scores_have_a_panel_a_set_and_show_what_is_published_and_what_is_not_flat(tmp_path):
    found = {"by_seed": [1.0, 3.0], "normalised": {"mean": 2.0, "seeds": {"low": 1.5, "high": 2.5}}}
    rows = [{"method": "a", "set": name, **found} for name in ("x", "y")]
    rows[1] |= {"published": 7.0, "flat": False}
    figure = plots.grouped_scores(rows, "success")
    assert [(ax.get_title(loc="left"), ax.get_xlabel()) for ax in figure.axes] == [("x", "success"), ("y", "success")]
    shown = [{line.get_marker(): line for line in ax.lines} for ax in figure.axes]
    assert "|" not in shown[0] and shown[1]["|"].get_xdata() == [7]
    assert [lines["D"].get_markerfacecolor() for lines in shown] == [plots.INK, "white"]
    assert _png(figure, tmp_path)


def test_curves_have_a_panel_a_method_and_one_scale(tmp_path):
    one = (np.array([1000, 2000]), np.array([[10.0, 20], [30, 40]]))
    figure = plots.curves_by_panel({"a": {"x": one, "y": one}, "b": {"y": (one[0], 3 * one[1])}}, "score")
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[1, 20], [2, 30]])
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].lines[1].get_color() == figure.axes[1].lines[0].get_color()
    assert _png(figure, tmp_path)


def test_profiles_show_each_line_before_the_others(tmp_path):
    at = np.linspace(0, 1, 5)
    figure = plots.profiles({name: (at, at * k, at * 0, at) for k, name in enumerate("ab")}, "score")
    for k, ax in enumerate(figure.axes):
        assert len(ax.lines) == 3
        np.testing.assert_array_equal(ax.lines[-1].get_ydata(), at * k)
    assert _png(figure, tmp_path)


def test_nothing_heavy_is_imported_before_it_is_used():
    code = "import sys, reverie.environments, reverie.evaluation.plots as p; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "gymnasium", "gymnasium_robotics", "mujoco", "rich", "h5py"} & set(loaded)
