"""Plans moved as a whole: what a move costs, what stays, and that constraints hold between rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.planning.bending import REACH, bend, interpolation, stiffness

ENDS = jnp.arange(12) % 11 == 0


def half_plane(points):
    """y >= 0."""
    return points[..., 1:], jnp.broadcast_to(jnp.array([[0.0, 1.0]]), (*points.shape[:-1], 1, 2))


def discs(centres, radius):
    """Distances from discs, and their gradients."""

    def measured(points):
        apart = points[..., None, :] - jnp.asarray(centres)
        length = jnp.linalg.norm(apart, axis=-1, keepdims=True)
        return length[..., 0] - radius, apart / length

    return measured


def line(y=0.0, n=1):
    return jnp.stack([jnp.broadcast_to(jnp.linspace(-1, 1, 12), (n, 12)), jnp.full((n, 12), y)], -1)


def test_points_between_rows_and_what_a_move_bends_by_hand():
    np.testing.assert_array_equal(interpolation(3, 2), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]])
    np.testing.assert_array_equal(interpolation(4, 1), np.eye(4))
    move = np.array([0.0, 1.0, 3.0, 0.0])
    second = np.diff([0, 0, 1, 3, 0, 0], 2)  # at rest before and after it
    assert move @ stiffness(4) @ move == pytest.approx((second**2).sum() + 10 / REACH**4)


def test_one_place_is_made_good_by_the_move_that_bends_least():
    """The minimum of a quadratic form with one equation, by another solver: the ends stay, and y is 0.3 at a place."""

    def measured(points):
        elsewhere = jnp.where(jnp.arange(23) == 9, 0.0, 9.0)[:, None]
        return points[..., 1:] + elsewhere, half_plane(points)[1]

    found = bend(line(), ENDS, measured, 0.3, 2, 1.0)[0]
    weights, costs = interpolation(12, 2)[9, 1:-1], stiffness(12)[1:-1, 1:-1]
    kkt = np.block([[costs, -weights[:, None]], [weights[None], np.zeros((1, 1))]])
    expected = np.linalg.solve(kkt.astype(float), np.append(np.zeros(10), 0.3))[:-1]
    np.testing.assert_allclose(found[1:-1, 1], expected, atol=2e-4)
    np.testing.assert_array_equal(found[:, 0], line()[0, :, 0])


@pytest.mark.parametrize("between", [1, 4])
def test_barriers_hold_between_rows_where_they_are_looked_at(between):
    """A disc that stands between two rows is not seen at the rows; two discs leave a way between them."""
    centres = [[[0.0, 0.02]], [[-0.4, -0.05]]]
    measured = discs(np.array(centres)[:, None], 0.08)
    made = bend(line(n=2), ENDS, measured, 0.01, between, 0.25)
    places = jnp.einsum("ph,nhd->npd", interpolation(12, 4), made)
    nearest = np.asarray(measured(places)[0].min((1, 2)))
    assert (nearest >= 0.009).all() if between == 4 else (nearest < 0).any()
    np.testing.assert_array_equal(made[:, [0, -1]], line(n=2)[:, [0, -1]])
    jumps = np.linalg.norm(np.diff(made, axis=1), axis=-1)
    assert jumps.max() < 1.5 * 2 / 11, "no row is torn from the next"


def test_where_nothing_is_broken_no_bit_changes_and_held_rows_never_move():
    rows = line(0.5)
    np.testing.assert_array_equal(bend(rows, ENDS, half_plane, 0.1, 4, 0.25), rows)
    made = bend(line(-0.5), jnp.arange(12) % 3 == 0, half_plane, 0.0, 4, 0.25)
    np.testing.assert_array_equal(made[:, ::3], line(-0.5)[:, ::3])
    assert np.isfinite(made).all()


def test_an_end_that_is_not_held_is_moved_too():
    made = bend(line(-0.1), jnp.arange(12) == 0, half_plane, 0.0, 2, 0.25)[0]
    assert made[0, 1] == jnp.float32(-0.1) and (made[2:, 1] >= -1.1e-4).all()


def test_a_plan_of_a_batch_that_is_clear_stays_as_it_is_while_another_bends():
    measured = discs(np.zeros((1, 2)), 0.1)
    both = jnp.concatenate([line(0.05), line(0.5)])
    made = jax.jit(lambda rows: bend(rows, ENDS, measured, 0.0, 4, 0.25))(both)
    np.testing.assert_array_equal(made[1], both[1])
    assert np.abs(made[0] - both[0]).max() > 0.01
