"""Windows against hand-computed numbers: where they start, what stands beyond an episode's ends, and their columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Gaussian, MinMax, Spec, windows
from reverie.errors import DataError


def data(**changed):
    """Three episodes: rows 0-3 to a terminal, 4-6 cut by a timeout, 7-8 to a terminal. Row i observes [i, 10 i]."""
    rows = np.arange(9.0)
    given = {
        "observations": np.stack([rows, 10 * rows], axis=1),
        "actions": rows[:, None] / 10,
        "rewards": [1, 2, 3, 4, 10, 20, 30, 5, 6],
        "terminals": np.isin(rows, [3, 8]),
        "timeouts": rows == 6,
    }
    return Dataset.from_arrays(**given | changed)


def plain(data):
    return Spec.fit(data)


# Starts


def firsts(view):
    return np.asarray(view.starts).tolist()


@pytest.mark.parametrize(
    "horizon, stride, pad, starts",
    [
        (1, 1, False, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (2, 1, False, [0, 1, 2, 4, 5, 7]),
        (3, 1, False, [0, 1, 4]),
        (4, 1, False, [0]),
        (2, 2, False, [0, 1, 4]),
        (2, 3, False, [0]),
        (3, 1, True, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_starts(horizon, stride, pad, starts):
    view = windows(data(), plain(data()), horizon, stride=stride, pad=pad)
    assert firsts(view) == starts


@pytest.mark.parametrize(
    "horizon, stride, starts",
    [(2, 1, [0, 1, 2, 3, 4, 5, 7, 8]), (3, 1, [0, 1, 2, 3, 4, 7, 8]), (2, 3, [0, 1, 2, 3, 7, 8])],
)
def test_without_padding_of_timeouts_only_what_follows_a_terminal_is_padded(horizon, stride, starts):
    view = windows(data(), plain(data()), horizon, stride=stride, pad=True, pad_timeouts=False)
    assert firsts(view) == starts
    batch = view.take(np.arange(len(view)))
    cut = np.isin(starts, [4, 5, 6])
    assert (batch["mask"][cut] == 1).all()
    assert (batch["mask"][~cut][-1] == (np.arange(horizon) < 1)).all()


def test_cut_episodes_that_are_too_short_are_refused_where_there_are_no_others():
    cut = data(terminals=np.zeros(9), timeouts=np.isin(np.arange(9), [3, 6, 8]))
    message = r"horizon 5 with stride 1 \(5 steps\): the longest has 4, and is cut; shorten the horizon\."
    with pytest.raises(DataError, match=message):
        windows(cut, plain(cut), 5, pad=True, pad_timeouts=False)


def test_a_horizon_longer_than_every_episode_names_the_longest():
    with pytest.raises(DataError, match=r"horizon 3 with stride 2 \(5 steps\): the longest has 4; shorten"):
        windows(data(), plain(data()), 3, stride=2)


@pytest.mark.parametrize("horizon, stride", [(0, 1), (2, 0)])
def test_sizes_below_one_are_refused(horizon, stride):
    with pytest.raises(DataError, match="must both be at least 1"):
        windows(data(), plain(data()), horizon, stride=stride)


# Rows


def test_windows_by_hand_with_stride_returns_and_padding():
    view = windows(data(), plain(data()), 3, stride=2, pad=True, discount=0.5, termination_penalty=-100)
    batch = view.take(np.array([0, 1, 5, 8]))
    np.testing.assert_array_equal(batch["observations"][..., 0], [[0, 2, 0], [1, 3, 0], [5, 0, 0], [8, 0, 0]])
    np.testing.assert_array_equal(batch["observations"][..., 1], [[0, 20, 0], [10, 30, 0], [50, 0, 0], [80, 0, 0]])
    np.testing.assert_allclose(batch["actions"][..., 0], [[0, 0.2, 0], [0.1, 0.3, 0], [0.5, 0, 0], [0.8, 0, 0]])
    np.testing.assert_array_equal(batch["mask"], [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(batch["returns"], [3.25 - 12.5, 4.5 - 25, 35, 6 - 100])


def test_padding_is_zero_before_normalisation():
    spec = Spec.fit(data(), observations=Gaussian, actions=MinMax)
    batch = windows(data(), spec, 2, pad=True).take(np.array([8]))
    np.testing.assert_allclose(
        batch["observations"][0, 1], -data().observations.mean(axis=0) / data().observations.std(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(batch["actions"][0, 1], [-1])


def test_windows_without_rewards_have_no_returns():
    without = data(rewards=None)
    assert "returns" not in windows(without, plain(without), 2).draw(jax.random.key(0), 2)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("stride", [1, 3])
def test_windows_never_cross_episodes(pad, stride):
    """Each row carries its episode's number and its step; all windows are looked at."""
    lengths = np.random.default_rng(0).integers(1, 40, 30)
    episode, step = np.repeat(np.arange(30), lengths), np.concatenate([np.arange(n) for n in lengths])
    source = Dataset.from_arrays(
        np.stack([episode, step], axis=1), np.zeros((len(step), 1)), timeouts=np.append(np.diff(episode) > 0, True)
    )
    view = windows(source, plain(source), 5, stride=stride, pad=pad)
    batch = {key: np.asarray(value) for key, value in view.take(np.arange(len(view))).items()}
    inside = batch["mask"] == 1
    number, steps = batch["observations"][..., 0], batch["observations"][..., 1]
    assert (number == number[:, :1])[inside].all()
    assert (steps == steps[:, :1] + stride * np.arange(5))[inside].all()
    assert inside[:, 0].all() and (inside.all() or pad)
    assert (np.diff(batch["mask"], axis=1) <= 0).all()
    left = lengths[number[:, 0].astype(int)] - steps[:, 0]
    np.testing.assert_array_equal(inside.sum(axis=1), np.minimum(5, np.ceil(left / stride)))


def test_windows_take_memory_in_proportion_to_the_steps_and_not_to_the_horizon():
    steps = 2000
    long = Dataset.from_arrays(np.zeros((steps, 8)), np.zeros((steps, 2)), timeouts=np.arange(steps) == steps - 1)
    size = [sum(leaf.nbytes for leaf in jax.tree.leaves(windows(long, plain(long), h, pad=True))) for h in (2, 200)]
    assert size[0] == size[1]


# History and padding by the edge

AT = np.array([0, 1, 3, 4, 6, 8])
STEPS = [[0, 0, 0, 1], [0, 0, 1, 2], [1, 2, 3, 3], [4, 4, 4, 5], [4, 5, 6, 6], [7, 7, 8, 8]]
"""The data's rows in windows of two past steps and two from the current one, each end padded by its edge."""
MASK = [[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 1, 0]]


def test_history_and_chunk_by_hand_padded_by_the_edge():
    columns = ("observations", "actions", "rewards", "terminals", "timesteps")
    batch = windows(data(), plain(data()), 2, pad="edge", history=2, columns=columns).take(AT)
    assert set(batch) == {*columns, "mask", "index"}
    np.testing.assert_array_equal(batch["index"], AT)
    np.testing.assert_array_equal(batch["observations"], np.stack([STEPS, 10 * np.array(STEPS)], -1))
    np.testing.assert_array_equal(batch["actions"][..., 0], np.array(STEPS, np.float32) / 10)
    np.testing.assert_array_equal(batch["mask"], MASK)
    np.testing.assert_array_equal(batch["rewards"], np.array([1, 2, 3, 4, 10, 20, 30, 5, 6])[np.array(STEPS)])
    np.testing.assert_array_equal(
        batch["terminals"],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],
    )
    np.testing.assert_array_equal(
        batch["timesteps"], [[0, 0, 0, 1], [0, 0, 1, 2], [1, 2, 3, 3], [0, 0, 0, 1], [0, 1, 2, 2], [0, 0, 1, 1]]
    )
    assert {name: batch[name].dtype.name for name in ("rewards", "terminals", "mask", "timesteps", "index")} == {
        **dict.fromkeys(("rewards", "terminals", "mask"), "float32"),
        **dict.fromkeys(("timesteps", "index"), "int32"),
    }


@pytest.mark.parametrize("left", ["zeros", "edge"])
@pytest.mark.parametrize("right", ["zeros", "edge"])
def test_each_end_is_padded_as_asked_and_zeros_are_before_normalisation(left, right):
    spec = Spec.fit(data(), observations=Gaussian, actions=MinMax, rewards=MinMax)
    columns = ("observations", "actions", "rewards", "timesteps", "terminals")
    view = windows(data(), spec, 2, pad=right, history=2, pad_left=left, columns=columns)
    batch, mask, steps = view.take(AT), np.array(MASK), np.array(STEPS)
    np.testing.assert_array_equal(batch["mask"], mask)
    zeroed = (mask == 0) & np.where(np.arange(4) < 2, left == "zeros", right == "zeros")
    for name in ("observations", "actions"):
        raw = np.where(zeroed[..., None], 0, getattr(data(), name)[steps])
        np.testing.assert_allclose(batch[name], spec.normalise(name, np.float32(raw)), rtol=1e-6)
    raw = np.float32(np.where(zeroed, 0, data().rewards[steps]))
    np.testing.assert_allclose(batch["rewards"], spec.normalise("rewards", raw[..., None])[..., 0], rtol=1e-6)
    np.testing.assert_array_equal(batch["timesteps"] == 0, zeroed | np.isin(steps, [0, 4, 7]))
    np.testing.assert_array_equal(batch["terminals"], np.isin(steps, [3, 8]) & ~zeroed)


def test_the_stride_holds_for_the_history_too():
    view = windows(data(), plain(data()), 2, stride=2, history=1)
    assert firsts(view) == [0, 1, 4]
    batch = view.take(np.arange(3))
    np.testing.assert_array_equal(batch["observations"][..., 0], [[0, 0, 2], [0, 1, 3], [4, 4, 6]])
    np.testing.assert_array_equal(batch["mask"], [[0, 1, 1]] * 3)
    batch = windows(data(), plain(data()), 2, stride=2, history=1, pad=True).take(np.array([2, 3, 6]))
    np.testing.assert_array_equal(batch["observations"][..., 0], [[0, 2, 0], [1, 3, 0], [4, 6, 0]])
    np.testing.assert_array_equal(batch["mask"], [[1, 1, 0]] * 3)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"history": -1}, "history -1 must be at least 0"),
        ({"pad": "mirror"}, "pad 'mirror' is unknown; choose one of True, False, 'zeros', 'edge'"),
        ({"pad_left": True}, "pad_left True is unknown; choose one of 'zeros', 'edge'"),
    ],
)
def test_paddings_that_are_not_there_are_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        windows(data(), plain(data()), 2, **wrong)


# Columns


def test_returns_to_go_by_hand_for_every_row_and_returns_from_the_current_step():
    """Discounted by a half: 3.25, 4.5, 5, 4; 27.5, 35, 30; 8, 6. The penalty of -8 falls on steps 3 and 8."""
    columns = ("returns_to_go", "returns")
    view = windows(data(), plain(data()), 2, pad=True, discount=0.5, history=1, columns=columns)
    batch = view.take(np.array([0, 3, 5, 8]))
    np.testing.assert_array_equal(batch["returns_to_go"], [[3.25, 3.25, 4.5], [5, 4, 0], [27.5, 35, 30], [8, 6, 0]])
    np.testing.assert_array_equal(batch["returns"], [3.25, 4, 35, 6])
    view = windows(data(), plain(data()), 1, discount=0.5, termination_penalty=-8, columns=columns)
    np.testing.assert_array_equal(view.take(np.array([1, 5, 7]))["returns_to_go"][:, 0], [4.5 - 2, 35, 8 - 4])


def test_returns_are_normalised_where_the_specification_knows_them_and_belong_to_their_windows():
    spec = Spec.fit(data())
    spec.normalisers["returns"] = MinMax(jnp.zeros(1), jnp.full(1, 60.0))
    view = windows(data(), spec, 2)
    np.testing.assert_allclose(view.take(np.array([0, 3]))["returns"], [10 / 30 - 1, 1], rtol=1e-6)


def test_infos_pass_through_with_all_their_axes_and_the_task_is_the_windows_own():
    infos = {"agents": np.arange(54.0).reshape(9, 3, 2), "task": [5, 5, 5, 5, 7, 7, 7, 2, 2], "mark": np.arange(9)}
    source = data(infos=infos)
    spec = Spec.fit(source, mark=MinMax)
    view = windows(source, spec, 2, pad=True, columns=("observations", "agents", "task", "mark"))
    batch = view.take(np.array([0, 4, 8]))
    assert "actions" not in batch and "returns" not in batch
    np.testing.assert_array_equal(batch["agents"][:2], [infos["agents"][0:2], infos["agents"][4:6]])
    np.testing.assert_array_equal(batch["agents"][2], [infos["agents"][8], np.zeros((3, 2))])
    np.testing.assert_array_equal(batch["task"], [5, 7, 2])
    assert batch["task"].dtype == np.int32
    np.testing.assert_allclose(batch["mark"], [[-1, -0.75], [0, 0.25], [1, -1]])


def test_costs_are_a_column_where_the_data_have_them():
    source = data()
    object.__setattr__(source, "costs", np.arange(9, dtype=np.float32))
    batch = windows(source, plain(source), 2, columns=("costs",)).take(np.array([1, 3]))
    np.testing.assert_array_equal(batch["costs"], [[1, 2], [4, 5]])


def test_costs_to_go_are_discounted_as_returns_are_without_the_penalty():
    """0 + 1/2 + 2/4 + 3/8 from the first row; the last one's own."""
    source = data()
    object.__setattr__(source, "costs", np.arange(9, dtype=np.float32))
    view = windows(source, plain(source), 1, discount=0.5, termination_penalty=-8, columns=("costs_to_go",))
    np.testing.assert_array_equal(view.take(np.arange(9))["costs_to_go"][:, 0], [1.375, 2.75, 3.5, 3, 8, 8, 6, 11, 8])


@pytest.mark.parametrize("name", ["costs", "goals"])
def test_a_column_that_is_not_there_is_refused_and_those_that_are_named(name):
    with pytest.raises(DataError, match=f"have no '{name}' .* choose of .*timesteps.*, spin"):
        windows(data(infos={"spin": np.zeros(9)}), plain(data()), 2, columns=(name,))


def test_rewards_that_are_not_there_are_refused_where_they_are_asked_for():
    without = data(rewards=None)
    with pytest.raises(DataError, match="has no rewards"):
        windows(without, plain(without), 2, columns=("returns_to_go",))


def test_nothing_is_kept_that_was_not_asked_for():
    view = windows(data(), plain(data()), 2, pad=True)
    assert (set(view.rows), set(view.per_window)) == ({"observations", "actions"}, {"returns"})
    steps = 9 * (2 + 1) * 4 + 9 * 4
    assert view.nbytes == steps + (2 + 1) * 4 + 2 * 9 * 4 + 2 * 3 * 4


def test_joined_columns_are_gathered_as_the_others_are():
    """Derived from the view's own rows inside a compiled program, as a stage of training does it."""
    view = windows(data(), plain(data()), 2, pad=True, history=1)

    @jax.jit
    def derived(view, index):
        columns = {"double": 2 * view.rows["observations"][:, 0], "parts": {"a": jnp.ones((9, 2, 1), jnp.uint8)}}
        return view.joined(columns, per_window={"number": jnp.arange(len(view))}).take(index)

    batch = derived(view, np.array([1, 3, 4]))
    np.testing.assert_array_equal(batch["double"], [[0, 2, 4], [4, 6, 0], [8, 8, 10]])
    np.testing.assert_array_equal(batch["parts"]["a"][..., 0, 0], [[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    assert batch["parts"]["a"].dtype == np.uint8
    np.testing.assert_array_equal(batch["number"], [1, 3, 4])
    with pytest.raises(DataError, match="'actions' 9; 'short' 8"):
        view.joined({"short": jnp.zeros(8)})
