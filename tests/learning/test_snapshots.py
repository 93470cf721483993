"""Parts of a model as they were when they erred least."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.learning import Snapshots


class Model(eqx.Module):
    members: dict[str, jax.Array]
    """Two, `[2, ...]`."""
    single: jax.Array
    other: jax.Array


def model(x):
    """All of whose numbers are x."""
    return Model({"weight": jnp.full((2, 3, 4), x), "bias": jnp.full(2, x)}, jnp.full(3, x), jnp.full(2, x))


def errors(members, single):
    return {"members": jnp.array(members), "single": jnp.float32(single)}


def test_each_member_and_each_part_is_kept_from_the_time_of_its_own_least_error():
    """Also in a compiled scan, where an error that is not a number is never the least."""
    given = [([2.0, 5.0], 3.0), ([3.0, 1.0], 2.0), ([1.0, 1.0], 2.0), ([4.0, np.nan], np.nan)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(errors(*each) for each in given))

    def step(best, told):
        best = best.offered(model(told[0]), told[1])
        return best, best.last

    first = Snapshots.first(model(0.0), errors([3.0, 4.0], 2.5))
    found, last = jax.jit(lambda first: jax.lax.scan(step, first, (jnp.arange(1.0, 5), stacked)))(first)
    np.testing.assert_array_equal(found.model.members["bias"], [3, 2])
    np.testing.assert_array_equal(found.model.members["weight"], np.broadcast_to([[[3]], [[2]]], (2, 3, 4)))
    np.testing.assert_array_equal(found.model.single, 2)
    np.testing.assert_array_equal(found.model.other, 4)
    np.testing.assert_array_equal(found.least["members"], [1, 1])
    assert found.least["single"] == 2
    jax.tree.map(np.testing.assert_array_equal, last, stacked)
