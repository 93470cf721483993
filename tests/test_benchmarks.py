"""The benchmarks at their smallest: that they run, what they write, and that unequal work is refused."""

import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import (
    cleandiffuser,
    devices,
    online,
    peers,
    plans,
    scaling,
    schedules,
    shields,
    steps,
    stitches,
    streaming,
    timing,
)
from benchmarks.equality import Counts, Plan, Row, Side, UnequalError, check, check_moves
from benchmarks.flops import matmul_flops
from benchmarks.workloads import (
    Prepared,
    SizedDiffusionPolicy,
    SizedDiffusionQL,
    Untrained,
    counted,
    evaluations_of,
    hopper_like,
    maze_like,
    pusht_like,
)

from reverie import planners
from reverie.planners import DiffuserMaze
from reverie.planning.receding import Plan as Carried
from reverie.training.run import Policy

CLONE = os.environ.get("CLEANDIFFUSER")
"""A clone of the peer, for the test of its half."""


@pytest.fixture(scope="module", autouse=True)
def quickly(compiled_quickly):
    """Compiled for a run or two."""


@pytest.fixture(autouse=True)
def gently(monkeypatch):
    """Leave the cores of the other tests alone, and measure the floor by small products."""
    monkeypatch.setattr(timing, "use_threads", lambda n: None)
    measure = timing.Floor.measure
    monkeypatch.setattr(timing.Floor, "measure", lambda **_: measure(sizes=(64,), megabytes=1, least=0.01))


def test_flops_of_products_loops_branches_and_gradients():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))

    def looped(a, b):
        once = lambda _, x: x + (a @ b).sum()  # noqa: E731
        return jax.lax.fori_loop(0, 7, once, 0.0)

    def branched(a, b):
        return jax.lax.cond(a.sum() > 0, lambda: (a @ b).sum(), lambda: (a @ b @ b.T).sum())

    product = 2 * 3 * 4 * 5
    assert matmul_flops(lambda a, b: a @ b, a, b) == product
    assert matmul_flops(jax.jit(looped), a, b) == 7 * product
    assert matmul_flops(branched, a, b) == 2 * product
    assert matmul_flops(jax.grad(lambda a, b: (a @ b).sum(), argnums=(0, 1)), a, b) in (2 * product, 3 * product)


def test_interleaved_runs_in_turn_and_ratios_are_of_pairs():
    order = []

    def slow(name, seconds):
        return lambda: (order.append(name), time.sleep(seconds))

    taken = timing.interleaved({"a": slow("a", 0.002), "b": slow("b", 0.006)}, pairs=3, least=0.001)
    assert order[-6:] == ["a", "b"] * 3
    assert 1.5 < timing.Ratio.of(taken["a"], taken["b"]).median < 6
    ratio = timing.Ratio.of([1, 2, 4], [3, 2, 8])
    assert (ratio.median, ratio.low, ratio.high) == (2, 1, 3)


def test_the_clock_of_the_process_does_not_count_what_it_waits_for(monkeypatch):
    monkeypatch.setattr(timing, "CLOCK", ["wall"])
    assert timing.seconds(lambda: time.sleep(0.05), 2) >= 0.05
    timing.use_clock("cpu")
    assert timing.seconds(lambda: time.sleep(0.05), 2) < 0.03
    assert timing.machine()["clock"] == "cpu"


def test_floor_is_the_slower_of_arithmetic_and_bandwidth():
    floor = timing.Floor(matmul=100.0, copy=10.0)
    assert (floor.seconds(200), floor.seconds(200, 50)) == (2, 5)
    measured = timing.Floor.measure(sizes=(64,), megabytes=1, least=0.01)
    assert measured.matmul > 1e6 and measured.copy > 1e6


def test_evaluations_are_counted_as_they_are_run():
    """Diffusion-QL's update: 5 for td_target, 1 for the behaviour cloning loss, 5 with the gradient through them."""
    ours = Prepared.of(counted(SizedDiffusionQL(hidden=(8,), critic_hidden=(8,), batch_size=4)))
    assert evaluations_of(ours.segment(1)) == {"denoiser": [4] * 11}


def test_a_plan_of_decision_diffuser_is_one_doubled_batch_an_evaluation():
    tiny = {"horizon": 4, "width": 8, "multipliers": (1,), "hidden": (8,), "diffusion_steps": 3}
    ours = Prepared.of(counted(planners.DecisionDiffuser(**tiny)))
    assert evaluations_of(ours.acting(environments=5)) == {"denoiser": [10] * 3}


def test_a_chunk_is_chosen_at_every_action_of_the_policys_workload():
    algorithm = SizedDiffusionPolicy(width=8, multipliers=(1,), diffusion_steps=3, action_horizon=1)
    acting = Prepared.of(counted(algorithm), data=pusht_like()).acting()
    assert [evaluations_of(acting) for _ in range(2)] == [{"denoiser": [1] * 3}] * 2


def test_unequal_work_is_refused():
    def plan(**changes):
        theirs = {"flops": 100.0, "nfe": {"denoiser": [4, 4]}} | changes
        row = Row("plan", Side(print, 1, 104.0, {"denoiser": [4, 4]}), {"theirs": Side(print, 1, **theirs)})
        return Plan([Counts("network", 105, 100)], [row])

    check(plan())
    for unequal, word in (({"nfe": {"denoiser": [4]}}, "examples"), ({"flops": 50.0}, "one side only")):
        with pytest.raises(UnequalError, match=word):
            check(plan(**unequal))
    with pytest.raises(UnequalError, match="110 against 100"):
        check(Plan([Counts("network", 110, 100)], []))
    check_moves("a chain", [0.5, 0.1], 2)
    for moves in ([0.5], [0.5, 1e-5]):
        with pytest.raises(UnequalError, match="a chain: of 2 network evaluations"):
            check_moves("a chain", moves, 2)


def test_history_of_the_peers_sampler_gives_the_moves_of_each_evaluation():
    history = np.zeros((2, 4, 2, 3))
    history[:, 1:] += 2.0
    history[0, 3, 1, 2] = 7.0
    assert cleandiffuser.moves({"sample_history": history}) == [2.0, 0.0, 5.0]


def test_our_half_runs_without_the_peer(tmp_path, capsys):
    words = ["--only", "synther", "--pairs", "1", "--least", "0.01", "--rows", "4", "--nfe", "2", "--width", "64"]
    peers.main([*words, "--out", str(tmp_path)])
    assert "half alone" in capsys.readouterr().out
    found = json.loads((tmp_path / "peers.json").read_text())
    assert found["about"]["versions"]["jax"] == jax.__version__ and found["floor"]["matmul"] > 0
    row = found["results"][0]
    assert row["median"]["ours"] > 0 and row["ratio"] == {} and row["nfe"] == {"denoiser": 2}
    assert row["flops"]["ours"] == pytest.approx(2 * 4 * 2 * 6 * 8 * 64**2, rel=0.2)
    assert (tmp_path / "peers.md").read_text().count("\n| SynthER") == 2


@pytest.mark.skipif(CLONE is None, reason="CLEANDIFFUSER does not name a clone of CleanDiffuser")
def test_both_halves_are_found_equal(tmp_path):
    pytest.importorskip("torch"), pytest.importorskip("einops")
    words = ["--only", "synther", "--pairs", "1", "--least", "0.01", "--rows", "4", "--nfe", "2", "--width", "256"]
    peers.main([*words, "--cleandiffuser", str(CLONE), "--out", str(tmp_path)])
    row = json.loads((tmp_path / "peers.json").read_text())["results"][0]
    assert row["ratio"]["CleanDiffuser"]["median"] > 0


@pytest.mark.slow
def test_the_bytes_exchanged_are_read_off_a_program():
    text = """
      %a = f32[64,8]{1,0} all-reduce(f32[64,8]{1,0} %x), channel_id=1
      %b = (f32[4]{0}, /*index=1*/bf16[2,2]{1,0}) all-reduce(%x, %y), channel_id=2
      %c = f32[] all-reduce-start(%z)
      %d = f32[1000]{0} add(%a, %a)
      %e = f32[16,3]{1,0} reduce-scatter(%x), channel_id=3
      %f = u8[5]{0} reduce-scatter(%x), channel_id=4
      %g = s32[2,32]{1,0} all-gather(%x), channel_id=5
    """
    assert devices.exchanged(text) == 4 * 64 * 8 + 4 * 4 + 2 * 4 + 4
    assert devices.gathered(text, 4) == 4 * (16 * 3 * 4 + 5) + 2 * 32 * 4


def test_where_more_gpus_stop_paying():
    machine = devices.Machine(rate=1e12, near=1e11, far=1e10, latency=0.0)
    heavy = devices.Work("heavy", flops=1e12, moved=0.0, launches=1)
    assert machine.speedup(heavy, 8, grown=False) == pytest.approx(8)
    launched = devices.Work("launched", flops=1.0, moved=0.0, launches=1000)
    assert machine.speedup(launched, 8, grown=False) == pytest.approx(1)
    assert machine.speedup(launched, 8, grown=True) == pytest.approx(8)
    # A second of work, and 1 GB over links of 100 GB/s: 2 (n - 1) / n of 10 ms.
    moving = devices.Work("moving", flops=1e12, moved=1e9, launches=1)
    assert machine.update(moving, 8, grown=False) == pytest.approx(1 / 8 + 0.0175)
    assert machine.update(moving, 16, grown=True) == pytest.approx(1 + 0.1875)


def test_devices_writes_its_tables(tmp_path):
    words = ["--quick", "--pairs", "1", "--least", "0.01", "--updates", "2"]
    words += ["--measure", "diffusion-ql", "--paper", "diffusion-ql"]
    devices.run(devices.arguments([*words, "--simulate", "1", "--out", str(tmp_path)]))
    found = json.loads((tmp_path / "devices.json").read_text())
    assert [(row["split"], row["devices"]) for row in found["measured"]] == [("batch", 1), ("seeds", 1)]
    assert len(found["paper"]) == 2
    for row in found["paper"]:
        assert row["megabytes"] > 0 and row["kernels"] > 10 and len(row["speedups"]) == 6


def test_scaling_writes_every_part(tmp_path):
    parts = ["seeds", "acting", "generating"]
    words = ["--quick", "--repeats", "1", "--least", "0.01", "--latencies", "3", "--parts", *parts]
    scaling.main([*words, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert {row["part"] for row in found["results"]} == set(parts)
    for row in found["results"]:
        assert row["seconds"] > 0 and row["flops"] > 0 and row["of_floor"] > 0 and row["peak_bytes"] > 1e6
        assert (row["p99"] is None) == (row["part"] not in ("acting", "planning", "steps"))
    assert (tmp_path / "scaling.png").stat().st_size > 1000


@pytest.mark.slow
def test_steps_score_every_solver_at_every_nfe(tmp_path):
    source = f"d4rl:{tmp_path / 'data.hdf5'}"
    hopper_like(rows=1000, episode=100).save(source)
    words = ["--quick", "--data", source, "--updates", "1", "--only", "hopper", "--nfe", "2", "--episodes", "2"]
    steps.main([*words, "--max-steps", "3", "--latencies", "3", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "steps.json").read_text())["results"]
    lines = ["DDPM", "DDIM", "DPM-Solver++ 2M"]
    assert [(row["line"], row["nfe"]) for row in found] == [(line, n) for line in lines for n in (2,)]
    assert all(row["latency"]["median"] > 0 and row["episodes"] == 2 for row in found)
    assert (tmp_path / "steps.png").stat().st_size > 1000 and Path(tmp_path / "steps.md").exists()


def test_the_mazes_planner_is_also_timed_when_it_plans_again():
    """The step set by `due` is one at which a warm start is made."""
    planner = DiffuserMaze(stride=4, warm_start_steps=2, replan_interval=3, diffusion_steps=4)
    names = [cell.line for cell in steps.cells("maze", planner, [1])]
    assert names == [*steps.SOLVERS, "DDPM, replanned", "DDPM, replanned warm"]
    _, plan = steps.due(planner, (0, Carried.none(1, 8, 6)))
    assert plan.step == 12 and plan.step // planner.stride % planner.replan_interval == 0


def test_every_planner_is_timed_at_the_settings_of_its_recipe():
    assert {*plans.PLANNERS, *plans.LEFT_OUT} == {getattr(planners, name).name for name in planners.__all__}
    for name in plans.PLANNERS:
        assert plans.of_recipe(name).name == name
    diffuser, ldcq = map(plans.of_recipe, ("diffuser", "ldcq"))
    assert (diffuser.candidates, diffuser.nfe, diffuser.solver, diffuser.multipliers) == (4, 5, "ddim", (1, 2, 4))
    assert (ldcq.candidates, ldcq.replan_interval, ldcq.horizon) == (16, 5, 10)
    assert len(plans.settings("diffuser", "maze")) == 2 < len(plans.settings("diffuser", "hopper"))


def test_the_calls_that_are_timed_plan_when_they_should():
    """From noise by all levels, again from the last plan by two, and not at all while a plan is followed."""
    tiny = {"horizon": 8, "width": 8, "multipliers": (1,), "diffusion_steps": 4}
    algorithm = counted(DiffuserMaze(stride=2, replan_interval=2, warm_start_steps=2, **tiny))
    ours = Untrained.of(algorithm, maze_like())
    calls = plans.works(Policy(algorithm, ours.spec, ours.state))
    found = {name: evaluations_of(call) for name, call in calls.items()}
    assert found == {"first": {"denoiser": [1] * 4}, "replanned": {"denoiser": [1] * 2}, "following": {}}
    assert (plans.evaluations(algorithm), plans.evaluations(algorithm, warm=True)) == (4, 2)


def test_evaluations_of_levels_and_of_chunks_that_wait_for_each_other():
    way = {"nfe": 5, "chunk_count": 3}
    assert plans.evaluations(planners.HierarchicalDiffuser(nfe=5)) == 2 * 5
    assert plans.evaluations(planners.CompDiffuser(**way)) == 3 * 5
    assert plans.evaluations(planners.CompDiffuser(parallel=True, **way)) == 5
    # Of six levels, uniform in time from 1 on, the last three begin at 1/2 or later.
    again = planners.CompDiffuser(parallel=True, nfe=6, diffusion_steps=6, resampling=10, resampling_time=0.5)
    assert plans.evaluations(again) == 3 + 3 * 10


def test_plans_writes_a_row_a_setting_at_the_sizes_that_are_asked_for(tmp_path, capsys):
    plans.main(["--quick", "--only", "ldcq", "--sizes", "hopper", "--repeats", "3", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "plans.json").read_text())["results"]
    assert [(row["planner"], row["size"], row["nfe"]) for row in found] == [("ldcq", "hopper", 20)]
    for row in found:
        assert set(row["seconds"]) == {"first", "replanned", "following"}
        assert all(each["median"] > 0 for each in row["seconds"].values())
        assert row["flops"] > 0 and row["bytes"] > 0 and row["of_floor"] > 0
    assert (tmp_path / "plans.md").read_text().count("| ldcq | hopper | recipe |") == 1
    assert (tmp_path / "plans.png").stat().st_size > 1000
    assert "following" in capsys.readouterr().out


def test_shields_are_timed_beside_the_plan_without_one(tmp_path):
    words = ["--quick", "--only", "diffuser-maze", "--ways", "robust", "--numbers", "2", "--pairs", "1"]
    shields.main([*words, "--least", "0", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "shields.json").read_text())["results"]
    assert [row["shield"] for row in found] == ["none", "robust 2"]
    assert found[0]["ratio"]["median"] == 1 and found[1]["seconds"] > 0
    assert (tmp_path / "shields.md").read_text().count("| diffuser-maze |") == 2


def test_stitched_steps_are_counted_with_the_tables_settings(tmp_path):
    assert stitches.of_table().longest_bridge == 39 and stitches.of_table().horizon == 48
    stitches.main(["--quick", "--pairs", "1", "--least", "0", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "stitches.json").read_text())
    assert found["attempts"] == 4 and found["steps"] > 0 and found["rate"] > 0
    assert (tmp_path / "stitches.md").read_text().count("| 4 |") == 1


def test_nfe_is_at_most_the_noise_levels():
    found = steps.cells("policy", SizedDiffusionQL(), [1, 3, 10, 64])
    assert sorted({cell.nfe for cell in found}) == [1, 3, 5] and len(found) == 3 * 3


def test_schedules_error_is_that_of_the_sampler_alone(tmp_path):
    """VE's uniform times are uniform in log-SNR already; half as long steps of a first-order solver halve the error."""
    assert schedules.error("ve", "uniform", "ddim", 20) == pytest.approx(schedules.error("ve", "log-snr", "ddim", 20))
    coarse, fine = (schedules.error("edm", "log-snr", "ddim", nfe) for nfe in (50, 100))
    assert coarse / fine == pytest.approx(2, rel=0.1)
    schedules.main(["--processes", "edm", "--nfe", "2", "--out", str(tmp_path)])
    rows = (tmp_path / "schedules.md").read_text().splitlines()
    assert len(rows) == 6 and rows[4].startswith("| edm | **karras** |")


def test_learning_online_is_timed_between_two_marks(monkeypatch):
    monkeypatch.setitem(online.SIZES, "sac", {"steps": 100, "from": 60})
    monkeypatch.setattr(online, "WARMUP", 20)
    monkeypatch.setattr(online, "SETTINGS", {"sac": {"update_interval": 20, "log_every": 20, "utd_ratio": 0.1}})
    first, last = online.reverie_side("sac", "Pendulum-v1")
    assert 0 < last - first < 60


def test_streaming_says_its_rates_and_its_memory(tmp_path):
    streaming.make(tmp_path / "set", 3000)
    for where in streaming.WHERE:
        found = streaming.train("bc", where, tmp_path / "set", 4, 2, 2000, True)
        assert found.keys() == {"peak", "wall", "cpu"} and min(found.values()) > 0
    assert len(streaming.arguments(["--quick"]).methods) == 2
