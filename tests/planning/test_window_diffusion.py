"""Windows as arrays: what is in-painted, what a caller's own projection and condition do, and what the loss weighs."""

from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, MinMax, Spec
from reverie.errors import ReverieError
from reverie.planners import Diffuser
from reverie.planning import Plan, WindowDiffusion

H, D = 4, 3


@dataclass(frozen=True)
class Windows(WindowDiffusion):
    """The first row's observations are known."""

    def inpaint_mask(self, horizon, blocks):
        return (jnp.arange(horizon)[:, None] == 0) & blocks.mask("observations")


@dataclass(frozen=True)
class States(Windows):
    """Windows of observations alone."""

    parts: ClassVar = ("observations",)


SMALL = Windows(horizon=H, multipliers=(1,), diffusion_steps=5)
SPEC = Spec.fit(Dataset.from_arrays(np.eye(8)[:, :2], np.eye(8)[:, 2:3], timeouts=np.arange(8) == 7))
MASK = SMALL.inpaint_mask(H, SMALL.blocks(SPEC))
VALUES = jnp.full((6, H, D), -0.5)


def plain(x, t, condition):
    """A network that answers the same everywhere."""
    return jnp.full_like(x, 0.3)


def denoise(net=plain, algorithm=SMALL, condition=None, **options):
    denoiser = algorithm.process.denoiser(net, condition)
    return algorithm.denoise(denoiser, jax.random.key(0), VALUES, MASK, **options)


def test_blocks_are_the_parts_in_order():
    assert SMALL.blocks(SPEC).widths == (("actions", 1), ("observations", 2))
    assert States(horizon=H, multipliers=(1,)).blocks(SPEC).widths == (("observations", 2),)
    np.testing.assert_array_equal(MASK, np.pad([[False, True, True]], ((0, H - 1), (0, 0))))


@dataclass(frozen=True)
class Turned(Windows):
    """Observations first."""

    parts: ClassVar = ("observations", "actions")


UNITS = Spec.fit(
    Dataset.from_arrays(5 + 2 * np.eye(8)[:, :2], 3 * np.eye(8)[:, 2:3], timeouts=np.arange(8) == 7),
    observations=MinMax,
    actions=MinMax,
)  # observations of 5 to 7, actions of 0 to 3


@pytest.mark.parametrize(("kind", "states", "actions"), [(Windows, [1, 2], [0]), (Turned, [0, 1], [2])])
def test_an_observation_goes_into_the_first_row_and_an_action_comes_out_of_it(kind, states, actions):
    algorithm = kind(horizon=H, multipliers=(1,))
    rows = np.zeros((3, H, D), np.float32)
    rows[:, 0, states] = [-1, 0.5]
    np.testing.assert_allclose(algorithm.observed(UNITS, jnp.tile(jnp.array([5.0, 6.5]), (3, 1))), rows, atol=1e-6)
    rows[:, 0, actions] = 1 / 3
    np.testing.assert_allclose(algorithm.first_action(UNITS, jnp.asarray(rows)), np.full((3, 1), 2.0), rtol=1e-6)


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_what_is_known_is_held_and_the_rest_is_the_networks(solver):
    """The last step of either solver ends at x0_hat."""
    plans = denoise(algorithm=replace(SMALL, solver=solver))
    np.testing.assert_array_equal(plans[:, 0, 1:], VALUES[:, 0, 1:])
    np.testing.assert_allclose(plans[:, 0, 0], 0.3, atol=1e-6)
    np.testing.assert_allclose(plans[:, 1:], 0.3, atol=1e-6)


def test_a_caller_s_projection_and_the_inpainting_compose():
    """At every noise level the rows keep to the caller's half space, and the known entries, outside it, to theirs."""
    plans, past = denoise(project=lambda x, t: jnp.maximum(x, 0.4), history=True)
    for x in (plans, *past):
        np.testing.assert_array_equal(x[:, 0, 1:], VALUES[:, 0, 1:])
        free = jnp.where(MASK, 1.0, x)
        assert free.min() == pytest.approx(0.4)
    np.testing.assert_allclose(plans[:, 1:], 0.4, rtol=1e-6)
    assert denoise(history=True)[1][0].min() < -0.6, "without it the first steps are elsewhere"


def test_several_projections_are_applied_in_their_order():
    def raised(x, t):
        return jnp.maximum(x, 1.0)

    def halved(x, t):
        return x / 2

    np.testing.assert_allclose(denoise(project=(raised, halved))[:, 1:], 0.5, rtol=1e-6)
    np.testing.assert_allclose(denoise(project=(halved, raised))[:, 1:], 1.0, rtol=1e-6)


def told(x, t, condition):
    """A network that answers what its condition says."""
    return jnp.broadcast_to(condition["value"][:, None, None], x.shape)


def test_a_condition_reaches_the_network_in_planning():
    value = jnp.linspace(-1, 1, 6)
    plans = denoise(told, condition={"value": value})
    np.testing.assert_allclose(plans[:, 1:], np.broadcast_to(value[:, None, None], (6, H - 1, D)), atol=1e-6)


def test_a_condition_reaches_the_network_in_training():
    """Windows of one number each, which the condition tells: no error with it, the distance squared with another."""
    value = jnp.linspace(-1, 1, 6)
    batch = {
        "actions": jnp.tile(value[:, None, None], (1, H, 1)),
        "observations": jnp.tile(value[:, None, None], (1, H, 2)),
    }
    algorithm = replace(SMALL, action_weight=1.0)
    assert float(algorithm.denoising_loss(told, batch, jax.random.key(0), {"value": value})) == 0
    found = algorithm.denoising_loss(told, batch, jax.random.key(0), {"value": value + 0.5})
    assert float(found) == pytest.approx(0.25 * (H * D - 2) / (H * D), rel=1e-5)


def test_windows_weigh_as_they_are_told_to():
    """Losses of a window at a time, at six times its weight and nothing for the others, average to that of all."""
    batch = {"actions": jax.random.normal(jax.random.key(1), (6, H, 1)), "observations": VALUES[..., 1:]}

    @jax.jit
    def loss(importance):
        return SMALL.denoising_loss(plain, batch, jax.random.key(0), importance=importance)

    each = [float(loss(6 * row)) for row in jnp.eye(6)]
    assert len(set(each)) == 6
    assert float(SMALL.denoising_loss(plain, batch, jax.random.key(0))) == pytest.approx(np.mean(each), rel=1e-5)


def test_windows_of_states_alone_have_no_action_to_weigh():
    states = States(horizon=H, multipliers=(1,), action_weight=1e6)
    batch = {"observations": jnp.zeros((6, H, 2)), "actions": jnp.full((6, H, 1), jnp.nan)}

    def one(x, t, condition):
        assert x.shape == (6, H, 2)
        return jnp.ones_like(x)

    assert float(states.denoising_loss(one, batch, jax.random.key(0))) == pytest.approx((H - 1) / H, rel=1e-5)


@pytest.mark.parametrize("changed, nfe", [({}, 5), ({"nfe": 3, "solver": "ddim"}, 3)])
def test_plans_take_the_nfe_asked_for_and_warm_ones_their_steps(changed, nfe):
    times = []

    def counting(x, t, condition):
        jax.debug.callback(lambda t: times.append(float(t)), t)
        return plain(x, t, condition)

    algorithm = replace(SMALL, warm_start_steps=2, **changed)
    denoise(counting, algorithm).block_until_ready()
    jax.effects_barrier()
    assert len(times) == nfe
    assert max(times) == 4  # the time feature of the highest of 5 levels
    times.clear()
    denoise(counting, algorithm, last=VALUES).block_until_ready()
    jax.effects_barrier()
    assert sorted(times) == [0, 1]


def test_a_plan_begins_from_the_last_one_where_there_is_one():
    """With `warm_start_steps`; without, all are made anew."""
    last = Plan(jnp.full((6, H, D), 0.7), jnp.array([0, 1, 0, 5, 0, 0]))
    denoiser, key = SMALL.process.denoiser(leaning), jax.random.key(0)
    warm = replace(SMALL, warm_start_steps=2)
    anew, begun = (warm.denoise(denoiser, key, VALUES, MASK, last=rows) for rows in (None, last.rows))
    found = warm.replanned(SPEC, denoiser, key, VALUES, MASK, last)
    expected = jnp.where((last.step > 0)[:, None, None], begun, anew)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(begun - anew).max() > 0.1
    np.testing.assert_allclose(SMALL.replanned(SPEC, denoiser, key, VALUES, MASK, last), anew, atol=1e-6)


def leaning(x, t, condition):
    """A network that leaves something of what it is given."""
    return 0.5 * x


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"multipliers": ()}, "leaves the network without a level"),
        ({"warm_start_steps": 6}, "warm_start_steps = 6 exceeds diffusion_steps = 5"),
        ({"horizon": 6, "multipliers": (1, 2, 4)}, "horizon 6"),
        ({"nfe": 6}, "nfe = 6 exceeds diffusion_steps = 5"),
    ],
)
def test_impossible_fields_are_refused(fields, sentence):
    with pytest.raises(ReverieError, match=sentence):
        replace(SMALL, **fields)


def test_loss_weighs_the_first_action_and_not_what_is_inpainted():
    """For data of zeros and a network that answers 1 everywhere the loss is the mean weight: 10 for the first action,
    0 for the first observation, 1 for the rest."""
    algorithm = Diffuser(horizon=4, width=32, multipliers=(1,))
    data = Dataset.from_arrays(np.zeros((8, 1)), np.zeros((8, 2)), np.zeros(8), timeouts=np.arange(8) == 7)
    state = algorithm.init(jax.random.key(0), algorithm.prepare(data)[1])
    out = state.denoiser.params.out
    ones = [jnp.zeros_like(out.weight), jnp.ones_like(out.bias)]
    state = eqx.tree_at(lambda s: [s.denoiser.params.out.weight, s.denoiser.params.out.bias], state, ones)
    batch = {"observations": jnp.zeros((6, 4, 1)), "actions": jnp.zeros((6, 4, 2)), "returns": jnp.zeros(6)}
    _, metrics = jax.jit(algorithm.update)(state, batch, jax.random.key(0))
    assert metrics["diffusion_loss"] == pytest.approx((2 * 10 + 0 * 1 + 9) / 12, rel=1e-5)
