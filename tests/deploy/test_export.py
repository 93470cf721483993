"""An exported acting function gives the run's actions, by whatever runs it, and says what it is."""

import ast
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from safetensors import safe_open
from tests.test_methods import data, tiny
from tests.training.test_release import STATES, run_of
from tiny_algorithm import TinyBC, synthetic

from reverie.cli import main
from reverie.deploy import acting_function, export, exported_policy
from reverie.deploy.exported_policy import ExportedPolicy
from reverie.errors import RunError
from reverie.planners.composed import compose_runs
from reverie.planners.shielded import shield_run

ONNX = "onnxruntime jax2onnx"
SMALL = {"width": 16, "multipliers": (2,), "kp": 0.1, "kd": 0.1}
WAYS = ("bc", "fql", "ibc", "decision-transformer", "diffusion-bc")
"""No carry; a key; chunks by a loop and a branch; feedback, a history and a wish; a chain."""


def actions(run, path):
    """Of twelve steps by the run, and by the file."""
    policy, exported = run.policy(4), ExportedPolicy(path)
    exported.reset(seed=5)
    carry, found = policy.reset(seed=5), []
    brought = {"reward": 0.5} if exported.takes("feedback/reward") else {}
    for seen in STATES[0].astype(np.float32)[:12]:
        action, carry = policy.act(seen, carry, {"reward": 0.5})
        found.append((action, exported.act(seen, **brought)))
    return np.swapaxes(found, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_onnx_acts_as_the_run(name, tmp_path):
    for package in ONNX.split():
        pytest.importorskip(package, reason="export to ONNX needs pip install 'reverie[onnx]'")
    run = run_of(tiny(name, **SMALL))
    export(run, tmp_path / "policy.onnx", "onnx", seed=4)
    expected, found = actions(run, tmp_path / "policy.onnx")
    assert not np.array_equal(expected[0], expected[1])
    # In units of the range of actions, which is 2 in network units.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fql", "decision-transformer"])
def test_stablehlo_acts_as_the_run(name, tmp_path):
    run = run_of(tiny(name))
    export(run, tmp_path / "policy.stablehlo", "stablehlo", seed=4)
    expected, found = actions(run, tmp_path / "policy.stablehlo")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # A new episode with the same seed is the same, and another seed's another where a key is read.
    policy = ExportedPolicy(tmp_path / "policy.stablehlo")
    firsts = []
    for seed in (5, 5, 6):
        policy.reset(seed)
        firsts.append(policy.act(STATES[0][0]))
    np.testing.assert_array_equal(firsts[0], firsts[1])
    assert np.array_equal(firsts[0], firsts[2]) == (name == "decision-transformer")


TOGETHER = {
    "shielded": lambda run: shield_run(run, ["upper:0"], **{"upper:0": np.float32([[-0.6]])}),
    "composed": lambda run: compose_runs([run, run], [1.0, 0.5]),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The start or the goal breaks a barrier")
@pytest.mark.parametrize("name", TOGETHER)
def test_planners_that_others_are_made_of_act_from_a_file(name, tmp_path):
    run = run_of(tiny("decision-diffuser", nfe=1))
    other = TOGETHER[name](run)
    export(other, tmp_path / name, "stablehlo", seed=4)
    expected, found = actions(other, tmp_path / name)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(run.policy(4).act(STATES[0][0], run.policy(4).reset(5))[0], found[0])


def test_what_no_action_depends_on_is_left_out():
    function = acting_function(run_of(tiny("bc")), 4)
    assert list(function.inputs) == ["observation"] and function.reset == {}
    assert list(function.about["outputs"]) == ["action"]
    noisy = acting_function(run_of(tiny("fql")), 4)
    assert list(noisy.inputs) == ["observation", "key"]
    assert noisy.about["carry"] == {"key": "new_key"}


@pytest.mark.filterwarnings("ignore:target_return")
def test_a_wish_is_in_the_carry_that_is_reset_and_feedback_is_asked_for():
    run = run_of(tiny("decision-transformer")).acting(target_return=3.0)
    function = acting_function(run, 4)
    assert "feedback/reward" in function.inputs and "feedback/cost" not in function.inputs
    assert 3.0 in [float(x[0]) for x in function.reset.values() if x.shape == (1,)]
    assert function.about["asked"] == {"target_return": 3.0}
    assert function.about["inputs"]["observation"]["shape"] == [4]
    assert (function.about["seed"], function.about["action_high"]) == (4, pytest.approx([6.0, 0.7]))
    json.dumps(function.about)


@dataclass(frozen=True)
class AsksTheHost(TinyBC):
    """Of which no format can hold the whole."""

    name: ClassVar[str] = "asks-the-host"

    def act(self, state, spec, observation, carry, feedback, key):
        action, carry = super().act(state, spec, observation, carry, feedback, key)
        return jax.pure_callback(np.abs, jax.ShapeDtypeStruct(action.shape, action.dtype), action), carry


@pytest.fixture(scope="module")
def small():
    return run_of(TinyBC(), data=synthetic())


def test_a_method_that_a_format_cannot_hold_is_named_with_the_reason(tmp_path):
    run = run_of(AsksTheHost(), data=synthetic())
    with pytest.raises(RunError, match=r"^asks-the-host cannot be exported to stablehlo \(.*callback.*\)\.$"):
        export(run, tmp_path / "policy", "stablehlo")
    for package in ONNX.split():
        pytest.importorskip(package)
    with pytest.raises(RunError, match=r"^asks-the-host cannot be exported to onnx \(.*pure_callback.*stablehlo\.$"):
        export(run, tmp_path / "policy", "onnx")
    assert not any(tmp_path.iterdir())


def test_errors_are_a_sentence(small, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="'tflite' is no format of an exported run; choose one of safetensors, npz"):
        export(small, tmp_path / "a", "tflite")
    with pytest.raises(RunError, match="half stores arrays as float16, and stablehlo computes with them"):
        export(small, tmp_path / "a", "stablehlo", half=True)
    with pytest.raises(RunError, match="Seed 9 is not in this run"):
        export(small, tmp_path / "a", "stablehlo", seed=9)
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(RunError, match=r"onnx needs a package that is missing \(.*\); pip install 'reverie\[onnx\]'\."):
        export(small, tmp_path / "a", "onnx")
    (tmp_path / "a.json").write_text("mine")
    for name, to in (("a.json", "npz"), ("a", "stablehlo")):
        with pytest.raises(RunError, match=r"a\.json' exists already; give another name"):
            export(small, tmp_path / name, to)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(RunError, match="generates data and does not act"):
        acting_function(run_of(tiny("synther", chunk=6), data=data()))


def test_npz_has_the_arrays_of_safetensors(small, tmp_path):
    small.export(tmp_path / "a.safetensors", note="x")
    export(small, tmp_path / "a.npz", "npz", note="x")
    with safe_open(tmp_path / "a.safetensors", "numpy") as file, np.load(tmp_path / "a.npz") as other:
        assert {*file.keys(), "reverie"} == set(other.files)
        assert file.metadata()["reverie"] == str(other["reverie"])
        for name in file.keys():  # noqa: SIM118
            np.testing.assert_array_equal(other[name], file.get_tensor(name))


def test_the_loader_can_be_copied_and_says_what_it_lacks(small, tmp_path):
    source = Path(exported_policy.__file__).read_text()
    lines = list(ast.walk(ast.parse(source)))
    imported = {each.module for each in lines if isinstance(each, ast.ImportFrom)}
    imported |= {name.name for each in lines if isinstance(each, ast.Import) for name in each.names}
    assert imported == {"base64", "json", "sys", "pathlib", "numpy", "onnxruntime", "jax"}
    export(small, tmp_path / "policy", "stablehlo")
    policy = ExportedPolicy(tmp_path / "policy")
    with pytest.raises(ValueError, match=r"'observation' has shape \[2\]; the policy takes \[3\]"):
        policy.act(np.zeros(2))
    with pytest.raises(ValueError, match="'observation' is missing; the policy takes observation"):
        policy.act({"camera": np.zeros(3)})
    with pytest.raises(ValueError, match="'feedback/reward' is nothing that the policy takes"):
        policy.act(np.zeros(3), reward=1.0)


def test_the_command_line_exports(small, tmp_path, capsys):
    small.export(tmp_path / "run")
    status = main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "policy"), "--to", "stablehlo"])
    assert (status, "tiny-bc" in capsys.readouterr().out) == (0, True)
    assert json.loads((tmp_path / "policy.json").read_text())["method"] == "tiny-bc"
