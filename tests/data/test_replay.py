"""The replay on the device against a list of what was written, shares of a batch, and histories as data sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data.replay import History, Mixed, Replay, room, write


def numbered(first: int, n: int, seeds: int = 2) -> dict:
    """Rows [S, n, 1] that hold their number, negative for the second seed."""
    rows = jnp.arange(first, first + n, dtype=jnp.float32)[:, None]
    return {"actions": jnp.stack([rows, -rows])[:seeds]}


def drawn(view, rows, n: int = 500) -> set:
    return set(view.joined(rows).draw(jax.random.key(0), n)["actions"][:, 0].tolist())


def test_the_newest_rows_replace_the_oldest_and_nothing_else_is_drawn():
    """Room for 5: after 3, 5 and 8 rows the draws are exactly the last 5 of what was written, of each seed its own."""
    kept, written = room(numbered(0, 1), 5), 0
    for n in (3, 2, 3):
        kept, written = write(kept, jnp.asarray(written), numbered(written + 1, n)), written + n
        view = Replay({}, jnp.asarray(written))
        expected = set(range(max(1, written - 4), written + 1))
        assert drawn(view, {"actions": kept["actions"][0]}) == expected
        assert drawn(view, {"actions": kept["actions"][1]}) == {-number for number in expected}


def test_of_more_rows_than_there_is_room_for_the_last_are_written_each_once_and_in_its_place():
    """Room for 5, 2 rows and then 13 more: as if they had come one by one, by a scatter of 5."""
    kept = write(room(numbered(0, 1), 5), jnp.asarray(0), numbered(1, 2))
    updates = [each.shape for each in scattered(write.trace(kept, jnp.asarray(2), numbered(3, 13)).jaxpr.jaxpr)]
    assert updates == [(2, 5, 1)]
    kept = write(kept, jnp.asarray(2), numbered(3, 13))
    np.testing.assert_array_equal(kept["actions"][0, :, 0], [11, 12, 13, 14, 15])


def scattered(jaxpr) -> list:
    """What the scatters of a program write."""
    own = [each.invars[2].aval for each in jaxpr.eqns if each.primitive.name.startswith("scatter")]
    inner = [getattr(each.params.get("jaxpr"), "jaxpr", None) for each in jaxpr.eqns]
    return own + [each for program in inner if program is not None for each in scattered(program)]


@pytest.mark.parametrize("share, first", [(0.0, 8), (0.25, 6), (0.5, 4), (1.0, 0)])
def test_a_share_of_every_batch_comes_from_the_second(share, first):
    view = Mixed(Replay({}, jnp.asarray(3)), Replay({}, jnp.asarray(3)), share)
    rows = {"first": {"actions": jnp.ones((3, 1))}, "second": {"actions": jnp.full((3, 1), 2.0)}}
    batch = view.joined(rows).draw(jax.random.key(0), 8)["actions"][:, 0]
    np.testing.assert_array_equal(batch, [1] * first + [2] * (8 - first))


def test_what_is_written_back_stays_in_its_place():
    view = Replay({"actions": jnp.arange(5.0)[:, None], "ages": jnp.zeros(5)}, jnp.asarray(3))
    batch = view.draw(jax.random.key(0), 64)
    assert set(np.asarray(batch["index"]).tolist()) == {0, 1, 2}
    view = view.written(jnp.array([2, 0]), {"ages": jnp.array([7.0, 5.0])})
    np.testing.assert_array_equal(view.rows["ages"], [5, 0, 7, 0, 0])
    np.testing.assert_array_equal(view.rows["actions"][:, 0], [0, 1, 2, 3, 4])
    assert view.count == 3


def test_a_mixed_batch_is_numbered_in_its_two_parts_and_written_to_the_first_alone():
    first = Replay({"actions": jnp.arange(5.0)[:, None]}, jnp.asarray(5))
    second = Replay({"actions": 100 + jnp.arange(3.0)[:, None]}, jnp.asarray(3))
    view = Mixed(first, second, 0.5)
    batch = view.draw(jax.random.key(0), 8)
    np.testing.assert_array_equal(batch["actions"][:4, 0], batch["index"][:4])
    np.testing.assert_array_equal(batch["actions"][4:, 0], 100 + batch["index"][4:])
    again = view.take(batch["index"].reshape(2, 4)[:, np.array([0, 1, 2, 3])])
    assert again["actions"].shape == (2, 4, 1)
    np.testing.assert_array_equal(again["actions"][0, :, 0] < 100, [True, True, False, False])
    changed = view.written(jnp.array([4, 1, 2, 2]), {"actions": jnp.array([[-4.0], [-1], [-9], [-9]])})
    np.testing.assert_array_equal(changed.first.rows["actions"][:, 0], [0, -1, 2, 3, -4])
    np.testing.assert_array_equal(changed.second.rows["actions"], second.rows["actions"])


def test_rows_of_several_parts_are_written_and_drawn():
    rows = {"actions": jnp.ones((1, 2, 1)), "seen": {"image": jnp.full((1, 2, 4, 4), 9, jnp.uint8)}}
    kept = write(room(rows, 5), jnp.asarray(4), rows)
    assert kept["seen"]["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(kept["seen"]["image"][0, :, 0, 0], [9, 0, 0, 0, 9])
    own = jax.tree.map(lambda x: x[0], kept)
    assert Replay(own, jnp.asarray(5)).draw(jax.random.key(0), 3)["seen"]["image"].shape == (3, 4, 4)


def steps(number: int, ends: list[str]) -> dict:
    """One step [1, E, ...] of every environment: "t" is terminal, "c" is cut."""
    envs = len(ends)
    mark = np.array([[10.0 * e + number] for e in range(envs)], np.float32)[None]
    return {
        "observations": mark,
        "actions": 0 * mark,
        "rewards": mark[..., 0],
        "next_observations": mark + 1,
        "terminals": np.array([[end == "t" for end in ends]]),
        "timeouts": np.array([[end == "c" for end in ends]]),
    }


def test_episodes_of_several_environments_are_laid_one_after_another_and_the_open_ones_are_cut():
    history = History(np.array([-1.0]), np.array([1.0]), name="x")
    for number, ends in enumerate((["", "t"], ["c", ""], ["", ""])):
        history.append(steps(number, ends))
    data = history.dataset()
    np.testing.assert_array_equal(data.observations[:, 0], [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(data.next_observations[:, 0], [1, 2, 3, 11, 12, 13])
    np.testing.assert_array_equal(data.episodes, [[0, 2], [2, 3], [3, 4], [4, 6]])
    np.testing.assert_array_equal(data.terminals, [0, 0, 0, 1, 0, 0])
    assert len(history) == len(data) == 6
    again = History(np.array([-1.0]), np.array([1.0]), data, name="x")
    again.append(steps(0, ["", ""]))
    np.testing.assert_array_equal(again.dataset().observations[:, 0], [0, 1, 2, 10, 11, 12, 0, 10])
    np.testing.assert_array_equal(history.dataset().fingerprint, data.fingerprint)


def test_costs_are_kept_unless_the_steps_before_have_none():
    history, older = History(np.array([-1.0]), np.array([1.0])), History(np.array([-1.0]), np.array([1.0]))
    older.append(steps(0, ["", ""]))
    older = History(np.array([-1.0]), np.array([1.0]), older.dataset())
    for number in range(2):
        made = steps(number, ["", ""])
        for each in (history, older):
            each.append(made | {"costs": 100 + made["rewards"]})
    np.testing.assert_array_equal(history.dataset().costs, [100, 101, 110, 111])
    assert older.dataset().costs is None and len(older.dataset()) == 6
