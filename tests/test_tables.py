"""Tables: plans, the commands of their cells, what is kept of runs, and the report made of it."""

import json
import os
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reverie import cli
from reverie.collection.datasets import DATASETS

FOLDER = Path(__file__).parents[1] / "recipes"
sys.path.insert(0, str(FOLDER))
import table  # noqa: E402
from tabling import plans, results, work  # noqa: E402
from tabling.plans import Cell, Method, Plan, Set, Synthesizer  # noqa: E402
from tabling.report import Report  # noqa: E402
from tabling.view import View  # noqa: E402

sys.path.remove(str(FOLDER))
PLANS = plans.everyone()
DISTINCT = {
    tuple(words): f"{name}: {' '.join(words)}"
    for name, plan in PLANS.items()
    for each in (*plan.cells(), *plan.makings())
    for words in [each.train()[: each.train().index("--steps" if plan.online else "--data")]]
}
"""The trainings of all plans, without where they learn."""
NOWHERE = {"train": "--data d4rl:nowhere.hdf5 --steps 1", "online": "--env Nowhere-v5 --steps 100000"}

PLAN = Plan(
    name="some",
    title="A table",
    baseline="bc",
    steps=80,
    seeds=2,
    episodes=3,
    methods={"bc": Method("bc"), "top": Method("bc", select="@best=0.1"), "made": Method("iql", made_by="mbpo")},
    sets={"hop": Set("Hopper-v5", "hopper-medium", published={"bc": 52.9}, extra={"bc": "--hidden 8"}),
          "both": Set("Hopper-v5", "hopper-medium+hopper-mixture")},
    synthesizers={"mbpo": Synthesizer("mbpo", 5, 100)},
)  # fmt: skip


@pytest.mark.parametrize("words", DISTINCT, ids=DISTINCT.values())
def test_every_training_of_a_plan_is_parsed_up_to_where_it_learns(words, capsys):
    assert cli.main([*words, *NOWHERE[words[0]].split()]) == 2
    assert "nowhere" in capsys.readouterr().err.lower()


def test_teams_learn_by_the_released_settings_of_omar_and_alike():
    """Of each set its own weights; in MPE a discount and slow copies of its own. And all baselines have one budget."""
    cells = {(cell.method, cell.set): " ".join(cell.train()) for cell in PLANS["agents"].cells()}
    chosen = {"spread-expert": ("1.0", "5"), "spread-medium": ("1.0", "5"), "tag-expert": ("0.9", "5")}
    chosen |= {"tag-medium": ("0.7", "5"), "world-expert": ("0.9", "5"), "world-medium": ("0.1", "0.5")}
    worlds = "--discount 0.95 --tau 0.01 --policy-noise 0 --policy-delay 1 --gradient-clip 0.5"
    for name, (coefficient, alpha) in chosen.items():
        assert f"{worlds} --rectification {coefficient} --alpha {alpha} " in cells["omar", name]
        assert f"{worlds} --data" in cells["ma-td3-bc", name]
    assert "--rectification 0.7 --alpha 1 --policy-actions 10 --search-steps 2 " in cells["omar", "halfcheetah-medium"]
    assert all("--rewards raw " in words for (method, _), words in cells.items() if method == "omar")  # as alpha is of
    alike = "--standardise --batch-size 64 --learning-rate 1e-3 --decay-updates 30000 --hidden 128 128"
    for (method, name), words in cells.items():
        planner = words.split()[1] == "madiff"
        assert ("--decay-updates 10000 " if planner else alike) in words, method
        slow = "--nfe 5 --solver ddim --no-return-to-go" in words
        assert slow == (planner and name == "halfcheetah-medium")
        assert ("--history 8 --horizon 16 " in words) == slow  # as many rows to come as in MPE, and the past beside


def test_a_task_alone_is_learned_from_as_many_steps_as_among_others_and_prompts_are_shorter_than_episodes():
    plan, of_ten = PLANS["tasks"], DATASETS["metaworld-mt10"].steps / 10
    alone = [each.source.partition("@every=") for each in plan.sets.values() if each.only]
    assert len(alone) == 3 and all(DATASETS[name].steps / int(step) == of_ten for name, _, step in alone)
    prompted = {name for name, each in plan.methods.items() if each.train.split()[0] in ("mtdiff-p", "prompt-dt")}
    assert plan.sets["compass"].extra.keys() == prompted | {"mt-bc-prompt"}
    assert all("--prompt-steps 8" in words for words in plan.sets["compass"].extra.values())  # of 40


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_keeps_to_the_protocol(plan):
    assert plan.seeds >= 4 and plan.episodes >= 20 and plan.minutes <= 45
    assert max(method.expected for method in plan.methods.values()) <= 45
    assert all(cell.steps % cell.checkpoints == 0 for cell in plan.cells())
    assert plan.baseline and plan.note


def test_the_help_lists_the_tables(capsys):
    with pytest.raises(SystemExit):
        table.main(["--help"])
    shown = capsys.readouterr().out
    for name, plan in PLANS.items():
        assert f"{name} " in shown and plan.title in shown and f"({len(plan.cells())} cells" in shown


@pytest.mark.parametrize(
    "cell",
    [cell for name in ("imitation", "tasks") for cell in PLANS[name].cells()],
    ids=lambda cell: f"{cell.plan.name}: {cell.label}",
)
def test_in_imitation_and_of_several_tasks_a_learning_rate_falls_to_0_at_the_end_of_its_cell(cell):
    words = cell.train()
    given = [int(words[at + 1]) for at, word in enumerate(words) if word == "--decay-updates"]
    assert given[-1:] == [cell.steps]


def test_over_chunks_all_learn_from_equally_many_rows_and_have_targets_of_one_speed():
    alike = {
        (cell.steps, *(words[words.index(option) + 1] for option in ("--batch-size", "--tau")))
        for cell in PLANS["chunks"].cells()
        for words in [cell.train()]
    }
    assert alike == {(32_000, "128", "0.02")}


def words_of(method, name, plan=PLAN):
    return " ".join(Cell(plan, method, name, Path("out")).train())


def test_a_cells_commands_say_all_that_remakes_it():
    assert words_of("bc", "hop") == (
        "train bc --hidden 8 --data hopper-medium --steps 80 --seeds 2 --env Hopper-v5 --evaluate-every 10 "
        "--episodes 10 --out out/some/bc/hop --resume"
    )
    assert "--data hopper-medium@best=0.1+hopper-mixture@best=0.1 " in words_of("top", "both")
    made = Cell(PLAN, "made", "hop", Path("out"))
    assert f"--data hopper-medium+d4rl:{made.making.file} " in words_of("made", "hop")
    train, generate, *_ = (" ".join(words) for words in made.commands())
    assert train == "train mbpo --data hopper-medium --steps 5 --out out/some/made/mbpo/hopper-medium --resume"
    assert generate == f"generate {made.making.folder} -n 100 --out d4rl:{made.making.file}"
    often = replace(
        PLAN, sets={"hop": replace(PLAN.sets["hop"], times=20), "both": replace(PLAN.sets["both"], times=3)}
    )
    assert f"--data hopper-medium@times=20+d4rl:{made.making.file} " in words_of("made", "hop", often)
    assert "--data hopper-medium@best=0.1@times=3+hopper-mixture@best=0.1@times=3 " in words_of("top", "both", often)
    assert Cell(often, "made", "hop", Path("out")).making == made.making
    assert " ".join(made.evaluate()) == "eval out/some/made/hop --env Hopper-v5 --episodes 3"


ONLINE = Plan(
    name="live",
    title="Online",
    score="return",
    baseline="sac",
    steps=160,
    trial="--envs 1",
    methods={"sac": Method("sac"), "ppo": Method("ppo --envs 8", steps=320)},
    sets={"hop": Set("Hopper-v5"), "short": Set("Pendulum-v1", steps=80)},
)


def test_where_no_set_has_a_source_agents_learn_online():
    assert words_of("sac", "hop", ONLINE) == (
        "online sac --steps 160 --seeds 4 --env Hopper-v5 --evaluate-every 20 --episodes 10 "
        "--out out/live/sac/hop --resume"
    )
    assert "--steps 80 " in words_of("sac", "short", ONLINE) and "--steps 320 " in words_of("ppo", "hop", ONLINE)
    assert "--steps 80 " in words_of("ppo", "short", ONLINE), "a set's own steps are for all methods"
    assert ONLINE.named() == [] and all(cell.steps == 16 for cell in ONLINE.smoke().cells())
    assert "online ppo --envs 8 --envs 1 --steps 16 " in words_of("ppo", "short", ONLINE.smoke())
    with pytest.raises(ValueError, match="some sets have a source and some have none"):
        plans.check(replace(ONLINE, sets=ONLINE.sets | {"data": Set("Hopper-v5", "hopper-medium")}))


def test_the_report_of_online_agents_counts_environment_steps():
    row = {
        "scores": [[5.0, 5.0]] * 4,
        "updates": 120,
        "steps": 160,
        "minutes": 2.0,
        "updates_per_second": 7.0,
        "own_data": False,
        "hardware": "",
        "versions": {},
        "date": "2026-01-01",
        "commands": [],
        "curve": None,
    }
    text = Report(ONLINE, {"sac": {"hop": row, "short": row}}).markdown()
    assert "sac on hop after 120 of 160; sac on short after 120 of 160 environment steps" in text
    # 4 seeds of 120 steps in 120 seconds; no mean of returns of different tasks.
    assert "|  | P(better than sac) | environment steps/s, all seeds |" in text and "IQM" not in text
    assert "| sac |  | 4 |" in text


def test_a_set_may_be_for_some_methods_only():
    plan = replace(PLAN, sets={"hop": replace(PLAN.sets["hop"], only=["bc"]), "both": PLAN.sets["both"]})
    assert [cell.label for cell in plan.cells() if cell.set == "hop"] == ["bc on hop"]
    assert plan.restricted(["top"], None).cells()[0].set == "both" and plan.hours() < PLAN.hours()
    assert View(plan, Path("out"), work.State(), 45, 1).grid().row_count == 4
    with pytest.raises(ValueError, match="'nobody', which is no method"):
        plans.check(replace(PLAN, sets=PLAN.sets | {"hop": replace(PLAN.sets["hop"], only=["nobody"])}))


def test_a_method_may_be_for_some_sets_only():
    top = PLAN.methods["top"]
    plan = replace(PLAN, methods=PLAN.methods | {"top": replace(top, only=["hop"])})
    assert [cell.label for cell in plan.cells() if cell.method == "top"] == ["top on hop"]
    with pytest.raises(ValueError, match="'top' is only for 'nowhere', which is no set"):
        plans.check(replace(PLAN, methods=PLAN.methods | {"top": replace(top, only=["nowhere"])}))


def test_measures_beside_the_score_are_kept_and_shown(out):
    """What an evaluation has not measured, and files of before, have a dash."""
    cell = Cell(replace(PLAN, beside=["arrival", "success"]), "bc", "hop", out)
    file = cell.folder / "evaluation.json"
    found = json.loads(file.read_text())
    found[cell.env][0]["estimates"] = {"arrival": {"mean": 210.26}}
    file.write_text(json.dumps(found))
    text = Report(cell.plan, results.gather(cell.plan, cell.plan, out, out / "beside.json")).markdown()
    assert "steps until the first success" in text and "| bc | 210.3 | – |" in text
    assert results.load(out / "beside.json")["bc"]["hop"]["beside"] == {"arrival": 210.26, "success": None}
    before = Report(cell.plan, results.gather(PLAN, PLAN, out, out / "before.json")).markdown()
    assert "| bc | – | – |" in before


def test_rows_are_made_once_for_all_cells_that_share_them():
    several = replace(PLAN, methods={"a": Method("bc", made_by="mbpo"), "b": Method("iql", made_by="mbpo")})
    assert [making.source for making in several.makings()] == ["hopper-medium", "hopper-medium+hopper-mixture"]


def test_ones_own_data_stand_for_a_name_wherever_it_is():
    own = PLAN.with_data({"hopper-medium": "d4rl:/a/hopper-medium-x.hdf5"})
    assert [each.source for each in own.sets.values()] == [
        "d4rl:/a/hopper-medium-x.hdf5",
        "d4rl:/a/hopper-medium-x.hdf5+hopper-mixture",
    ]
    assert PLAN.named() == ["hopper-medium", "hopper-mixture"] and own.named() == ["hopper-mixture"]
    with pytest.raises(ValueError, match="no set's source is 'hopper'; the sources are hopper-medium, hopper-mixture"):
        PLAN.with_data({"hopper": "d4rl:a.hdf5"})


@pytest.mark.parametrize(
    "text, said",
    [
        ('title = "t"\nbaseline = "b"\n[methods.a]\ntrain = "bc"\n[sets.s]\nenv = "E"\nsource = "x"', "no line of the"),
        ('title = "t"\n[methods.a]\ntrain = "bc"\nstep = 3', "step"),
        ('title = "t"\n[methods.a]\ntrain = "bc"\nmade_by = "m"', "'m' is no synthesizer"),
        ('title = "t"\n[sets.a]\nenv = "A"\nsource = "a"\ntimes = 0', "set 'a' has times = 0; give a whole number"),
        ('title = "t"\n[sets.s]\nenv = "E"\nsource = "x"\npublished = {b = 1}', "'b', which is no method"),
        ("title", "no plan"),
    ],
)
def test_a_plan_that_does_not_fit_together_is_refused(text, said, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SystemExit, match=said):
        plans.read(tmp_path / "bad.toml")


def filled(out, cell, scores, seconds=60.0, steps=None, rising=0.0):
    """A run's folder, as training and evaluation leave it; its score ends at `scores`, after `rising` since 3/4."""
    steps, scores = steps or cell.steps, np.array(scores, float)
    folder = cell.folder
    (folder / "checkpoints" / str(steps)).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"versions": {"reverie": "1"}}))
    at = [steps * i // 8 for i in range(1, 9)]
    rows = [f"{s},{step},{seconds * step / steps},{5 + (step > at[0])}" for step in at for s in range(len(scores))]
    (folder / "metrics.csv").write_text("\n".join(["seed,step,seconds,updates_per_second", *rows]) + "\n")
    rows = [
        f"{s},{step},{e},{scores[s, e] - rising * (step < steps)}"
        for step in at for s in range(len(scores)) for e in range(len(scores[0]))
    ]  # fmt: skip
    (folder / "episodes.csv").write_text("\n".join(["seed,step,episode,eval_normalised", *rows]) + "\n")
    plain = {"normalised": scores.tolist(), "returns": (10 * scores).tolist(), "seeds": list(range(len(scores)))}
    plain |= {"step": steps, "max_steps": None, "date": "2026-01-02T03", "latency": {"median": 1.0}}
    otherwise = plain | {"policy": f"{cell.method} (candidates=4)", "normalised": (scores - 20).tolist()}
    (folder / "evaluation.json").write_text(json.dumps({cell.env: [plain, otherwise]}))


@pytest.fixture
def out(tmp_path):
    """Three cells of the plan: one flat, one rising, one cut."""
    rng = np.random.default_rng(0)
    for (method, name), how in {
        ("bc", "hop"): {},
        ("top", "hop"): {"rising": 9.0},
        ("bc", "both"): {"steps": 40, "seconds": 2700.0},
    }.items():
        filled(tmp_path, Cell(PLAN, method, name, tmp_path), 50 + rng.normal(size=(2, 3)), **how)
    return tmp_path


def test_the_report_needs_nothing_but_the_kept_file(out):
    path = out / "kept" / "some.json"
    cells = results.gather(PLAN, PLAN, out, path)
    text = Report(PLAN, cells).markdown()
    assert cells["bc"]["hop"]["updates_per_second"] == 12 and cells["bc"]["hop"]["minutes"] == 1
    assert np.mean(cells["bc"]["hop"]["scores"]) > 40  # and not of another way of acting, which is evaluated later
    assert results.gather(PLAN, PLAN, out / "gone", path) == cells
    assert Report(PLAN, results.load(path)).write(out / "report") == text
    assert sorted(os.listdir(out / "report")) == ["curves.png", "profiles.png", "scores.png", "table.md"]


def test_what_is_kept_stays_when_one_run_is_renewed(out):
    path = out / "some.json"
    before = results.gather(PLAN, PLAN, out, path)
    filled(out, Cell(PLAN, "made", "hop", out / "other"), np.ones((2, 3)))
    after = results.gather(PLAN, PLAN, out / "other", path)
    assert after.pop("made")["hop"]["scores"] == np.ones((2, 3)).tolist()
    assert after == before
    assert str(out) not in path.read_text(), "commands are those of a clone, wherever this one's runs are"


def test_the_table_marks_what_is_not_flat_or_was_cut(out):
    text = Report(PLAN, results.gather(PLAN, PLAN, out, out / "some.json")).markdown()
    bc, top = (next(line for line in text.splitlines() if line.startswith(f"| `{name}` |")) for name in ("bc", "top"))
    assert bc.split("|")[2].endswith(" (52.9) ") and "†" not in bc.split("|")[2]
    assert "‡" in bc.split("|")[3] and "bc on both after 40 of 80 updates" in text
    assert "†" in top and top.split("|")[3] == "  "
    assert "change +9.0 (+9.0 to +9.0)" in text
    assert "reverie train bc --hidden 8 --data hopper-medium --steps 80" in text
    assert "reverie eval runs/tables/some/bc/hop --env Hopper-v5 --episodes 3" in text
    assert "| top (1 of 2 columns) |" in text


def test_a_cell_is_done_when_it_is_evaluated_at_its_end_or_its_time_is_over(out):
    cell = Cell(PLAN, "bc", "both", out)
    assert results.done(Cell(PLAN, "bc", "hop", out), 45)
    assert results.done(cell, 45) and not results.done(cell, 100)
    assert not results.done(Cell(replace(PLAN, episodes=4), "bc", "hop", out), 45)
    assert not results.done(Cell(PLAN, "made", "hop", out), 45)


def test_only_what_is_missing_is_done(out, monkeypatch):
    """The data first, then the synthesizer's rows, then the cells that are not there; one fails, the others go on."""
    given, told = [], []

    def command(self, words, log, cores, seconds=None):
        given.append(words)
        if words[0] == "generate":
            Path(words[5].removeprefix("d4rl:")).parent.mkdir(parents=True, exist_ok=True)
            Path(words[5].removeprefix("d4rl:")).touch()
        if words[0] == "train" and words[-2].endswith("some/top/both"):
            raise work.Failed("it broke")

    monkeypatch.setattr(work.Worker, "command", command)
    state, plan = work.State(), PLAN.restricted(None, ["both"])
    view = View(plan, out, state, 45, 1)
    work.Worker(45, state, lambda task: told.append(view.line(task)), lambda: None).work(plan, out, 1)
    assert [" ".join(words[:3]) for words in given[:2]] == ["data info hopper-medium", "data info hopper-mixture"]
    assert [words[0] for words in given[2:]] == ["train", "generate", "train", "train", "eval"]
    assert state.faults == {"top on both": "it broke"}
    assert state.doing["bc on both"] == "done" and state.doing["made on both"] == "done"
    assert "2/3 cells; top on both: it broke" in told[-2]


@pytest.mark.parametrize(("statuses", "begun"), [([-9, 0], 2), ([2], 1), ([-9, -9, -9], 3)])
def test_what_dies_is_begun_again_and_what_is_wrong_is_not(tmp_path, monkeypatch, statuses, begun):
    log, left = tmp_path / "it.log", list(statuses)
    log.write_text("reverie: it is so\n")
    monkeypatch.setattr(work.Worker, "here", lambda *given: left.pop(0))
    worker = work.Worker(45, work.State(), print, print)
    if statuses[-1] == 0:
        worker.command(["train"], log, None)
    else:
        with pytest.raises(work.Failed, match="it is so"):
            worker.command(["train"], log, None)
    assert len(statuses) - len(left) == begun


def test_commands_go_to_a_cluster_where_one_is_given(tmp_path):
    given = []

    class Cluster:
        def submit(self, function, *arguments):
            given.append(arguments)
            done = Future()
            done.set_result(0)
            return done

    log = tmp_path / "logs" / "it.log"
    work.Worker(45, work.State(), print, print, Cluster()).command(["train", "bc"], log, [0], 60)
    assert given == [(["train", "bc"], str(log), 60)] and log.parent.is_dir()


def test_a_stop_reaches_a_command_that_is_just_being_begun(tmp_path, monkeypatch):
    state, sent = work.State(), []
    stopping = threading.Thread(target=state.stop)

    class Begun:
        def __init__(self, *_, **__):
            stopping.start()
            stopping.join(0.2)  # it waits for the command to be among those that run

        send_signal = sent.append

    monkeypatch.setattr(work.subprocess, "Popen", Begun)
    state.begin(["train"], tmp_path / "logs" / "it.log")
    stopping.join()
    assert sent == [work.signal.SIGINT]
    with pytest.raises(work.Failed, match="not begun"):
        state.begin(["eval"], tmp_path / "logs" / "it.log")
    assert (tmp_path / "logs" / "it.log").read_text() == "reverie train\n"


def test_the_view_tells_rates_times_and_scores(out):
    state = work.State(doing={"bc on hop": "done", "top on hop": "training"})
    view = View(PLAN, out, state, 45, 2)
    (out / "some" / "top" / "hop" / "metrics.csv").write_text("seed,step,seconds,updates_per_second\n0,20,60,0.5\n")
    cells = {cell.label: view.cell(cell) for cell in PLAN.cells(out)}
    assert cells["bc on hop"].endswith("in 1.0 min")
    assert cells["top on hop"] == "training 25 % at 0.5/s, 0:03:00 left"
    assert cells["made on hop"] == "waiting"
    assert view.grid().row_count == 5 and "1 of 6 cells" in view.caption()


def test_real_rows_have_the_share_of_the_papers_beside_what_is_made_of_them():
    """Of Hopper's, HalfCheetah's and Walker2d's few: half beside TATU's rows, a twentieth beside MBPO's, as near as
    whole repetitions come."""
    plan, rows = PLANS["augmentation"], {"hopper": 1507, "halfcheetah": 10_000, "walker2d": 7375}
    for synthesizer, wanted, off in (("tatu", 0.5, 0.01), ("mbpo", 0.05, 0.013)):
        for body, count in rows.items():
            real = count * plan.sets[f"{body}-{synthesizer}"].times
            assert abs(real / (real + plan.synthesizers[synthesizer].rows) - wanted) < off


def test_smoke_and_restriction_keep_the_cells_and_shorten_them():
    plan = table.trial(PLANS["augmentation"], None)
    assert [each.made_by for each in plan.sets.values()] == ["", "s4rl", "mbpo", "tatu", "synther", "diffstitch"]
    assert plan.synthesizers["diffstitch"].train.endswith("--chunk 1000") and plan.synthesizers["mbpo"].train == "mbpo"
    assert all(cell.steps == 16 and "--batch-size 8" in " ".join(cell.train()) for cell in plan.cells())
    with pytest.raises(ValueError, match="no 'nothing' among the sets hop, both"):
        PLAN.restricted(None, ["nothing"])
