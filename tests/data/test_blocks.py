"""Named blocks against columns written out by hand, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data.blocks import Blocks
from reverie.errors import DataError

BLOCKS = Blocks.of(observations=2, actions=1, rewards=None)


def batch(*shape: int) -> dict:
    numbers = np.arange(4 * np.prod(shape, dtype=int), dtype=np.float32).reshape(*shape, 4)
    return {"rewards": numbers[..., 3], "actions": numbers[..., 2:3], "observations": numbers[..., :2]}


@pytest.mark.parametrize("shape", [(3,), (2, 5), ()])
def test_blocks_are_joined_in_their_own_order_and_come_back_with_their_shapes(shape):
    x = BLOCKS.join(batch(*shape) | {"index": np.zeros(shape)})
    np.testing.assert_array_equal(x, np.arange(x.size, dtype=np.float32).reshape(*shape, 4))
    parts = BLOCKS.split(x)
    assert list(parts) == ["observations", "actions", "rewards"]
    for name, part in batch(*shape).items():
        np.testing.assert_array_equal(parts[name], part)
        assert parts[name].shape == part.shape


def test_the_order_is_the_one_given():
    x = Blocks.of(rewards=None, observations=2, actions=1).join(batch(1))
    np.testing.assert_array_equal(x, [[3, 0, 1, 2]])


def test_columns_of_a_block():
    assert BLOCKS.size == 4
    assert [BLOCKS.slice(name) for name in ("observations", "actions", "rewards")] == [
        slice(0, 2),
        slice(2, 3),
        slice(3, 4),
    ]
    np.testing.assert_array_equal(BLOCKS.mask("actions"), [False, False, True, False])
    np.testing.assert_array_equal(BLOCKS.mask("rewards", "observations"), [True, True, False, True])
    assert not BLOCKS.mask().any()


def test_blocks_are_static_under_jit():
    split = jax.jit(lambda blocks, x: blocks.split(x)["actions"], static_argnums=0)
    np.testing.assert_array_equal(split(BLOCKS, jnp.arange(4.0)), [2])
    assert hash(BLOCKS) == hash(Blocks.of(observations=2, actions=1, rewards=None))
    assert Blocks.of(actions=1, observations=2, rewards=None) != BLOCKS


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: Blocks.of(actions=0), "Block 'actions' has width 0; give at least 1, or None"),
        (lambda: BLOCKS.join(batch(2) | {"actions": np.zeros((2, 3))}), "'actions' has 3 columns, and 1 were declared"),
        (lambda: BLOCKS.split(jnp.zeros((2, 5))), "5 columns cannot be split into blocks of 4"),
        (lambda: BLOCKS.slice("goals"), "no block 'goals'; there are observations, actions, rewards"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        wrong()
