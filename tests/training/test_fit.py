"""fit: what the result depends on, and what it does not."""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_algorithm import TinyBC, leaves, synthetic

import reverie
from reverie.catalogue import from_config, to_config
from reverie.errors import DivergenceError, RunError
from reverie.evaluation.rollout import RunPolicy
from reverie.training import loop
from reverie.training.metrics import divergence, joined
from reverie.training.settings import default_segment

DATA = synthetic()
fit = partial(reverie.fit, progress=False)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def python(code, **environment):
    """Run the code in a fresh process that finds the tests' helper."""
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": here} | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(TinyBC(), DATA, steps=60, seeds=3, segment=20, out=tmp_path_factory.mktemp("run") / "new")


def test_it_learns():
    losses = fit(TinyBC(), DATA, steps=1000, segment=20).metrics()["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_segments_do_not_change_the_result(run):
    assert same(run, fit(TinyBC(), DATA, steps=60, seeds=3, segment=25))  # 25, 25, 10


@pytest.mark.bits
def test_a_program_for_any_number_of_updates_makes_those_of_the_scan():
    algorithm, states, keys, done, view = segment_arguments()
    whole, metrics, *_ = loop.advance(algorithm, jax.tree.map(jnp.copy, states), keys, done, view, length=10)
    parts = []
    for first, count in ((0, 1), (1, 7), (8, 2)):
        number = np.uint32(first), np.uint32(count)
        states, told, _, _ = loop.advance(algorithm, states, keys, number[0], view, None, number[1], length=10)
        parts.append({name: values[:, :count] for name, values in told.items()})
    for a, b in zip(jax.tree.leaves((whole, metrics)), jax.tree.leaves((states, joined(parts))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_are_the_means_of_single_updates(run):
    single, means = fit(TinyBC(), DATA, steps=60, seeds=3, segment=1).metrics(), run.metrics()
    assert means["step"].tolist() == [20, 20, 20, 40, 40, 40, 60, 60, 60]
    assert means["seed"].tolist() == [0, 1, 2] * 3
    expected = single["loss"].reshape(3, 20, 3).mean(axis=1).ravel()
    # Updates one by one are another program than a scan of 20: equal within rounding.
    np.testing.assert_allclose(means["loss"], expected, rtol=1e-5)


@pytest.mark.bits
def test_seeds_one_after_another_are_the_seeds_alone_bit_for_bit(run):
    for seed in range(3):
        alone = fit(TinyBC(), DATA, steps=60, seed=seed, segment=20)
        for together, leaf in zip(leaves(run), leaves(alone), strict=True):
            np.testing.assert_array_equal(together[seed], leaf[0])


def test_seeds_at_once_are_the_seeds_alone_within_rounding(run):
    at_once = fit(TinyBC(), DATA, steps=60, seeds=3, segment=20, seeds_by="vmap")
    for a, b in zip(leaves(run), leaves(at_once), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.bits
def test_seeds_differ_and_start_where_asked(run):
    assert not np.array_equal(run.state(0).ema[0][0], run.state(1).ema[0][0])
    later = fit(TinyBC(), DATA, steps=60, seed=2, segment=20)
    np.testing.assert_array_equal(later.state(2).ema[0][0], run.state(2).ema[0][0])
    assert later.seeds == (2,)


def test_every_update_has_its_own_key_and_batch():
    """Update i by hand, from the public pieces, is update i of fit."""
    algorithm = TinyBC()
    view, spec = algorithm.prepare(DATA)
    key = jax.random.key(5)
    state = jax.jit(algorithm.init)(jax.random.fold_in(key, 0), spec)
    update = jax.jit(algorithm.update)
    for number in (1, 2, 3):
        draw, now = jax.random.split(jax.random.fold_in(key, number))
        state, _ = update(state, view.draw(draw, algorithm.batch_size), now)
    trained = fit(algorithm, DATA, steps=3, segment=3, seed=5).state(5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(trained), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # another program


def segment_arguments(steps=400):
    algorithm = TinyBC()
    view, spec = algorithm.prepare(synthetic(steps))
    keys = loop.each_seed((0, 1))
    return algorithm, loop.initial_states(algorithm, keys, spec), keys, jax.device_put(np.uint32(0)), view


def test_no_transfer_inside_a_segment():
    algorithm, states, keys, done, view = jax.block_until_ready(segment_arguments())
    with jax.transfer_guard("disallow"):
        states, *_ = loop.advance(algorithm, states, keys, done, view, length=10)
        jax.block_until_ready(states)
        with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device"):  # the guard does guard
            loop.advance(algorithm, states, keys, np.uint32(0), view, length=10)


def test_the_data_are_no_constants_of_the_program():
    sizes = []
    for steps in (400, 4000):
        algorithm, states, keys, done, view = segment_arguments(steps)
        sizes.append(len(loop.advance.lower(algorithm, states, keys, done, view, length=10).as_text()))
    assert abs(sizes[1] - sizes[0]) < 200  # 3600 more rows; only their number is in the text


def test_states_are_donated():
    algorithm, states, keys, done, view = segment_arguments()
    loop.advance(algorithm, states, keys, done, view, length=10)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states))


@pytest.mark.parametrize(
    "steps, expected", [(1, 1), (20, 1), (100, 5), (2000, 100), (100_000, 1000), (99_991, 1000), (1_500_000, 1000)]
)
def test_default_segment(steps, expected):
    assert default_segment(steps) == expected


def test_load_gives_the_same_run(run):
    loaded = reverie.load(run.path)
    assert same(run, loaded)
    assert (loaded.algorithm, loaded.step, loaded.seeds) == (run.algorithm, 60, (0, 1, 2))
    assert {k: v.tolist() for k, v in loaded.metrics().items()} == {k: v.tolist() for k, v in run.metrics().items()}
    spec_pairs = zip(jax.tree.leaves(run.spec), jax.tree.leaves(loaded.spec), strict=True)
    assert all(np.array_equal(a, b) for a, b in spec_pairs)


def test_metrics_file(run):
    header, *rows = (run.path / "metrics.csv").read_text().splitlines()
    assert header.split(",") == ["seed", "step", "loss", "norm", "seconds", "updates_per_second"]
    assert len(rows) == 9


def test_policy_is_pure_and_repeats(run):
    policy = run.policy(1)
    observation = np.array([0.1, -0.2, 0.3])
    carry = policy.reset(seed=3)
    first, after = policy.act(observation, carry)
    again, _ = policy.act(observation, carry)
    second, _ = policy.act(observation, after)
    assert first.shape == (2,)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)  # another key, from the carry
    np.testing.assert_allclose(first, second, atol=0.1)
    loaded, _ = reverie.load(run.path).policy(1).act(observation, carry)
    np.testing.assert_array_equal(first, loaded)


def test_the_second_step_is_not_compiled_anew(run):
    """Whether the states have just been trained, which binds them to their device, or were loaded."""
    for each in (run, reverie.load(run.path)):
        policy, batched = each.policy(), RunPolicy(each)
        carry = policy.reset()
        batched.reset(6)
        with compilations() as first:
            _, carry = policy.act(np.zeros(3), carry)
            batched.act(np.zeros((6, 3)))
        with compilations() as second:
            policy.act(np.zeros(3), carry)
            batched.act(np.zeros((6, 3)))
        assert first and not second


@contextmanager
def compilations():
    """The programs that are compiled meanwhile, or read from a cache."""
    found, over = [], []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration" and not over:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        over.append(True)  # older versions of JAX have no way to take it away


def test_run_names_what_is_not_there(run):
    with pytest.raises(RunError, match=r"Seed 7 is not in this run; it has \[0, 1, 2\]"):
        run.policy(7)
    with pytest.raises(RunError, match="tiny-bc is a policy"):
        run.generate(10)


def test_configuration_survives_json():
    algorithm = TinyBC(lr=0.1 + 0.2, widths=(8,))
    assert from_config(json.loads(json.dumps(to_config(algorithm)))) == algorithm


def test_unknown_names_in_a_configuration():
    with pytest.raises(RunError, match="'tiny-bd'; did you mean one of: tiny-bc"):
        from_config({"name": "tiny-bd"})
    with pytest.raises(
        RunError, match=r"written by reverie 0\.0\.9, where tiny-bc had a field 'depth' that it lacks in"
    ):
        from_config({"name": "tiny-bc", "depth": 3}, "0.0.9")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"steps": 5, "seeds": -1}, "seeds=-1 must be at least 1"),
        ({"steps": 5, "segment": 0}, "segment=0 must be at least 1"),
        ({"steps": 5, "devices": 4096}, "devices=4096 was asked for, and JAX sees"),
        ({"steps": 5, "loggers": ["tensorboard"]}, "give out= as well"),
    ],
)
def test_settings_that_cannot_be_used(options, message):
    with pytest.raises(RunError, match=message):
        fit(TinyBC(), DATA, **options)


def test_divergence_names_the_first_update_and_its_seed():
    metrics = {"a": np.zeros((3, 5)), "b": np.zeros((3, 5))}
    good = np.ones(3, bool)
    assert divergence(metrics, good, (4, 5, 6), 100) is None
    metrics["a"][0, 3], metrics["b"][2, 1] = np.nan, -np.inf
    assert divergence(metrics, good, (4, 5, 6), 100) == "b became -inf at update 102 of seed 6."
    found = divergence({"a": np.zeros((3, 5))}, np.array([True, False, True]), (4, 5, 6), 100)
    assert found.startswith("The state of seed 5 holds NaN or infinity after update 105")


def test_an_update_without_metrics_may_diverge_too():
    @dataclass(frozen=True)
    class Silent(TinyBC):
        def update(self, state, batch, key):
            return super().update(state, batch, key)[0], {}

    with pytest.raises(DivergenceError, match="seed 0 holds NaN or infinity in the segment that follows update 3"):
        fit(Silent(breaks="parameters", breaks_at=5), DATA, steps=6, segment=3)


@pytest.mark.parametrize(
    "breaks, at, message",
    [
        ("loss", 47, r"loss became nan at update 47 of seed 0\."),
        ("parameters", 60, r"The state of seed 0 holds NaN or infinity after update 60"),
    ],
)
def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path, breaks, at, message):
    algorithm = TinyBC(breaks=breaks, breaks_at=at)
    with pytest.raises(DivergenceError, match=message + r".* The last good checkpoint is that of update 40 in"):
        fit(algorithm, DATA, steps=80, segment=20, checkpoint_every=20, out=tmp_path)
    kept = reverie.load(tmp_path)
    assert kept.step == 40
    assert same(kept, fit(algorithm, DATA, steps=40, segment=20))
    assert all(np.isfinite(leaf).all() for leaf in leaves(kept))
    assert kept.metrics()["step"].tolist() == [20, 40]


def test_divergence_without_a_folder():
    said = r"at update 47 of seed 0\. No checkpoint .* A lower learning rate or a gradient"
    with pytest.raises(DivergenceError, match=said):
        fit(TinyBC(breaks_at=47), DATA, steps=80, segment=20)


def test_progress_is_one_plain_line_without_a_terminal(capsys):
    reverie.fit(TinyBC(), DATA, steps=40, segment=20)
    assert capsys.readouterr().err.count("\n") == 1
    fit(TinyBC(), DATA, steps=40, segment=20)
    assert capsys.readouterr() == ("", "")


def test_several_devices_give_the_same_parameters():
    done = python(
        """
        from functools import partial
        import jax, numpy as np, reverie
        from tiny_algorithm import TinyBC, leaves, synthetic

        assert len(jax.devices()) == 4
        fit = partial(reverie.fit, TinyBC(), synthetic(), steps=20, segment=20, seeds=2, progress=False)
        one, *more = fit(devices=1), fit(), fit(devices=2), fit(devices=4), fit(devices=4, seeds_by="vmap")
        for run in more:
            assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(run.states))
            # Adam may turn a rounding error in a gradient near 0 into a small part of the rate, 3e-3.
            for a, b in zip(leaves(one), leaves(run), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        try:
            reverie.fit(TinyBC(batch_size=30), synthetic(), steps=20, devices=4)
        except reverie.errors.RunError as error:
            print(error)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == "batch_size=30 does not divide among the 4 of devices=4 that share it; choose a multiple."
    )


def test_seeds_are_divided_among_cores_as_far_as_they_divide_equally_and_the_data_are_few():
    done = python(
        """
        import os
        os.sched_getaffinity = lambda _: set(range(6))
        from reverie.training import placing
        placing.use_every_core()
        print(*(getattr(placing.device_mesh(None, seeds, 10), "size", 1) for seeds in (1, 2, 4, 5, 7, 8, 12)))
        print(placing.device_mesh(None, 4, 10, copied=2**31), placing.device_mesh(3, 12, 10).size)
        placing.use_every_core()  # too late, and no matter
        """,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="",
    )
    assert done.stdout.split("\n")[:2] == ["1 2 4 5 1 4 6", "None 3"], done.stderr


def test_devices_exchange_gradients_of_a_batch_and_nothing_between_seeds():
    done = python(
        """
        from test_fit import segment_arguments
        from reverie.training import loop
        from reverie.training.placing import SEEDS, device_mesh, placed

        algorithm, states, keys, done, view = segment_arguments()
        for devices in (2, 4):
            mesh = device_mesh(devices, 2, algorithm.batch_size)
            inputs = (*placed((states, keys), mesh, SEEDS), *placed((done, view), mesh))
            text = loop.advance.lower(algorithm, *inputs, length=20, mesh=mesh).compile().as_text()
            print(any(word in text for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute")))
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True"]


def test_import_is_light():
    done = python(
        """
        import sys, reverie
        reverie.fit, reverie.load, reverie.resume
        heavy = {"gymnasium", "mujoco", "h5py", "minari", "matplotlib", "orbax", "tensorboardX", "rich"}
        print(sorted(heavy & sys.modules.keys()))
        """
    )
    assert done.stdout.strip() == "[]", done.stderr
