"""Data in chunks: each a function of what is ready and of its own number alone, and cut to the rows asked for."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.settings import acting_fields
from reverie.synthesizers import transition
from reverie.synthesizers.chunked import Chunked

DATA = Dataset.from_arrays(
    *(np.eye(6)[:, :2], np.linspace(-1, 1, 6)[:, None], np.arange(6.0), np.arange(6) % 2 == 0, np.ones(6)),
    next_observations=np.eye(6)[:, 2:4],
)
SPEC = transition.fit(DATA)


@dataclass(frozen=True)
class Noise(Chunked):
    """Numbers of the key, three more than a chunk has; `asked` records what it was asked for."""

    name: ClassVar = "noise"
    chunk: int = 4
    asked: list = field(default_factory=list, compare=False)

    def ready(self, state, spec):
        self.asked.append("ready")
        return 2 * state

    def chunk_rows(self, ready, spec, key, rows):
        self.asked.append(rows)
        drawn = jax.random.normal(key, (self.chunk + 3, 2))
        return {
            "observations": ready * drawn,
            "actions": jnp.tanh(drawn[:, :1]),
            "rewards": drawn[:, 0],
            "next_observations": drawn + 1,
            "terminals": drawn[:, 1] > 0,
        }


def test_chunks_have_as_many_rows_as_asked_and_what_they_share_is_computed_once():
    algorithm = Noise()
    pieces = [*algorithm.chunks(3.0, SPEC, jax.random.key(0), 10)]
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert algorithm.asked == ["ready", 4, 4, 2]
    made = algorithm.generate(3.0, SPEC, jax.random.key(0), 10)
    np.testing.assert_array_equal(made.rewards, np.concatenate([piece.rewards for piece in pieces]))


def test_chunk_i_is_what_the_key_with_i_folded_in_gives():
    made = Noise().generate(3.0, SPEC, jax.random.key(7), 10)
    for i, rows in enumerate((4, 4, 2)):
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(7), i), (7, 2))[:rows]
        np.testing.assert_allclose(made.observations[4 * i : 4 * i + rows], 6 * drawn, rtol=1e-6)
        np.testing.assert_array_equal(made.terminals[4 * i : 4 * i + rows], drawn[:, 1] > 0)


def test_a_later_start_gives_the_rest_and_fewer_rows_the_first():
    made = Noise().generate(3.0, SPEC, jax.random.key(0), 10)
    rest = [*Noise().chunks(3.0, SPEC, jax.random.key(0), 10, start=4)]
    np.testing.assert_array_equal(np.concatenate([piece.rewards for piece in rest]), made.rewards[4:])
    fewer = Noise().generate(3.0, SPEC, jax.random.key(0), 7)
    np.testing.assert_array_equal(fewer.rewards, made.rewards[:7])
    assert [*Noise().chunks(3.0, SPEC, jax.random.key(0), 8, start=8)] == []


def test_each_row_is_an_episode_with_the_data_s_bounds_and_a_name():
    made = Noise().generate(3.0, SPEC, jax.random.key(0), 4)
    assert len(made.episodes) == 4
    np.testing.assert_array_equal(made.timeouts, ~made.terminals)
    assert made.attributes == {"name": "synthetic data by noise", "synthetic": True}
    assert (made.action_low, made.action_high) == (-1, 1)


def test_the_chunk_s_size_is_a_matter_of_generating():
    assert acting_fields(Chunked) == ("chunk",)
    with pytest.raises(ReverieError, match="chunk = 0, but it must be a whole number of at least 1"):
        Chunked(chunk=0)
