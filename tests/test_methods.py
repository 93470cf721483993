"""What holds for every policy and baseline of the catalogue: trained, kept, loaded and acting, in the right units."""

import json
from dataclasses import fields

import jax
import numpy as np
import pytest

import reverie
from reverie.catalogue import ALGORITHMS, from_config, to_config
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.evaluation.rollout import RunPolicy
from reverie.learning.stages import stages_of

METHODS = {
    name: kind
    for name, kind in ALGORITHMS.items()
    if kind.role in ("policy", "baseline") and kind.__module__.startswith("reverie.")
}
NEEDLESS = [name for name, kind in METHODS.items() if not kind.needs]
NEEDS = [(name, need) for name, kind in METHODS.items() for need in kind.needs]

# By a field's name, so that a new method is small without a word here, unless it has sizes of its own.
TINY = {
    "hidden": (8,),
    "batch_size": 8,
    "candidates": 3,
    "diffusion_steps": 3,
    "width": 8,
    "blocks": 1,
    "widths": (8, 8),
    "averaged": 2,
    "backup_actions": 2,
    "sampled_actions": 2,
    "behaviour_updates": 1,
    "critic_updates": 1,
    "iterations": 1,
    "support": 2,
    "nfe": 2,
    "flow_steps": 2,
}
# Where that is not what the method is about.
CHANGED = {"sfbc": {"diffusion_steps": 0}, "qgpo": {"diffusion_steps": 0}}

LOW, HIGH = np.float32([-2.0, 0.1]), np.float32([6.0, 0.7])


def tiny(name, **changed):
    kind = METHODS[name]
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in (TINY | CHANGED.get(name, {}) | changed).items() if key in known})


def data(**changed) -> Dataset:
    """Eight episodes of five steps, of which every other ends with the task; nobody's actions are in [-1, 1]."""
    rng = np.random.default_rng(0)
    last = np.arange(40) % 5 == 4
    arrays = {
        "observations": rng.normal(size=(40, 3)),
        "actions": rng.uniform(LOW, HIGH, (40, 2)),
        "rewards": rng.normal(size=40),
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
        progress=False,
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

    policies = [each.policy(4) for each in (run, loaded)]
    first, again = (policy.act(observations[0], policy.reset(seed=1))[0] for policy in policies)
    assert first.shape == (2,)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name, need", NEEDS)
def test_data_without_what_a_method_needs_are_refused_in_a_sentence(name, need):
    # Where terminals are unknown every episode that ends was cut.
    lacking = data(**{need: None}, timeouts=np.arange(40) % 5 == 4)
    with pytest.raises(DataError, match=f"'this data set' has no {need}") as caught:
        reverie.fit(tiny(name), lacking, steps=1, progress=False)
    assert str(caught.value).endswith(".")


def test_imitation_needs_neither_rewards_nor_terminals():
    assert {"bc", "diffusion-bc"} <= set(NEEDLESS)
    for name in NEEDLESS:
        view, _ = tiny(name).prepare(data(rewards=None, terminals=None, timeouts=np.arange(40) % 5 == 4))
        assert len(view) == 40


@pytest.mark.parametrize("name", METHODS)
def test_what_changes_in_acting_are_fields_and_limits_are_of_fields(name):
    kind = METHODS[name]
    known = {field.name for field in fields(kind)}
    assert set(kind.acting_fields) <= known
    assert set(kind.limits) <= known
    for field in ("batch_size", "learning_rate"):
        with pytest.raises(ReverieError, match=f"{field} = -1, but it must be a"):
            tiny(name, **{field: -1})
