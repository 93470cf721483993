"""A run as one file: it acts as the run does, bit for bit, and has nothing that only training reads."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tests.test_methods import OURS, VECTORS, data, tiny
from tiny_algorithm import TinyBC, TinyExplorer, synthetic

import reverie
from reverie.baselines import SAC
from reverie.cli import main
from reverie.data import Dataset
from reverie.errors import RunError
from reverie.protocols import Actor
from reverie.synthesizers.chunked import Chunked
from reverie.training import Run, fit_online
from reverie.training.loop import state_shapes
from reverie.training.reads import names_of, reads

STATES = np.random.default_rng(1).normal(size=(2, 40, 4))
DATA = data(observations=STATES[0], next_observations=STATES[1])


DEFINED = ("reset", "act", "choose", "computed", "chunks", "plan", "sample", "denoise")


def way(name) -> tuple:
    """Where what acts, or makes data, is defined."""
    return tuple(getattr(getattr(OURS[name], each, None), "__qualname__", "") for each in DEFINED)


DOING = [name for name in VECTORS if hasattr(OURS[name], "act") or hasattr(OURS[name], "chunks")]
WAYS = sorted({way(name): name for name in reversed(DOING)}.values())
"""The first method of each way to act or to make data."""


def run_of(algorithm, seeds=(3, 4), data=DATA) -> Run:
    """A run whose states are drawn at random, so that nothing of them is zero."""
    rng, spec = np.random.default_rng(2), algorithm.prepare(data)[1]

    def drawn(leaf):
        numbers = 0.1 * rng.normal(size=leaf.shape)
        return jnp.asarray(numbers.astype(leaf.dtype))

    states = jax.tree.map(drawn, state_shapes(algorithm, spec, seeds))
    return Run(algorithm, spec, states, 7, seeds, data=dict(data.attributes))


def stored(path) -> dict:
    """The state's arrays in a file, by their places in the state."""
    with safe_open(path, "numpy") as file:
        return {name.split("/", 2)[2]: file.get_tensor(name) for name in file.keys() if name.startswith("state/")}  # noqa: SIM118


def action(run, seed):
    """Several of an episode, as the carry goes on; many, as those of some methods are at their bounds mostly."""
    policy = run.policy(seed)
    carry, found = policy.reset(seed=5), []
    for seen in STATES[0].astype(np.float32)[:20]:
        observation = {"observation": seen, "desired_goal": seen[:2]} if getattr(run.algorithm, "goals", 0) else seen
        done, carry = policy.act(observation, carry, {"reward": 0.5})
        found.append(done)
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:40 transitions")
@pytest.mark.parametrize("name", WAYS)
def test_what_is_read_acts_or_generates_as_the_run(name, tmp_path):
    free = {"threshold": 1e6, "nearness": 1e3, "deviation": 1e9, "starts": 1.0}  # so that rows and bridges are kept
    run = run_of(tiny(name, width=16, multipliers=(2,), chunk=6, kp=0.1, kd=0.1, guidance_scale=0.1, **free))
    run.export(tmp_path / "run", seed=4)
    loaded = reverie.load(tmp_path / "run")
    assert (loaded.algorithm, loaded.step, loaded.seeds) == (run.algorithm, 7, (4,))
    assert len(loaded.kept) < len(jax.tree.leaves(run.states))
    assert not [place for place in stored(tmp_path / "run") if "moments" in place]
    if isinstance(run.algorithm, Actor):
        expected, found = action(run, 4), action(loaded, 4)
        assert np.isfinite(expected).all() and not np.array_equal(expected, action(run, 3))
        np.testing.assert_array_equal(found, expected)
    else:
        expected, found = (each.generate(8, 4, progress=False).arrays() for each in (run, loaded))
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])


def test_an_agent_s_file_has_its_actor_alone_and_is_small(tmp_path):
    run = run_of(SAC(hidden=(128, 128)))
    run.export(tmp_path / "agent", returns=np.float32(2.5), command="reverie online sac")
    kept, whole = stored(tmp_path / "agent"), run.state().actor.policy.params
    assert len(kept) == len(jax.tree.leaves(whole)) == 6
    assert all(place.startswith("actor.policy.params.net.layers[") for place in kept)
    for array, leaf in zip(kept.values(), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(array, leaf)
    numbers = sum(array.size for array in kept.values())
    assert (tmp_path / "agent").stat().st_size < 4 * numbers + 4000
    loaded = reverie.load(tmp_path / "agent")
    assert loaded.about == {"returns": 2.5, "command": "reverie online sac"}
    assert loaded.data == run.data and loaded.path is None and loaded.seeds == (3,)
    assert not np.any([leaf.any() for leaf in jax.tree.leaves(loaded.states.critic)])


def test_what_acting_reads_is_looked_for_again_when_it_changes(tmp_path):
    run = run_of(tiny("diffusion-ql"))
    assert [each for each in names_of(run.algorithm, run.spec) if each.startswith("critic.target")]
    run.export(tmp_path / "many")
    assert {place.split(".")[0] for place in stored(tmp_path / "many")} == {"actor", "critic"}
    run.acting(candidates=1).export(tmp_path / "one")
    assert {place.split(".")[0] for place in stored(tmp_path / "one")} == {"actor"}

    one = reverie.load(tmp_path / "one")
    assert one.name == "diffusion-ql (candidates=1)"
    np.testing.assert_array_equal(action(one, 3), action(run.acting(candidates=1), 3))
    assert one.acting(nfe=1).algorithm.nfe == 1
    with pytest.raises(RunError, match=r"with candidates=5 reads critic\.target\S+ and 5 arrays more, which the file"):
        one.acting(candidates=5)
    # What has more than it needs can be written again, with less.
    many = reverie.load(tmp_path / "many").acting(candidates=1)
    many.export(tmp_path / "again")
    assert stored(tmp_path / "again").keys() == stored(tmp_path / "one").keys()


@dataclass(frozen=True)
class Looping(TinyBC):
    """Hands its whole state on to an inner program, a loop and a branch, which read a part of it each."""

    name: ClassVar[str] = "looping"

    def act(self, state, spec, observation, carry, feedback, key):
        inner = jax.jit(lambda state: jnp.tanh(observation @ state.ema[0][0]))(state)
        turns = jax.lax.scan(lambda c, _: ((c[0] + c[1].ema[0][1], c[1]), None), (inner, state), length=2)[0][0]
        w = jax.lax.cond(carry[0] > 0, lambda s: s.ema[1][0], lambda s: 2 * s.ema[1][0], state)
        return turns @ w, carry


def test_programs_within_programs_are_looked_into():
    run = run_of(Looping(), data=synthetic())
    read = [names_of(run.algorithm, run.spec)[number] for number in sorted(reads(run.algorithm, run.spec))]
    assert read == ["ema[0][0]", "ema[0][1]", "ema[1][0]"]
    # The bias of the last layer is what TinyBC itself reads beside these.
    assert len(reads(TinyBC(), run.spec)) == 4


@dataclass(frozen=True)
class OnHost(Chunked):
    """Says nothing of what it reads."""

    name: ClassVar[str] = "on-host"

    def prepare(self, data, spec=None):
        return TinyBC().prepare(data, spec)

    def init(self, key, spec):
        return {"a": jnp.zeros(2), "b": jnp.zeros(3)}

    def update(self, state, batch, key):
        return state, {}


def test_all_is_kept_of_a_synthesizer_that_does_not_say_what_it_computes():
    run = run_of(OnHost())
    assert reads(run.algorithm, run.spec) == {0, 1}


def test_half_takes_half_and_comes_back_as_float32(tmp_path):
    run = run_of(SAC(hidden=(128, 128)))
    run.export(tmp_path / "whole"), run.export(tmp_path / "half", half=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    params = reverie.load(tmp_path / "half").state().actor.policy.params
    for found, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(run.state().actor.policy.params), strict=True):
        np.testing.assert_array_equal(found, np.asarray(leaf).astype(np.float16).astype(np.float32))
        assert found.dtype == np.float32
    large = replace(run, states=jax.tree.map(lambda leaf: leaf + jnp.asarray(1e5, leaf.dtype), run.states))
    with pytest.raises(RunError, match=r"actor\.policy\S+ has a number beyond 65504"):
        large.export(tmp_path / "large", half=True)
    assert not (tmp_path / "large").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Runs of TinyBC and of TinyExplorer, as files."""
    folder = tmp_path_factory.mktemp("files")
    run_of(TinyBC(), data=synthetic()).export(folder / "bc")
    run_of(TinyExplorer(), data=synthetic()).export(folder / "explorer")
    return folder


def test_no_training_begins_from_a_file(files, tmp_path):
    with pytest.raises(RunError, match="tiny-bc to begin from is of an exported file, which has only what acting"):
        reverie.fit(TinyBC(), synthetic(), steps=1, initial=reverie.load(files / "bc"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match="tiny-explorer to begin from is of an exported file"):
        fit_online(TinyExplorer(), "Pendulum-v1", steps=100, initial=reverie.load(files / "explorer"))


def test_a_file_that_exists_stays(files):
    before = (files / "bc").read_bytes()
    with pytest.raises(RunError, match="bc' exists already; give another name"):
        run_of(TinyBC(), data=synthetic()).export(files / "bc")
    assert (files / "bc").read_bytes() == before


def test_only_a_trained_seed_and_plain_values_are_written(tmp_path):
    run = run_of(TinyBC(), data=synthetic())
    with pytest.raises(RunError, match=r"Seed 9 is not in this run; it has \[3, 4\]"):
        run.export(tmp_path / "file", seed=9)
    with pytest.raises(RunError, match=r"holds plain values beside its arrays, and \{1\} is none"):
        run.export(tmp_path / "file", scores={1})
    assert not any(tmp_path.iterdir())


def changed(path, target, **entries):
    """The file with other entries of its header."""
    with safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["reverie"])
    save_file(load_file(path), target, {"reverie": json.dumps(header | entries)})


@pytest.mark.parametrize(
    "entries, sentence",
    [
        ({"format": 2, "versions": {"reverie": "9.0"}}, "was written by reverie 9.0, in a format that"),
        (
            {"algorithm": {"name": "tiny-bc", "pace": 1}, "versions": {"reverie": "9.0"}},
            "written by reverie 9.0, where tiny-bc had a field 'pace' that it lacks",
        ),
        ({"algorithm": {"name": "nowhere.mine:Method"}}, "'nowhere.mine:Method' cannot be imported"),
        (
            {"algorithm": {"name": "tiny-bc", "widths": [8]}},
            r"holds an array float32\[3, 16\] where .* has float32\[3, 8\]",
        ),
        ({"algorithm": {"name": "tiny-bc", "widths": [8, 8]}}, "of a state of 18 arrays where tiny-bc has 26"),
        ({"spec": {}}, r"has no complete specification of the run's data \('normalisers'\)"),
    ],
)
def test_a_file_that_cannot_be_understood_says_why(files, tmp_path, entries, sentence):
    changed(files / "bc", tmp_path / "other", **entries)
    with pytest.raises(RunError, match=sentence):
        reverie.load(tmp_path / "other")


def test_a_file_of_another_kind_is_refused(files, tmp_path):
    save_file({"x": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(RunError, match="is of safetensors and holds no run; give one that `reverie export` wrote"):
        reverie.load(tmp_path / "other")
    (tmp_path / "text").write_text("no run")
    (tmp_path / "cut").write_bytes((files / "bc").read_bytes()[:-10])
    for name in ("text", "cut"):
        with pytest.raises(RunError, match=f"{name}' is no file of a run, or damaged"):
            reverie.load(tmp_path / name)


def pendulum() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        rng.normal(size=(160, 3)), rng.uniform(-1, 1, (160, 1)), rng.normal(size=160),
        np.zeros(160), np.arange(160) % 20 == 19, next_observations=rng.normal(size=(160, 3)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:160 transitions")
def test_the_command_line_takes_the_file_for_the_folder(tmp_path, capsys):
    source, file = f"d4rl:{tmp_path}/pendulum.hdf5", tmp_path / "bc.safetensors"
    pendulum().save(source)
    algorithm = tiny("bc")
    reverie.fit(algorithm, pendulum(), steps=2, out=tmp_path / "run", progress=False)

    def answer(*arguments):
        status, said = main(list(map(str, arguments))), capsys.readouterr()
        return status, said.out + said.err

    status, said = answer(
        "export", tmp_path / "run", "--out", file, "--about", "minutes=2", "--acting", "stochastic=true"
    )
    assert (status, reverie.load(file).about) == (0, {"minutes": 2})
    assert f"bc (stochastic=True), 2 kB in {file}" in said
    for run in (file, tmp_path / "run"):
        status, said = answer("eval", run, "--env", "Pendulum-v1", "--episodes", 2, "--max-steps", 2)
        assert status == 0 and "95 % over" in said
    assert [each.name for each in tmp_path.glob("evaluation.json")] == []
    run_of(tiny("synther", width=16, chunk=6), data=pendulum()).export(tmp_path / "synther")
    assert answer("generate", tmp_path / "synther", "-n", 8, "--out", f"d4rl:{tmp_path}/made.hdf5")[0] == 0

    for arguments, sentence in (
        (["export", tmp_path / "run", "--out", file], "exists already; give another name"),
        (["plot", file], "is of one file, which has no metrics"),
        (["train", "--resume", file], "is a file; give the folder of a run"),
        (["train", "bc", "--data", source, "--steps", 1, "--initial", file, "--out", tmp_path / "o"], "exported file"),
    ):
        status, said = answer(*arguments)
        assert (status, sentence in said) == (2, True), said
