"""Sweeps: what is tried, that nothing done is done again, what dies is started again, and what is said of the best."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reverie import engines
from reverie.cli import main, sweeping
from reverie.data import Dataset
from reverie.errors import ReverieError, RunError
from reverie.sweeps import Choices, Range, Sweep, Trial, best, parse, results, running, sweep
from reverie.sweeps.running import free_cores, run_reverie
from reverie.sweeps.space import propose
from reverie.sweeps.trials import Work, read
from reverie.training.metrics import Table

GRID = {"tau": Choices((0.1, 0.2)), "hidden": Choices(((8,), (16, 16)))}
ASKED = Sweep(GRID, Work("td3-bc", "maze", 100), by="loss", lowest=True)


class Machine:
    """Stands for processes: a training writes its loss, tau; some die, and the whole machine may."""

    def __init__(self, dying=(), wrong=(), lost_at=None):
        self.dying, self.wrong, self.lost_at, self.ran = list(dying), wrong, lost_at, []

    def __call__(self, words, log):
        name = words[words.index("--out") + 1].rpartition("/")[2]
        if len(self.ran) == self.lost_at:
            raise KeyboardInterrupt
        self.ran.append(name)
        if name in self.dying:
            self.dying.remove(name)
            return -9
        if name in self.wrong:
            with open(log, "a") as file:
                file.write("reverie: tau = 2 is too large\n")
            return 2
        table = Table(_folder(words) / "metrics.csv")
        loss = float(words[words.index("--tau") + 1])
        table.append([{"seed": s, "step": 100, "loss": loss + s} for s in (0, 1)])
        return 0


def _folder(words):
    folder = Path(words[words.index("--out") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def quiet(asked, out, machine, jobs=1):
    return sweep(asked, out, jobs=jobs, attempt=machine, say=lambda line: None)


def test_words_are_choices_and_ranges():
    space = parse(
        ["tau=0.1,0.2", "hidden=[8],[16,16]", "backbone=mlp,unet", "n-critics=2..5", "lr=log:1e-5..1e-3", "a=True"]
    )
    assert space == {
        "tau": Choices((0.1, 0.2)),
        "hidden": Choices(((8,), (16, 16))),
        "backbone": Choices(("mlp", "unet")),
        "n_critics": Range(2, 5),
        "lr": Range(1e-5, 1e-3, log=True),
        "a": Choices((True,)),
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tau"], "'tau' is no NAME=VALUE"),
        (["tau=5..1"], "'tau=5..1' is no range; give two numbers, the smaller one first"),
        (["tau=log:0..1"], "two positive numbers"),
        (["tau=1", "tau=2"], "'tau' is to be searched twice"),
    ],
)
def test_other_words_are_refused(words, said):
    with pytest.raises(ReverieError, match=said):
        parse(words)


def test_random_draws_are_of_their_number_within_their_range():
    space = {"lr": Range(1e-5, 1e-1, log=True), "n": Range(2, 3), "x": Range(0.0, 1.0), "way": Choices(("a", "b"))}
    drawn = [propose("random", space, number, 7, ()) for number in range(400)]
    assert drawn[5] == propose("random", space, 5, 7, ()) != propose("random", space, 5, 8, ())
    logs = np.log10([each["lr"] for each in drawn])
    assert logs.min() > -5 and logs.max() < -1 and abs(logs.mean() + 3) < 0.2
    assert {each["n"] for each in drawn} == {2, 3} and {each["way"] for each in drawn} == {"a", "b"}


def test_optuna_proposes_near_what_was_good():
    pytest.importorskip("optuna")
    space = {"x": Range(-1.0, 1.0), "way": Choices(((8,), (16,)))}
    finished = []
    for number in range(30):
        settings = propose("optuna", space, number, 0, finished)
        finished.append((settings, -((settings["x"] - 0.5) ** 2) - (settings["way"] == (8,))))
    late = [settings for settings, _ in finished[15:]]
    assert abs(np.median([each["x"] for each in late]) - 0.5) < 0.2
    assert sum(each["way"] == (16,) for each in late) > 11


def test_a_grid_is_tried_whole_and_the_best_is_the_lowest(tmp_path):
    machine = Machine()
    trials = quiet(ASKED, tmp_path, machine, jobs=2)
    assert sorted(machine.ran) == ["000", "001", "002", "003"]
    assert [dict(trial.settings) for trial in trials][2] == {"tau": 0.2, "hidden": (8,)}
    assert [trial.score for trial in trials] == pytest.approx([0.6, 0.6, 0.7, 0.7])
    assert best(trials, lowest=True).number == 0 and best(trials).number == 2
    assert read(tmp_path) == trials


def test_a_sweep_that_is_killed_twice_has_every_result_once(tmp_path):
    ran = []
    for lost_at in (1, 2, None):
        machine = Machine(lost_at=lost_at)
        with suppress(KeyboardInterrupt):
            trials = quiet(ASKED, tmp_path, machine)
        ran += machine.ran
    assert ran == ["000", "001", "002", "003"]
    assert [trial.state for trial in trials] == ["done"] * 4
    assert [trial.attempts for trial in trials] == [1, 2, 1, 2]


def test_what_dies_is_started_again_and_what_is_wrong_is_not(tmp_path):
    machine = Machine(dying=["001", "001", "002", "002", "002"], wrong=["003"])
    trials = quiet(ASKED, tmp_path, machine)
    assert machine.ran == ["000", *["001"] * 3, *["002"] * 3, "003"]
    assert [trial.state for trial in trials] == ["done", "done", "failed", "failed"]
    assert trials[2].why == "exit status -9" and trials[3].why == "reverie: tau = 2 is too large"
    quiet(ASKED, tmp_path, again := Machine())
    assert again.ran == ["002", "003"]


def test_a_folder_of_another_sweep_and_one_in_use_are_refused(tmp_path):
    quiet(ASKED, tmp_path, Machine())
    other = Sweep(GRID, Work("td3-bc", "maze", 200), by="loss", lowest=True)
    with pytest.raises(RunError, match="was begun with work"):
        quiet(other, tmp_path, Machine())
    (tmp_path / "trials" / "001.json").write_text("{}")
    with pytest.raises(RunError, match=r"001.json' is no trial"):
        quiet(ASKED, tmp_path, Machine())


def test_results_are_a_table_with_intervals(tmp_path):
    quiet(ASKED, tmp_path, Machine(wrong=["003"]))
    pq = pytest.importorskip("pyarrow.parquet")
    found = pq.read_table(tmp_path / "results.parquet").to_pydict()
    assert found["trial"] == [0, 1, 2, 3] and found["hidden"] == ["[8]", "[16, 16]"] * 2
    assert found["score"][:3] == pytest.approx([0.6, 0.6, 0.7]) and found["score"][3] is None
    assert (found["low"][0], found["high"][0]) == pytest.approx((0.1, 1.1)) and found["state"][3] == "failed"


def test_columns_of_several_kinds_are_text(tmp_path):
    trials = [Trial(0, {"x": 1}), Trial(1, {"x": "a"}), Trial(2, {"y": True})]
    pq = pytest.importorskip("pyarrow.parquet")
    found = pq.read_table(results.write(trials, tmp_path)).to_pydict()
    assert found["x"] == ["1", "a", None] and found["y"] == [None, None, True]


def test_commands_say_what_is_tried(tmp_path):
    work = Work("td3-bc", "maze", 100, 4, "Hopper-v5", 20, more=("--discount", "0.9"))
    trial = Trial(7, {"data": "other", "layer_norm": False, "hidden": (8, 8), "steps": 50})
    said = f"train td3-bc --steps 50 --data other --seeds 4 --resume --out {tmp_path}/runs/007 --discount 0.9"
    assert work.train([trial], tmp_path) == [*said.split(), "--no-layer-norm", "--hidden", "8", "8"]
    assert work.evaluate(trial, tmp_path)[:4] == ["eval", f"{tmp_path}/runs/007", "--env", "Hopper-v5"]


class Programs(Machine):
    """One that trains several settings in one program too; `refused` ones are no inputs of it, `bad` ones diverge."""

    def __init__(self, refused=False, bad=()):
        super().__init__()
        self.refused, self.bad = refused, bad

    def __call__(self, words, log):
        if "--settings" not in words:
            return super().__call__(words, log)
        own = json.loads(Path(words[words.index("--settings") + 1]).read_text())
        self.ran.append(own)
        for name, settings in own.items() if not self.refused else ():
            place = ["--out", f"{words[words.index('--out') + 1]}/{name}", "--tau", str(settings["tau"])]
            super().__call__(place, log)
            self.ran.pop()
            (_folder(place) / "checkpoints" / "100").mkdir(parents=True, exist_ok=True)
            diverged = {"diverged": f"{name}: loss became nan"} if name in self.bad else {}
            config = {"algorithm": {}, "training": {}, "data": {}} | diverged
            (_folder(place) / "config.json").write_text(json.dumps(config))
        return 2 if self.refused or set(self.bad) & set(own) else 0


def test_trials_that_differ_in_numbers_share_a_program(tmp_path):
    wide = replace(ASKED, space=GRID | {"tau": Choices((0.1, 0.2, 1))}, together=3)
    trials = quiet(wide, tmp_path / "good", machine := Programs())
    assert machine.ran == [
        {"000": {"tau": 0.1}, "002": {"tau": 0.2}, "004": {"tau": 1}},
        {"001": {"tau": 0.1}, "003": {"tau": 0.2}, "005": {"tau": 1}},
    ]
    assert [trial.score for trial in trials] == pytest.approx([0.6, 0.6, 0.7, 0.7, 1.5, 1.5])
    quiet(replace(wide, together=2), tmp_path / "two", machine := Programs())
    assert list(map(list, machine.ran[:2])) == [["000", "002"], ["001", "003"]] and machine.ran[2:] == ["004", "005"]
    trials = quiet(wide, tmp_path / "bad", Programs(bad=("002",)))
    assert [trial.state for trial in trials] == ["done", "done", "failed", "done", "done", "done"]
    assert trials[2].why == "002: loss became nan"
    trials = quiet(wide, tmp_path / "refused", machine := Programs(refused=True))
    assert machine.ran[1:4] == ["000", "002", "004"] and {trial.state for trial in trials} == {"done"}


def test_the_command_line_trains(tmp_path, capsys):
    data = Dataset.from_arrays(np.ones((20, 2)), np.zeros((20, 1)), timeouts=np.arange(20) == 19)
    data.save(f"d4rl:{tmp_path / 'data.hdf5'}")
    words = ["bc", "--data", f"d4rl:{tmp_path / 'data.hdf5'}", "--steps", "2", "--by", "negative_log_likelihood"]
    words += ["--lowest", "--over", "hidden=[4]", "--out", str(tmp_path / "sweep"), "--", "--batch-size", "8"]
    assert main(["sweep", *words]) == 0
    said = capsys.readouterr().out
    assert "1 of 1: 000 hidden=(4,)" in said and "Best, by the lowest mean negative_log_likelihood of 1 trials" in said
    config = json.loads((tmp_path / "sweep/runs/000/config.json").read_text())["algorithm"]
    assert (config["hidden"], config["batch_size"]) == ([4], 8)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes have no cores of their own here")
def test_processes_beside_each_other_run_on_cores_of_their_own(tmp_path, monkeypatch):
    """As the processes themselves say; a machine of one core has it for both."""
    script = "import os, time; time.sleep(0.3); print(sorted(os.sched_getaffinity(0)))"
    started = subprocess.Popen
    monkeypatch.setattr(running.subprocess, "Popen", lambda _, **how: started([sys.executable, "-c", script], **how))
    attempt, log, cores = run_reverie(2, free_cores(2)), tmp_path / "log", sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: attempt([], str(log)), range(2))) == [0, 0]
    assert sorted(log.read_text().split("\n")) == sorted(["", *(str(cores[i::2] or cores) for i in range(2))])
    run_reverie(2)([], str(tmp_path / "all"))
    assert (tmp_path / "all").read_text() == f"{cores}\n"


def test_the_best_is_evaluated_again_from_other_starts(tmp_path, monkeypatch):
    """The score by which it was chosen is too high."""
    work = Work("td3-bc", "maze", 100, seeds=4, env="fork")
    asked = Sweep({"tau": Choices((0.1, 0.2))}, work)
    commands = []
    monkeypatch.setattr(running, "run_reverie", lambda jobs: lambda words, log: commands.append(words) or 0)
    monkeypatch.setattr(results, "scored", lambda *_: (10.0, 20.0))
    trials = [Trial(0, {"tau": 0.1}, "done", score=30.0), Trial(1, {"tau": 0.2}, "done", score=40.0)]
    options = sweeping.SweepOptions(("td3-bc",), 100, env="fork", out=tmp_path)
    said = sweeping.told(asked, trials[1], trials, options)
    assert "Best, by the highest mean score of 2 trials: 001 (tau=0.2), 40." in said
    assert "from other starts 15." in said and said.endswith("--seeds 4 --seed 4 --tau 0.2")
    assert commands == [[*"eval RUN --env fork --episodes 20 --seed 1".replace("RUN", f"{tmp_path}/runs/001").split()]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sweep needs the name of an algorithm first"),
        (["bc"], "sweep needs --data"),
        (["bc", "--online"], "--online needs --env"),
        (["bc", "--data", "x", "--by", "loss", "--together", "0"], "--together 0 must be at least 1"),
        (["bc", "--data", "x"], "Say how trials are scored"),
        (["bc", "--data", "x", "--by", "loss", "--over", "tua=1"], "bc has no field 'tua'"),
        (["nobody", "--data", "x", "--by", "loss"], "There is no algorithm 'nobody'"),
        (["bc", "--data", "x", "--by", "loss", "--over", "learning_rate=1e-4..1e-3"], "A grid has no range"),
        (["bc", "--data", "x", "--by", "loss", "--search", "random"], "trials = None: say how many"),
    ],
)
def test_what_is_missing_or_unknown_is_said_in_a_sentence(words, said, tmp_path, capsys):
    assert main(["sweep", *words, "--steps", "10", "--out", str(tmp_path / "sweep")]) == 2
    assert said in capsys.readouterr().err


def test_a_score_that_is_not_there_is_said(tmp_path):
    trials = quiet(Sweep(GRID, ASKED.work, by="speed"), tmp_path, Machine())
    assert {trial.state for trial in trials} == {"failed"}
    assert "one of seed, step, loss, not 'speed'" in trials[0].why
    assert best(trials) is None
    _, shown = sweeping.results_table(trials, lowest=False)
    assert len(shown) == 4 and "not 'speed'" in shown[0][-1]


def test_ray_runs_attempts_on_its_workers(tmp_path):
    pytest.importorskip("ray")
    engine = engines.engine("ray", 1)
    try:
        job = running._attempt, lambda words, log: words[0] == "train" and 7, Work("bc"), [Trial(0, {})], tmp_path
        assert engine.submit(*job).result(60) == [7]
    finally:
        engine.shutdown()
