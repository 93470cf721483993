"""What is said of long work where there is no terminal."""

import pytest

from reverie import terminal
from reverie.terminal import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns, in seconds."""
    now = [100.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(terminal.time, name, lambda: now[0])
    return now


def test_a_line_has_the_rate_of_all_so_far_the_time_left_and_the_note(capsys, clock):
    with Progress("playing", 100, show=True, unit="steps") as bar:
        clock[0] += terminal.LINE_EVERY + 10
        bar.more(20, "3/5 ended")
    assert capsys.readouterr().err == "playing: 20/100 steps, 0.5/s, 0:02:40 left, 3/5 ended\n"


def test_lines_come_now_and_then_and_at_the_end(capsys, clock):
    with Progress("playing", 3, 1, show=True, unit="steps") as bar:
        clock[0] += 1
        bar.more(1)
        assert capsys.readouterr().err == ""
        bar.more(1)
    assert capsys.readouterr().err == "playing: 3/3 steps, 2/s\n"


def test_where_the_total_is_unknown_so_is_the_time_left(capsys, clock):
    with Progress("playing", None, show=True, unit="steps") as bar:
        clock[0] += terminal.LINE_EVERY + 1
        bar.more(62)
    assert capsys.readouterr().err == "playing: 62 steps, 2/s\n"


def test_nothing_is_said_unasked(capsys, clock):
    with Progress("playing", 1, show=False) as bar:
        clock[0] += 1
        bar.more(1)
    assert capsys.readouterr().err == ""


def test_of_a_segment_what_is_known_is_said_as_means_over_seeds(capsys, clock):
    """Scores are not, between evaluations."""
    row = {"seed": 0, "step": 2, "loss": 1.0, "eval_return": float("nan"), "updates_per_second": 4.0}
    with Progress("learning", 2, show=True) as bar:
        bar.update([row, row | {"seed": 1, "loss": 2.0}])
        assert capsys.readouterr().err == "learning: 2/2 updates, 4/s, loss 1.5\n"
        bar.update([row | {"eval_return": 7.0}])
    assert "loss 1  eval_return 7" in capsys.readouterr().err
