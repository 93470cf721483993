"""Every recipe is a command that the command line takes: a renamed field or a mistyped size is found here."""

import argparse
import importlib
import json
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_algorithm import synthetic

from reverie import cli, fit, load
from reverie.baselines import BC, IQL
from reverie.collection import make_dataset
from reverie.data import Dataset
from reverie.imitation import FlowPolicy
from reverie.planners import CompDiffuser
from reverie.policies import DiffusionBC
from reverie.training import Run
from reverie.training.loop import each_seed, initial_states

FOLDER = Path(__file__).parents[1] / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))
RECIPES = {name: row for file in FILES for name, row in tomllib.loads(file.read_text()).items()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_parsed_up_to_its_data(name, capsys):
    words = RECIPES[name]["train"].split()
    words[words.index("--data") + 1] = "d4rl:nowhere.hdf5"
    assert cli.main(["train", *words, "--steps", "1"]) == 2
    assert "nowhere.hdf5" in capsys.readouterr().err
    assert RECIPES[name]["steps"] > 0
    assert RECIPES[name]["eval"].startswith("--env ")


def words_of(name):
    """Of a recipe's training, each with the one after it."""
    words = RECIPES[name]["train"].split()
    return dict(zip(words, [*words[1:], None], strict=True))


def test_diffusion_policy_s_rate_falls_over_the_whole_training_and_its_transformer_drops_little():
    full = [name for name in RECIPES if name.startswith("diffusion-policy")]
    assert len(full) == 3
    assert all(int(words_of(name)["--decay-updates"]) == RECIPES[name]["steps"] for name in full)
    assert words_of("diffusion-policy-transformer-pusht")["--dropout"] == "0.01"


def test_mtdiff_learns_from_as_many_windows_as_its_released_code_and_plans_at_every_step():
    """16 of each of 50 tasks, of which two make an update."""
    recipe = RECIPES["mtdiff-p-mt50"]
    assert int(words_of("mtdiff-p-mt50")["--batch-size"]) == 2 * 16 * 50
    assert recipe["steps"] == 2_000_000
    assert "action_horizon=1" in recipe["eval"].partition("--acting ")[2].split()


ONLINE = ["sac", "sac-often", "synther-often", "sac-whole-often", "redq-often"]


@pytest.mark.parametrize("agent", ONLINE)
def test_the_online_recipes_agent_is_parsed_up_to_its_environment(agent, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    online, given = importlib.import_module("online"), []
    monkeypatch.setattr(online.subprocess, "run", lambda command, **_: given.extend(command[3:]))
    options = argparse.Namespace(env="Nowhere-v5", steps=1000, seeds=1, short=True, out=tmp_path, ratio=10)
    online.train(agent, options)
    assert list(online.AGENTS) == ONLINE
    assert ("10" in given) == (agent != "sac") and given[-1].endswith(online.called(agent, options))
    assert ("--policy-delay 10" in " ".join(given)) == (agent not in ("sac", "sac-whole-often"))
    assert cli.main(given) == 2
    assert "Nowhere-v5" in capsys.readouterr().err


def test_the_goals_of_a_seeds_episodes_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    goals = importlib.import_module("goals")
    paths = [np.array([[0, 0], end]) for end in ([0.9, 0.1], [0.95, 0.0], [0.0, -1.0], [0.0, 0.3])]
    assert goals.ends(paths, np.array([True, True, True, False])) == [0.5, 0, 0, 0.25]
    for agent in goals.AGENTS:
        words = ["online", agent.removesuffix("-warm"), "--env", "Nowhere-v5", "--steps", "2000", *goals.SHORT.split()]
        assert cli.main([*words, *goals.AGENTS[agent].split()]) == 2


@pytest.mark.parametrize("ends", ["terminals", "timeouts"])
def test_the_longest_step_is_within_an_episode(monkeypatch, ends):
    """Of two episodes a metre apart, in which a step is 0.1 m, but for the last one's last of 0.2."""
    monkeypatch.syspath_prepend(str(FOLDER))
    places = np.array([0, 0.1, 0.2, 1.2, 1.3, 1.5])[:, None] * [1, 0]
    data = Dataset.from_arrays(places, np.zeros((6, 1)), **{ends: np.arange(6) % 3 == 2})
    assert importlib.import_module("shields").longest_step(data, 1) == pytest.approx(0.2, abs=1e-6)


@pytest.mark.slow
def test_demonstrations_of_both_ways_are_drawn(monkeypatch, tmp_path, capsys):
    pytest.importorskip("pymunk")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    importlib.import_module("demonstrations").main(["--out", str(tmp_path / "new" / "ways.png")])
    assert (tmp_path / "new" / "ways.png").stat().st_size > 10_000


@pytest.mark.slow
def test_modes_are_measured_once_and_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    modes = importlib.import_module("modes")
    monkeypatch.setattr(modes, "MODELS", {"a Gaussian of the state": BC(hidden=(8,), stochastic=True)})
    monkeypatch.setattr(modes, "two_sample", partial(modes.two_sample, updates=20))
    monkeypatch.chdir(tmp_path)
    synthetic(400).save("d4rl:data.hdf5")
    words = ["--sets", "d4rl:data.hdf5", "--updates", "20", "--seeds", "1", "--rows", "50"]
    for _ in range(2):
        modes.main([*words, "--out", "out", "--results", "modes.json"])
    rows = json.loads(Path("modes.json").read_text())
    assert [row["updates"] for row in rows] == [20]
    assert all(0.2 < told < 1 for row in rows for judged in row["accuracy"].values() for told in judged)
    assert Path("out/modes-d4rl:data.hdf5.png").stat().st_size > 10_000
    assert "| a Gaussian of the state | 20 |" in Path("out/modes.md").read_text()
    with pytest.raises(SystemExit):
        modes.main(["--sets", "hoper-mixture"])
    assert "did you mean hopper-mixture" in capsys.readouterr().err


@pytest.mark.slow
def test_candidates_are_measured_once_and_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    candidates = importlib.import_module("candidates")
    monkeypatch.setattr(candidates, "BEHAVIOUR", DiffusionBC(hidden=(8,)))
    monkeypatch.setattr(candidates, "CRITICS", {"two critics": IQL(hidden=(8,), critic_hidden=(8,))})
    monkeypatch.chdir(tmp_path)
    rng, steps = np.random.default_rng(0), 200
    arrays = rng.normal(size=(steps, 11)), rng.uniform(-1, 1, (steps, 3)), rng.normal(size=steps)
    Dataset.from_arrays(*arrays, terminals=np.zeros(steps), timeouts=np.arange(steps) % 50 == 49).save("d4rl:data.hdf5")
    command = (
        "--set d4rl:data.hdf5 --env Hopper-v5 --candidates 1 3 --episodes 2 --seeds 2 --behaviour-updates 5 "
        "--critic-updates 5 --out out --results found.json"
    )
    for _ in range(2):
        candidates.main(command.split())
    rows = json.loads(Path("found.json").read_text())
    assert [(row["n"], row["selection"]) for row in rows] == [(1, "argmax"), (3, "argmax"), (3, "softmax")]
    assert np.shape(rows[0]["normalised"]) == (2, 2)
    assert Path("out/candidates.png").stat().st_size > 10_000
    assert "| two critics |" in Path("out/candidates.md").read_text()


def test_the_weights_of_the_best_method_and_seed_are_kept(monkeypatch, tmp_path):
    """Of two methods of one role the better one's better seed; a worse one that is found later changes nothing."""
    monkeypatch.syspath_prepend(str(FOLDER))
    weights, results = importlib.import_module("weights"), importlib.import_module("tabling.results")
    data = Dataset.from_arrays(np.eye(4), np.zeros((4, 1)), np.zeros(4), timeouts=np.arange(4) == 3)
    row = {"seeds": [0, 1], "updates": 1, "commands": ["reverie train"]}
    scores = {"bc": [[1.0, 2.0], [3.0, 5.0]], "bc-best": [[9.0, 7.0], [8.0, 6.0]]}
    results.save(
        tmp_path / "offline.json", "offline", {m: {"hopper-mixture": row | {"scores": s}} for m, s in scores.items()}
    )
    for method in scores:
        fit(BC(hidden=(4,)), data, steps=1, seeds=2, out=tmp_path / method / "offline" / method / "hopper-mixture")
    kept = {"bc": ("bc", 2.75, 4.0), "bc-best": ("bc-best", 7.5, 8.0)}
    for method, expected in (("bc", "bc"), ("bc-best", "bc-best"), ("bc", "bc-best")):
        words = ["--runs", str(tmp_path / method), "--results", str(tmp_path), "--out", str(tmp_path / "weights")]
        weights.main(["offline", *words])
        (file,) = (tmp_path / "weights").iterdir()
        about = load(file).about
        assert (about["method"], about["mean"], about["seed_mean"]) == kept[expected]


def untrained(algorithm, data, **options):
    spec = algorithm.prepare(data)[1]
    return Run(algorithm, spec, initial_states(algorithm, each_seed((0,)), spec), 0, (0,))


def begin(policy, maze, episodes, seed):
    """One step of all episodes, of which the first counts as a success."""
    policy.reset(episodes)
    policy.act({"observation": np.zeros((episodes, 4), np.float32), "desired_goal": np.ones((episodes, 2), np.float32)})
    return SimpleNamespace(successes=np.arange(episodes)[None] == 0, returns=np.ones((1, episodes)))


@pytest.mark.slow
def test_retrieval_is_measured_and_written(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    retrieval = importlib.import_module("retrieval")
    small = {"horizon": 8, "stride": 16, "width": 8, "multipliers": (1,), "diffusion_steps": 3, "batch_size": 8}
    monkeypatch.setattr(retrieval, "PLANNER", replace(retrieval.PLANNER, **small))
    monkeypatch.setattr(retrieval.reverie, "evaluate", begin)
    monkeypatch.setattr(retrieval.reverie, "fit", untrained)
    monkeypatch.chdir(tmp_path)
    command = "--steps 3000 --calls 2 --stored 20 --rounds 1 --episodes 2 --out out"
    monkeypatch.setattr("sys.argv", ["retrieval.py", *command.split()])
    retrieval.main()
    rows = json.loads(Path("out/retrieval.json").read_text())["rows"]
    assert [(row["from"], row["calls"]) for row in rows] == [("noise", 2), ("the data's windows", 2), ("own plans", 2)]
    assert "| own plans | 2 |" in Path("out/retrieval.md").read_text()


@pytest.mark.slow
def test_joined_windows_are_those_of_the_policys_first_step(monkeypatch, tmp_path, capsys):
    """Blended, they are the way that the policy's carry has."""
    pytest.importorskip("ogbench")
    monkeypatch.syspath_prepend(str(FOLDER))
    joined = importlib.import_module("joined")
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.normal(size=(40, 2)), rng.uniform(-1, 1, (40, 2)), timeouts=np.arange(40) % 20 == 19)
    small = {"horizon": 4, "overlap": 2, "stride": 1, "width": 8, "multipliers": (1,), "diffusion_steps": 2}
    planner = CompDiffuser(**small, chunk_count=3, candidates=8, blend=0.0)
    run, seen = (
        untrained(planner, data),
        {"observation": np.zeros(2, np.float32), "desired_goal": np.ones(2, np.float32)},
    )
    policy = run.policy()
    windows, apart = joined.chosen(run, seen, policy.reset(seed=1))
    _, (_, plan) = policy.act(seen, policy.reset(seed=1))
    way = np.asarray(planner.states_of(run.spec, plan.rows[0]))
    np.testing.assert_allclose(windows[0, :2], way[:2], atol=1e-5)
    np.testing.assert_allclose(windows[2, 2:], way[-2:], atol=1e-5)
    between = windows[:-1, -2:] - windows[1:, :2]
    assert apart == pytest.approx(np.linalg.norm(between, axis=-1).mean())


def test_jumps_are_counted_inside_episodes_and_where_a_chunk_begins(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    delays = importlib.import_module("delays")
    actions = np.zeros((7, 2, 1))
    actions[5:, 0], actions[3:, 1] = 1.0, 5.0
    lengths = np.array([7, 3])  # the second's jump is after its end
    assert delays.jerk(actions, lengths, 4, 1) == (pytest.approx(1 / 8), 1.0)
    assert delays.jerk(actions, lengths, 4, 0) == (pytest.approx(1 / 8), 0.0)


def test_delays_are_measured_once_and_what_has_no_room_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    delays = importlib.import_module("delays")
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(
        rng.normal(size=(40, 2)), rng.uniform(-0.1, 0.1, (40, 2)), timeouts=np.arange(40) % 20 == 19
    )
    sizes = {"horizon": 4, "action_horizon": 2, "width": 8, "multipliers": (1,), "nfe": 2, "batch_size": 4}
    fit(FlowPolicy(**sizes), data, steps=1, out=tmp_path / "run", progress=False)
    monkeypatch.chdir(tmp_path)
    command = "run --env fork --delays 0 3 --executed 1 --action-horizon 2 --episodes 2 --max-steps 6 --out out/late"
    monkeypatch.setattr("sys.argv", ["delays.py", *command.split()])
    delays.main()
    text = Path("out/late.md").read_text()
    assert text.count("refused: horizon = 4 is too short") == 3
    assert (tmp_path / "out/late.png").exists()
    before = Path("out/late.json").read_text()
    monkeypatch.setattr(delays, "measured", None)  # nothing is measured again
    delays.main()
    assert Path("out/late.json").read_text() == before


def test_looks_change_the_masked_pixels_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    looks = importlib.import_module("looks")
    data = make_dataset("fork-images", steps=2 * 29)
    ground = (data.observations == 235).all(-1)
    for arm in (looks.one_colour, looks.true_looks):
        both = arm(data, None, 2)
        assert len(both.episodes) == 6
        np.testing.assert_array_equal(both.observations[: len(data)], data.observations)
        np.testing.assert_array_equal(both.actions, np.tile(data.actions, (3, 1)))
        for frames in np.split(both.observations[len(data) :], 2):
            np.testing.assert_array_equal(frames[~ground], data.observations[~ground])
            assert (frames != data.observations).any(-1)[ground].mean() > 0.9
        first, second = both.observations[len(data)], both.observations[2 * len(data)]
        assert (first != second).any(-1)[ground[0]].mean() > 0.9


@pytest.mark.slow
def test_looks_are_measured_and_drawn(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    looks = importlib.import_module("looks")
    monkeypatch.setattr(looks.reverie, "load_dataset", lambda name: make_dataset(name, steps=116))
    small = {"width": 8, "multipliers": (1,), "batch_size": 2, "nfe": 1}
    monkeypatch.setattr(looks, "SYNTHESIZER", replace(looks.SYNTHESIZER, **small))
    small = {"hidden": (8,), "image_widths": (8,), "keypoints": 2, "image_features": 4, "batch_size": 2}
    monkeypatch.setattr(looks, "POLICY", replace(looks.POLICY, **small))
    command = (
        f"--arms in-painted --frame-steps 1 --steps 1 --passes 1 --seeds 1 --episodes 2 --out {tmp_path / 'found'}"
    )
    looks.main(command.split())
    (row,) = json.loads((tmp_path / "found.json").read_text())
    assert row["rows"] > 200 and np.shape(row["fork-looks"]["by_seed"]) == (1,)
    assert "| in-painted |" in (tmp_path / "found.md").read_text()
    assert (tmp_path / "found.png").stat().st_size > 10_000


def test_the_side_of_a_path_is_where_it_passes_the_obstacle(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    ways = importlib.import_module("ways")
    left = np.array([[0.0, -1.0], [0.4, -0.2], [-0.5, 0.1], [0.3, 0.9]])
    assert ways.side(left) == -1
    assert ways.side(left * [-1, 1]) == 1
    assert ways.side(left[:2]) == 0
    panel = SimpleNamespace(plot=lambda *a, **o: None, add_patch=lambda patch: None)
    assert ways.draw(panel, [left, left * [-1, 1], left], np.array([True, True, False])) == "1 left, 1 right, 1 failed"
