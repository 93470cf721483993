"""A function of all rows in pieces: the rows and their order, and every piece a key of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.learning import map_rows
from reverie.learning.rows import ROWS


@pytest.mark.parametrize("count", [1, ROWS, ROWS + 1, 2 * ROWS + 5])
def test_all_rows_come_back_in_their_order(count):
    rows = jnp.arange(2.0 * count).reshape(count, 2)

    def doubled(piece, key):
        assert piece.shape == (ROWS, 2)
        return 2 * piece

    np.testing.assert_array_equal(map_rows(doubled, rows, jax.random.key(0)), 2 * rows)


def test_every_piece_has_a_key_of_its_own():
    key = jax.random.key(3)
    drawn = map_rows(lambda piece, key: jax.random.normal(key, (len(piece),)), jnp.zeros((2 * ROWS, 1)), key)
    first, second = (jax.random.normal(each, (ROWS,)) for each in jax.random.split(key))
    np.testing.assert_array_equal(drawn, np.concatenate([first, second]))
