"""Stored plans: which is nearest, how a store grows, and what a chain that begins at one finds in how many calls."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec
from reverie.errors import ReverieError
from reverie.planners import Diffuser, DiffuserMaze
from reverie.planning import WindowDiffusion, nearest, remember

H, D = 4, 3
SPEC = Spec.fit(Dataset.from_arrays(np.eye(8)[:, :2], np.eye(8)[:, 2:3], timeouts=np.arange(8) == 7))


def plans(n, seed=0, size=(H, D)):
    return np.random.default_rng(seed).normal(size=(n, *size)).astype(np.float32)


@pytest.mark.parametrize("own", [False, True])
def test_the_nearest_plan_is_so_in_what_is_known(own):
    """As by going through all of them; with a mask for all, or one each. What is not known may be anything."""
    stored, wanted = plans(50), plans(12, 1)
    mask = np.random.default_rng(2).random((12 if own else 1, H, D)) < 0.4
    found = jax.jit(nearest)(
        remember(SPEC, stored, 50), jnp.where(mask, wanted, 1e3), jnp.asarray(mask if own else mask[0])
    )
    distance = (mask[:, None] * np.square(wanted[:, None] - stored)).sum((2, 3))
    np.testing.assert_array_equal(found, stored[distance.argmin(1)])


def test_a_store_keeps_the_newest_and_its_size():
    first, second, third = np.split(plans(6), 3)
    spec = remember(SPEC, first, 3)
    np.testing.assert_array_equal(spec.kept["plans"], first[[0, 1, 0]])
    spec = remember(spec, second, 3)
    np.testing.assert_array_equal(spec.kept["plans"], [first[0], *second])
    np.testing.assert_array_equal(remember(spec, third, 3).kept["plans"], [second[1], *third])
    np.testing.assert_array_equal(remember(spec, plans(9, 1), 3).kept["plans"], plans(9, 1)[-3:])


def test_a_store_stays_with_the_specification(tmp_path):
    remember(SPEC, plans(3), 3).save(tmp_path / "spec.npz")
    np.testing.assert_array_equal(Spec.load(tmp_path / "spec.npz").kept["plans"], plans(3))


LONGER = plans(1, size=(5, 3))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: remember(SPEC, plans(2), 0), "capacity = 0, but a store holds at least 1 plan"),
        (lambda: remember(SPEC, plans(0), 2), r"Plans of shape \(0, 4, 3\) cannot be stored"),
        (lambda: remember(remember(SPEC, plans(1)), LONGER), r"\(4, 3\), and those given \(5, 3\)"),
        (lambda: nearest(SPEC, plans(1), np.ones((H, D), bool)), "give the run some by remember"),
        (lambda: nearest(remember(SPEC, plans(1)), LONGER, LONGER > 0), r"has \(5, 3\); store"),
        (lambda: Diffuser(retrieval_steps=21), "retrieval_steps = 21 exceeds diffusion_steps = 20"),
    ],
)
def test_what_cannot_be_is_said(call, sentence):
    with pytest.raises(ReverieError, match=sentence):
        call()


def test_a_chain_from_the_needed_plan_finds_it_in_a_tenth_of_the_calls():
    """The data are three plans, for which the denoiser is known: the mean of the three given x_t. From noise a chain
    ends at any of them; from one that is stored, with a tenth of the levels, it ends there, or at one that is known to
    begin as asked."""
    modes = jnp.asarray(plans(3))
    algorithm = WindowDiffusion(horizon=H, multipliers=(1,), diffusion_steps=50)
    process, nothing = algorithm.process, jnp.zeros((H, D), bool)

    def denoiser(x, t):
        square = jnp.square(x[:, None] - process.alpha(t) * modes).sum((2, 3))
        return jnp.einsum("nm,mhd->nhd", jax.nn.softmax(-square / (2 * process.sigma(t) ** 2)), modes)

    @partial(jax.jit, static_argnums=2)
    def chain(spec, key, asked):
        """At a stored plan that begins like mode 1."""
        mask = (jnp.arange(H) == 0)[:, None] & jnp.ones((H, D), bool)
        begun = asked.begun(spec, jnp.broadcast_to(modes[1], (64, H, D)), mask)
        return asked.denoise(denoiser, key, jnp.zeros((64, H, D)), nothing, history=True, **begun)

    spec = remember(SPEC, modes + 0.05 * plans(3, 1), 3)
    found, calls = chain(spec, jax.random.key(0), algorithm)
    assert len(calls) == 50
    ends = np.square(found[:, None] - modes).sum((2, 3)).argmin(1)
    assert set(ends) == {0, 1, 2}
    near, calls = chain(spec, jax.random.key(0), replace(algorithm, retrieval_steps=5))
    assert len(calls) == 5
    np.testing.assert_allclose(near, np.broadcast_to(modes[1], near.shape), atol=1e-4)


class Begun:
    """A planner whose plans are where the chain begins."""

    def denoise(self, denoiser, key, values, mask, *, last=None, levels=None, **options):
        return values if last is None else last + 100 * levels


class BegunDiffuser(Begun, Diffuser):
    pass


class BegunMaze(Begun, DiffuserMaze):
    pass


@pytest.mark.parametrize("kind", [BegunDiffuser, BegunMaze])
def test_planners_begin_at_the_plan_nearest_to_where_they_are_and_what_they_want(kind):
    """The second of two environments is where the first plan begins, and so on; off, a store changes nothing."""
    algorithm = kind(horizon=4, width=32, multipliers=(1,), diffusion_steps=4, retrieval_steps=2)
    data = Dataset.from_arrays(np.eye(8)[:, :4], np.eye(8)[:, 4:6], np.zeros(8), None, np.arange(8) == 7)
    spec = algorithm.prepare(data)[1]
    stored = plans(2, size=(4, 6))
    with_plans = remember(spec, stored, 2)
    states = spec.denormalise("observations", jnp.asarray(stored[:, :, 2:]))
    seen = states[::-1, 0]
    if kind is BegunMaze:
        seen = {"observation": seen, "desired_goal": states[::-1, -1, :2]}
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(algorithm.init, jax.random.key(0), spec))
    carry, key = algorithm.reset(spec, 2, {}), jax.random.key(0)
    plan = jax.jit(kind.plan, static_argnums=0)
    np.testing.assert_allclose(plan(algorithm, state, with_plans, seen, carry, key), stored[::-1] + 200, rtol=1e-5)
    off = replace(algorithm, retrieval_steps=0)
    found, expected = (plan(off, state, each, seen, carry, key) for each in (with_plans, spec))
    np.testing.assert_array_equal(found, expected)
