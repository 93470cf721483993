"""Chunks that overlap: what an order within the noise levels does, how far seams are apart, how they are blended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.diffusion import SOLVERS, Solver, sample, vp_cosine
from reverie.planning import interleaved, join, joined_rows, pieces, seam_gaps

WAY = jnp.arange(14.0)[:, None] * jnp.array([1.0, -2.0])


def cut(way, horizon=6, overlap=2):
    starts = range(0, len(way) - overlap, horizon - overlap)
    return jnp.stack([way[i : i + horizon] for i in starts])


def test_a_way_that_is_cut_is_joined_again():
    chunks = cut(WAY)
    assert chunks.shape == (3, 6, 2) and joined_rows(3, 6, 2) == len(WAY)
    np.testing.assert_allclose(join(chunks[None], 2)[0], WAY, atol=1e-6)
    assert seam_gaps(chunks, 2) == 0


def test_a_single_chunk_is_the_way():
    np.testing.assert_array_equal(join(WAY[None], 4), WAY)
    assert seam_gaps(WAY[None], 4) == 0


@pytest.mark.parametrize("sharpness", [0.0, 2.0])
def test_the_left_gives_way_to_the_right_exponentially(sharpness):
    """From all of the left to all of the right; half way its weight is (e^(s/2) - 1) / (e^s - 1), of a line 1/2."""
    ones = jnp.stack([jnp.ones((7, 1)), jnp.zeros((7, 1))])
    way = join(ones, 3, sharpness)[:, 0]
    middle = np.expm1(sharpness / 2) / np.expm1(sharpness) if sharpness else 0.5
    np.testing.assert_allclose(way, [1, 1, 1, 1, 1, middle, 0, 0, 0, 0, 0], atol=1e-6)


def test_seams_are_measured_where_chunks_overlap():
    """One seam apart by (3, 4), the other not at all: 5 and 0, the mean of both rows and seams."""
    chunks = cut(WAY).at[0].add(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(seam_gaps(jnp.stack([chunks, cut(WAY)]), 2), [2.5, 0.0], atol=1e-6)


def test_a_chunk_sees_its_left_neighbour_after_the_step_and_its_right_before():
    """Each becomes the sum of its own, the left's and the right's: from 1, 1, 1 to 2, 4, 5 (all at once: 2, 3, 2)."""

    def predict(x, k, row):
        padded = jnp.pad(x, ((1, 1), (0, 0), (0, 0)))
        return padded[k] + padded[k + 1] + padded[k + 2]

    solver = Solver(lambda row, x, x0, noise, memory: (x0, memory + x), lambda x: jnp.zeros_like(x))
    x, memory = interleaved(solver, predict).step(
        None, jnp.ones((3, 2, 1)), None, jnp.zeros((3, 2, 1)), jnp.zeros((3, 2, 1))
    )
    np.testing.assert_array_equal(x[:, 0, 0], [2, 4, 5])
    np.testing.assert_array_equal(memory, np.ones((3, 2, 1)))


@pytest.mark.parametrize("name", ["ddpm", "heun", "dpm++2m"])
def test_chunks_that_do_not_see_each_other_are_as_by_the_solver_alone(name):
    """With the same key, the same numbers, whatever a solver remembers and however many stages it has."""
    process = vp_cosine(8)

    def denoiser(x, t):
        """Exact for normal data of mean 1 and variance 1/4."""
        alpha, sigma = process.alpha(t), process.sigma(t)
        return 1 + alpha / 4 * (x - alpha) / (alpha**2 / 4 + sigma**2)

    def draw(solver, denoiser):
        return sample(process, denoiser, jax.random.key(0), (5, 3, 4, 2), nfe=8, solver=solver)

    def predict(x, k, row):
        return denoiser(jnp.take(x, k, -3), row.level.t)

    found = draw(interleaved(SOLVERS[name], predict), lambda x, t: x)
    np.testing.assert_allclose(found, draw(name, denoiser), atol=1e-5)


def test_pieces_of_a_way_cover_it_to_the_last_row():
    found = pieces(WAY, 6, 3)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 3, 6, 8])
    np.testing.assert_array_equal(found[-1], WAY[-6:])
    np.testing.assert_array_equal(pieces(WAY[None, :6], 6, 3), WAY[None, None, :6])
