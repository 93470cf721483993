import json

import numpy as np
import pytest

import reverie
from reverie.baselines import BC
from reverie.cli import main
from reverie.data import Dataset
from reverie.errors import RunError
from reverie.evaluation import Latency, Scores, cards

RNG = np.random.default_rng(0)
ATTRIBUTES = {"name": "a | b", "environment": "reach", "noise": 0.1}
DATA = Dataset.from_arrays(
    RNG.normal(size=(40, 2)), RNG.uniform(-1, 1, (40, 1)), RNG.normal(size=40), timeouts=np.arange(40) % 10 == 9,
    action_low=-1.0, action_high=1.0, attributes=ATTRIBUTES,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "bc"
    made = reverie.fit(BC(hidden=(8,), batch_size=8, standardise=False), DATA, steps=4, seeds=2, seed=3, out=path,
                       progress=False)  # fmt: skip
    for returns in ([[9.0, 9.0], [9.0, 9.0]], [[1.0, 3.0], [5.0, 7.0]]):
        save(path, returns, made.name, made.step)
    save(path, [[0.0, 0.0], [0.0, 0.0]], made.name, step=2)
    save(path, [[0.0, 0.0], [0.0, 0.0]], "bc (stochastic=True)", made.step)
    return reverie.load(path)


def save(path, returns, policy, step):
    returns = np.array(returns)
    given = {"environment": "reach", "policy": policy, "seeds": (3, 4), "step": step, "seed": 0}
    ends, latency = np.zeros(returns.shape, bool), Latency(1.0, 1.0, 1.0, 4)
    Scores(**given, returns=returns, lengths=returns, terminated=ends, latency=latency, successes=returns > 4).save(
        path / "evaluation.json"
    )


def test_the_command_says_what_is_no_default():
    config = {
        "algorithm": {"name": "bc", "batch_size": 8, "hidden": [8], "standardise": True, "stochastic": False},
        "data": {"source": "d4rl:x.hdf5", "attributes": {}},
        "training": {"seeds": [3, 4], "steps": 40},
    }
    said = "reverie train bc --data d4rl:x.hdf5 --steps 40 --seeds 2 --seed 3 --batch-size 8 --hidden 8 --standardise"
    assert cards.command(config) == said
    begun = cards.command(config | {"initial": {"algorithm": "bc"}})
    assert begun.startswith("reverie train bc --data d4rl:x.hdf5 --initial RUN-OF-BC --steps 40")


def test_the_command_of_an_agent_that_learned_online():
    config = {
        "algorithm": {"name": "sac", "discount": 0.9},
        "data": {"source": None, "attributes": {"environment": "speed"}},
        "training": {"seeds": [0], "steps": 40},
        "online": {"steps": 40, "warmup": 20, "utd_ratio": 1.0},
        "synthesizer": {"name": "synther"},
    }
    said = "reverie online sac --env speed --steps 40 --warmup 20 --synthesizer synther --seeds 1 --discount 0.9"
    assert cards.command(config) == said


def test_the_command_line_writes_a_card_and_a_file_that_acts(run, tmp_path, capsys):
    out = tmp_path / "new" / "shared"
    assert main(["card", str(run.path), "--out", str(out), "--seed", "4", "--licence", "apache-2.0"]) == 0
    assert "README.md" in capsys.readouterr().out
    loaded, seen = reverie.load(out / "model.safetensors"), np.zeros(2, np.float32)
    acted = [policy.act(seen, policy.reset())[0] for policy in (loaded.policy(), run.policy(4))]
    np.testing.assert_array_equal(*acted)

    _, header, text = (out / "README.md").read_text().split("---\n", 2)
    found = {name: json.loads(value) for name, value in (line.split(": ", 1) for line in header.splitlines())}
    assert found["license"] == "apache-2.0" and "bc" in found["tags"]
    assert found["model-index"][0]["results"][0]["metrics"][0]["value"] == "6.00 +/- 1.00"
    assert "| reach | return | 6.0, [5.0, 7.0] | 4.0, [2.0, 6.0] | 2 |" in text
    assert "| reach | success % | 100.0, [100.0, 100.0] | 50.0, [0.0, 100.0] | 2 |" in text
    assert "4 updates; seed 4 of 3, 4" in text and "a \\| b" in text and "noise: 0.1" in text
    assert "reverie train bc --data SOURCE --steps 4 --seeds 2 --seed 3" in text


def test_evaluations_of_another_step_or_way_to_act_do_not_count(run):
    assert [each["returns"] for each in cards.scored(run)] == [[[1.0, 3.0], [5.0, 7.0]]]
    assert [each["policy"] for each in cards.scored(run.acting(stochastic=True))] == ["bc (stochastic=True)"]


def test_what_is_there_is_not_overwritten_and_a_file_is_no_run_with_a_training(run, tmp_path):
    cards.write(run, tmp_path / "shared")
    with pytest.raises(RunError, match=r"README.md' exists already"):
        cards.write(run, tmp_path / "shared")
    with pytest.raises(RunError, match="is of one file"):
        cards.write(reverie.load(tmp_path / "shared" / "model.safetensors"), tmp_path / "again")
    with pytest.raises(RunError, match="Seed 9"):
        cards.write(run, tmp_path / "other", seed=9)
