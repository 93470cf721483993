"""What holds for every method of the catalogue: what it can do, by its role, and what its settings say of themselves.

Policies and baselines are also trained, kept, loaded, and act in the right units.
"""

import inspect
import json
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache

import jax
import numpy as np
import pytest

import reverie
from reverie.catalogue import ALGORITHMS, from_config, to_config
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError, RunError
from reverie.evaluation.rollout import RunPolicy
from reverie.learning.stages import stages_of
from reverie.protocols import Actor, Explorer, Learner, Staged, Synthesizer
from reverie.settings import acting_fields, annotations
from reverie.training.loop import written_columns

OURS = {name: kind for name, kind in ALGORITHMS.items() if kind.__module__.startswith("reverie.")}
ON_POLICY = [name for name, kind in OURS.items() if hasattr(kind, "recorded")]
ONLINE = [name for name, kind in OURS.items() if written_columns(kind)]
"""What learns online only, from a replay."""
METHODS = {
    name: kind
    for name, kind in OURS.items()
    if kind.role in ("policy", "imitation", "value", "dynamics", "baseline") and name not in ON_POLICY + ONLINE
}
VECTORS = [name for name, kind in OURS.items() if "images" not in kind.needs and kind.role != "simulation"]
"""A simulation's rewards are outcomes from 0 to 1, and its actions configurations: it has tests of its own."""
NEEDLESS = [name for name, kind in METHODS.items() if not kind.needs]
NEEDS = [(name, need) for name, kind in METHODS.items() for need in kind.needs]

# By a field's name, so that a new method is small without a word here, unless it has sizes of its own.
TINY = {
    "hidden": (8,),
    "critic_hidden": (8,),
    "policy_hidden": (8,),
    "horizon": 4,
    "multipliers": (1,),
    "batch_size": 8,
    "candidates": 3,
    "diffusion_steps": 3,
    "width": 8,
    "blocks": 1,
    "widths": (8, 8),
    "averaged_actions": 2,
    "backup_actions": 2,
    "sampled_actions": 2,
    "uniform_actions": 1,
    "particles": 2,
    "target_kl": 0.5,
    "action_steps": 2,
    "behaviour_updates": 1,
    "code_updates": 0,
    "video_updates": 0,
    "critic_updates": 1,
    "iterations": 1,
    "support": 2,
    "actor_hidden": (8,),
    "tuned_steps": 2,
    "nfe": 2,
    "flow_steps": 2,
    "context": 3,
    "depth": 1,
    "encoder_depth": 1,
    "critic_depth": 1,
    "heads": 1,
    "stride": 1,
    "overlap": 1,
    "jump": 1,
    "low_multipliers": (1, 2),
    "observation_horizon": 4,
    "action_horizon": 1,
    "chunk_size": 2,
    "prompt_steps": 3,
    "shortest_bridge": 1,
    "longest_bridge": 2,
    "rows_left": 0,
    "ensemble_hidden": (8,),
    "noise_hidden": (8,),
    "epochs": 1,
    "draws": 2,
    "future_nfe": 2,
    "imagined": 4,
    "steps_in_a_row": 4,
    "latent_size": 2,
    "model_hidden": (8,),
}

ALONE = ("bc", "decision-transformer", "fql", "flow-policy")
"""Whose seeds act alone too, which is another program to compile: one of each way to remember."""

LOW, HIGH = np.float32([-2.0, 0.1]), np.float32([6.0, 0.7])


def tiny(name, **changed):
    kind = OURS[name]
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in (TINY | changed).items() if key in known})


@lru_cache
def begun(name):
    """The run that a method of that name begins from; None for most."""
    if not hasattr(OURS[name], "begins_from"):
        return None
    return reverie.fit(tiny("diffusion-bc"), data(), steps=1, progress=False)


def data(sentences=("reach",), tasks=True, **changed) -> Dataset:
    """Eight episodes of five steps, of which every other ends with the task; nobody's actions are in [-1, 1]."""
    if sentences and tasks:
        changed = {"infos": {"task": np.zeros(40, np.int32)}, "attributes": {"tasks": list(sentences)}} | changed
    rng = np.random.default_rng(0)
    last = np.arange(40) % 5 == 4
    arrays = {
        "observations": rng.normal(size=(40, 3)),
        "actions": rng.uniform(LOW, HIGH, (40, 2)),
        "rewards": rng.normal(size=40),
        "costs": np.arange(40) % 3 == 0,
        "terminals": last & (np.arange(40) % 10 == 9),
        "timeouts": last & (np.arange(40) % 10 == 4),
        "action_low": LOW,
        "action_high": HIGH,
    }
    return Dataset.from_arrays(**arrays | changed)


@pytest.mark.parametrize("name", METHODS)
def test_trained_kept_loaded_and_acting(name, tmp_path):
    algorithm = tiny(name)
    assert from_config(json.loads(json.dumps(to_config(algorithm)))) == algorithm
    run = reverie.fit(
        algorithm, data(), steps=max(2, len(stages_of(algorithm))), seeds=2, seed=3, out=tmp_path / "run",
        initial=begun(name), progress=False,
    )  # fmt: skip
    loaded = reverie.load(tmp_path / "run")
    assert loaded.algorithm == algorithm
    assert loaded.seeds == (3, 4)
    for kept, leaf in zip(jax.tree.leaves(loaded.states), jax.tree.leaves(run.states), strict=True):
        np.testing.assert_array_equal(kept, leaf)
        assert kept.dtype == leaf.dtype

    together = RunPolicy(loaded)
    together.reset(6)
    observations = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    actions = together.act(observations)
    assert actions.shape == (6, 2)
    assert np.isfinite(actions).all()
    assert (actions >= LOW - 1e-6).all()
    assert (actions <= HIGH + 1e-6).all()
    assert not np.array_equal(actions[:3], actions[3:])

    if name not in ALONE:
        return
    policies = [each.policy(4) for each in (run, loaded)]
    first, again = (policy.act(observations[0], policy.reset(seed=1))[0] for policy in policies)
    assert first.shape == (2,)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ONLINE)
def test_trained_online_kept_loaded_and_acting(name, tmp_path):
    settings = {"warmup": 20, "update_interval": 10, "log_every": 10, "utd_ratio": 0.2, "progress": False}
    reverie.fit_online(tiny(name), "speed", steps=40, seeds=2, out=tmp_path / "run", **settings)
    loaded = reverie.load(tmp_path / "run")
    assert loaded.algorithm == tiny(name)
    together = RunPolicy(loaded)
    together.reset(6)
    actions = together.act(np.random.default_rng(1).uniform(size=(6, 2)).astype(np.float32))
    assert (np.abs(actions) <= 1).all()
    with pytest.raises(RunError, match="train it online"):
        reverie.fit(tiny(name), data(), steps=1, progress=False)


@pytest.mark.parametrize("name, need", NEEDS)
def test_data_without_what_a_method_needs_are_refused_in_a_sentence(name, need):
    # Where terminals are unknown every episode that ends was cut.
    lacking = data(**{need: None}, timeouts=np.arange(40) % 5 == 4)
    with pytest.raises(DataError, match=f"'this data set' has no {need}") as caught:
        reverie.fit(tiny(name), lacking, steps=1, initial=begun(name), progress=False)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("name", ON_POLICY)
def test_methods_that_learn_from_their_own_steps_refuse_data_in_a_sentence(name):
    with pytest.raises(ReverieError, match=f"{name} learns from what its own policy does, not from data; .*online"):
        reverie.fit(tiny(name), data(), steps=1, progress=False)


def test_imitation_needs_neither_rewards_nor_terminals():
    assert {"bc", "diffusion-bc"} <= set(NEEDLESS)
    for name in NEEDLESS:
        view, _ = tiny(name).prepare(data(rewards=None, terminals=None, timeouts=np.arange(40) % 5 == 4))
        assert len(view) == 40


CALLED = {
    Actor: {
        "reset": ["spec", "n", "wishes"],
        "act": ["state", "spec", "observation", "carry", "feedback", "key"],
    },
    Learner: {"prepare": ["data", "spec"], "init": ["key", "spec"], "update": ["state", "batch", "key"]},
    Staged: {"prepare": ["data", "spec"], "init": ["key", "spec"]},
    Synthesizer: {"chunks": ["state", "spec", "key", "n", "start"]},
}
"""The functions of a protocol, and their arguments; isinstance sees no more than their names."""
CAN = {role: {Actor} for role in ("policy", "imitation", "value", "dynamics", "baseline", "planner")}
CAN |= {"synthesizer": {Synthesizer}, "reward": set(), "simulation": set()}


@pytest.mark.parametrize("name", OURS)
def test_a_method_can_do_what_its_role_says_and_no_other_s(name):
    algorithm = tiny(name)
    can = {kind for kind in CALLED if isinstance(algorithm, kind)}
    assert can - {Learner, Staged} == CAN[algorithm.role]
    assert len(can & {Learner, Staged}) == 1
    for protocol in can:
        for function, arguments in CALLED[protocol].items():
            assert list(inspect.signature(getattr(algorithm, function)).parameters) == arguments, function


def test_an_explorer_is_an_actor_of_the_same_networks():
    """Which differs from itself in what may be changed in acting, and in nothing else."""
    explorers = [tiny(name) for name in OURS if isinstance(tiny(name), Explorer)]
    assert tiny("sac") in explorers
    for algorithm in explorers:
        exploring = algorithm.exploring
        assert isinstance(exploring, Actor)
        changed = {name: getattr(exploring, name) for name in acting_fields(algorithm)}
        assert exploring == replace(algorithm, **changed)
    assert tiny("sac").exploring != tiny("sac")


@pytest.mark.parametrize("name", OURS)
def test_fields_say_what_changes_in_acting_and_which_values_they_take(name):
    kind = OURS[name]
    known = {field.name for field in fields(kind)}
    said = annotations(kind)
    assert {each.name for each in said} == known
    assert acting_fields(kind) == tuple(each.name for each in said if each.acting)
    for each in said:
        if each.limit:
            low = each.limit.low - 1
            with pytest.raises(ReverieError, match=f"{each.name} = {low}, but it must be a"):
                kind(**{each.name: low})
        if each.choices:
            with pytest.raises(ReverieError, match=f"{each.name} 'none such' is unknown; choose one of"):
                kind(**{each.name: "none such"})
    for field in {"batch_size", "learning_rate"} & known:
        with pytest.raises(ReverieError, match=f"{field} = -1, but it must be a"):
            tiny(name, **{field: -1})


@pytest.mark.parametrize("name", OURS)
def test_a_field_with_another_default_remains_what_it_was(name):
    """What is limited, a choice or of acting in a base class is so in the method: an annotation is easily lost."""
    mine = {each.name: each for each in annotations(OURS[name])}
    for base in OURS[name].__mro__[1:]:
        for theirs in annotations(base) if is_dataclass(base) else ():
            each = mine[theirs.name]
            assert each.acting or not theirs.acting, each.name
            assert each.choices or not theirs.choices, each.name
            assert each.limit or not theirs.limit, each.name


def moved(**changed) -> Dataset:
    """Data of other units: everything is twice as large and further on."""
    first = data(**changed)
    arrays = {key: getattr(first, key) for key in ("observations", "actions", "rewards", "next_observations")}
    arrays = {key: None if each is None else 2 * each + 1 for key, each in arrays.items()}
    return replace(first, **arrays, action_low=2 * LOW + 1, action_high=2 * HIGH + 1)


@pytest.mark.filterwarnings("ignore:40 transitions")
@pytest.mark.parametrize("name", VECTORS)
def test_a_specification_that_is_given_is_used(name):
    """Units are those of the first data, so that the second's rows are further on; without it they are their own."""
    states = np.random.default_rng(1).normal(size=(2, 40, 4))
    given = {"observations": states[0], "next_observations": states[1]}
    algorithm = tiny(name)
    first, spec = algorithm.prepare(data(**given))
    view, again = algorithm.prepare(moved(**given), spec)
    for mine, theirs in zip(jax.tree.leaves(again.normalisers), jax.tree.leaves(spec.normalisers), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(again.action_low, LOW)
    own, other = algorithm.prepare(moved(**given))
    np.testing.assert_array_equal(other.action_low, 2 * LOW + 1)

    def actions(view):
        return getattr(view.rows, "rows", view.rows)["actions"]

    np.testing.assert_allclose(actions(own), actions(first), atol=1e-4)
    assert np.abs(np.asarray(actions(view)) - np.asarray(actions(own))).max() > 0.1


TWO_WIDTHS = [
    name for name, kind in OURS.items() if {"hidden", "critic_hidden"} <= {each.name for each in fields(kind)}
]


@pytest.mark.parametrize("name", TWO_WIDTHS)
def test_a_critic_s_widths_do_not_follow_the_actor_s(name):
    def shapes(**widths):
        """Of the critics' arrays, of rewards and of costs, and of all others'."""
        algorithm = tiny(name, **widths)
        state = jax.eval_shape(algorithm.init, jax.random.key(0), algorithm.prepare(data())[1])
        parts = {field.name: getattr(state, field.name) for field in fields(state)}
        critics = {key: parts.pop(key) for key in list(parts) if key.endswith("critic")}
        return [[getattr(leaf, "shape", leaf) for leaf in jax.tree.leaves(part)] for part in (critics, parts)]

    critic, others = shapes()
    wide_actor, wide_critic = shapes(hidden=(16,)), shapes(critic_hidden=(16,))
    assert wide_actor[0] == critic
    assert wide_actor[1] != others
    assert wide_critic[0] != critic
    assert wide_critic[1] == others


def test_methods_with_an_actor_of_their_own_have_two_widths():
    assert {"awac", "cql", "diffusion-ql", "fql", "iql", "one-step", "sac", "td3-bc", "xql"} <= set(TWO_WIDTHS)
