"""CompDiffuser on a line: ways of several chunks to goals beyond any episode, and what holds whatever is learned."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carries import mixed_and_in_lockstep
from lines import FASTEST, from_to, walks

import reverie
from reverie.errors import ReverieError
from reverie.planners import CompDiffuser
from reverie.planning import join, seam_gaps
from reverie.planning.sides import END, NEIGHBOUR, NOTHING, Side

ALGORITHM = CompDiffuser(
    goal_size=1, horizon=12, stride=1, overlap=4, chunk_count=4, candidates=8, width=16, multipliers=(1, 2),
    code_width=16, diffusion_steps=16, batch_size=64, ema_start=200, ema_decay=0.9, learning_rate=2e-3,
    inverse_hidden=(16,), restoration_time=0.05,
)  # fmt: skip
composed = jax.jit(lambda algorithm, *arguments: algorithm.compose(*arguments), static_argnums=0)
planned = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)


@pytest.fixture(scope="module")
def trained(optimised):
    with optimised():
        return reverie.fit(ALGORITHM, walks(), steps=900, progress=False)


@pytest.fixture(scope="module")
def untrained():
    spec = ALGORITHM.prepare(walks(20))[1]
    return spec, jax.jit(ALGORITHM.init)(jax.random.key(0), spec)


WEST_TO_EAST = from_to(-1.5, 1.5, 16)
"""35 rows lead there, and an episode has 14."""


@pytest.mark.parametrize("parallel", [False, True])
def test_chunks_join_to_a_way_that_no_episode_goes(trained, parallel):
    """The best of 8 ways: neighbours are apart by less than the data's largest step, where those that do not see each
    other are by a multiple of it, and the way goes from the start to the goal in between."""
    algorithm = replace(trained.algorithm, parallel=parallel)
    given = trained.state(0), trained.spec, WEST_TO_EAST, jax.random.key(0)

    def gap(algorithm):
        chunks = algorithm.states_of(trained.spec, composed(algorithm, *given))
        return np.median(seam_gaps(chunks, 4).min(1))

    assert gap(algorithm) < FASTEST
    assert gap(replace(algorithm, guidance_scale=0.0)) > 3 * FASTEST
    ways = np.asarray(algorithm.states_of(trained.spec, planned(algorithm, *given)))[..., 0]
    assert ways.shape == (16, 36)
    np.testing.assert_allclose(ways[:, [0, -1]], np.tile([-1.5, 1.5], (16, 1)), atol=1e-5)
    assert np.median(np.abs(ways - np.linspace(-1.5, 1.5, 36)).max(1)) < 0.5


def test_one_chunk_is_what_the_base_model_plans(untrained):
    """The U-Net alone, told that both sides are ends, its start and goal in-painted; with the same key."""
    spec, state = untrained
    algorithm, seen = replace(ALGORITHM, chunk_count=1, candidates=1), from_to(-0.5, 0.3, 3)
    net = state.denoiser_ema
    start, goal = algorithm.ends(spec, seen)
    values = jnp.zeros((3, 12, 1)).at[:, 0].set(start).at[:, -1].set(goal)
    mask = algorithm.inpaint_mask(12, algorithm.blocks(spec))
    sides = (Side(jnp.full(3, END), rows, jnp.zeros(())) for rows in (values[:, :4], values[:, -4:]))
    told = net.told(12, *sides)

    @jax.jit
    def base(key):
        denoiser = algorithm.process.denoiser(net, told)
        return algorithm.denoise(denoiser, key, values, mask, clip_x0=(-1, 1))

    for parallel in (False, True):
        found = planned(replace(algorithm, parallel=parallel), state, spec, seen, jax.random.key(3))
        np.testing.assert_allclose(found, base(jax.random.key(3)), atol=1e-4)  # rounding, over 16 levels


class Normal(CompDiffuser):
    """Whose network is the exact denoiser of windows that are normally distributed, whatever is beside them."""

    def predictor(self, net, ends):
        return lambda x, k, t, left_t: self.process.alpha(t) * x


@pytest.mark.parametrize(("temperature", "low", "high"), [(1.0, 0.8, 1.1), (0.0, 0.0, 0.3)])
def test_without_the_steps_noise_ways_gather_at_the_mean(untrained, temperature, low, high):
    spec, state = untrained
    settings = {each.name: getattr(ALGORITHM, each.name) for each in fields(ALGORITHM)}
    algorithm = Normal(**settings | {"parallel": True, "noise_temperature": temperature})
    chunks = composed(algorithm, state, spec, from_to(-0.5, 0.3, 3), jax.random.key(0))
    assert low < float(chunks[:, :, 1:-1].std()) < high


def test_start_and_goal_are_held_exactly_by_the_first_and_last_chunk_of_every_candidate(untrained):
    spec, state = untrained
    chunks = composed(ALGORITHM, state, spec, from_to(-0.5, 0.3, 3), jax.random.key(0))
    start, goal = ALGORITHM.ends(spec, from_to(-0.5, 0.3, 3))
    assert chunks.shape == (3, 8, 4, 12, 1)
    np.testing.assert_array_equal(chunks[:, :, 0, 0], np.broadcast_to(start[:, None], (3, 8, 1)))
    np.testing.assert_array_equal(chunks[:, :, -1, -1], np.broadcast_to(goal[:, None], (3, 8, 1)))
    ways = join(chunks, 4, ALGORITHM.blend)
    for time in (0.0, 0.1):
        algorithm = replace(ALGORITHM, restoration_time=time)
        best = planned(algorithm, state, spec, from_to(-0.5, 0.3, 3), jax.random.key(0))
        gaps = algorithm.gaps(state.denoiser_ema, chunks, ways, jax.random.fold_in(jax.random.key(0), 2))
        smallest = gaps.argmin(1)
        np.testing.assert_allclose(best, np.stack([ways[i, k] for i, k in enumerate(smallest)]), atol=1e-3)
        if time == 0:
            np.testing.assert_array_equal(gaps, seam_gaps(chunks, 4))


def test_a_way_with_a_leap_is_not_restored(trained):
    """A way at the data's speed, and others of which a row is ten of the data's largest steps off, wherever it is: the
    denoiser puts that row back, so that they are told apart."""
    rows = trained.algorithm.normalised(trained.spec, jnp.linspace(-1.5, 1.5, 36)[:, None])
    leaps = jnp.stack([rows, *(rows.at[i].add(10 * FASTEST / 2) for i in (5, 17, 30))])
    gaps = trained.algorithm.gaps(trained.state(0).denoiser_ema, None, leaps, jax.random.key(0))
    assert (gaps[1:] > 2 * gaps[0]).all()


def test_a_side_is_told_by_its_overlap_only_where_there_is_a_neighbour(untrained):
    encoder = untrained[1].denoiser_ema.left

    def code(kind, overlap):
        return encoder(Side(jnp.array(kind), jnp.full((4, 1), overlap), jnp.float32(3)))

    for kind in (NOTHING, END):
        np.testing.assert_array_equal(code(kind, 0.1), code(kind, 0.9))
    assert np.abs(code(NEIGHBOUR, 0.1) - code(NEIGHBOUR, 0.9)).max() > 1e-3
    assert not np.array_equal(code(NOTHING, 0.1), code(END, 0.1))


def test_environments_at_different_steps_act_as_in_lockstep(untrained):
    spec, state = untrained

    def observe(step):
        return {"observation": jnp.arange(4.0)[:, None] / 10 + 0.1 * step, "desired_goal": jnp.ones((4, 1))}

    algorithm = replace(ALGORITHM, chunk_count=2, candidates=2, nfe=2, replan_distance=0.0)
    mixed, lockstep, _ = mixed_and_in_lockstep(algorithm, state, spec, observe, steps=(0, 1, 2, 30))
    for found, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(lockstep), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_overlap_above_half_a_window_is_refused():
    with pytest.raises(ReverieError, match="overlap = 7 is more than half of horizon = 12"):
        replace(ALGORITHM, overlap=7)
