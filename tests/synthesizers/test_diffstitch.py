"""DiffStitch: bridges that are known, what is refused of them, the episodes that come out; and a small gap that is
learned to be crossed."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, Identity, Spec, transitions, windows
from reverie.errors import DataError, ReverieError
from reverie.networks import DenoisingMLP
from reverie.synthesizers import DiffStitch, chunked
from reverie.synthesizers.diffstitch import Ready
from reverie.synthesizers.stitching import bridges, laid, of_dynamics, real_rows

H, PACE, FARTHEST = 12, 0.1, 0.12
TINY = {
    "horizon": H,
    "width": 8,
    "multipliers": (1,),
    "diffusion_steps": 4,
    "hidden": (),
    "discount": 1.0,
    "termination_penalty": 0.0,
    "members": 2,
    "elites": 2,
    "ensemble_hidden": (),
    "held_out": 4,
    "rows_left": 0,
    "targets": 0.5,
    "candidates": 12,
    "shortest_bridge": 2,
    "longest_bridge": 8,
    "nearness": 0.07,
    "deviation": 1e-3,
    "attempts": 40,
    "batch_size": 8,
    "chunk": 150,
    "kept": "episode",
}


def line(gap=0.0, **changed):
    """Points on a line that move as they are told: four episodes from -0.9 to -0.1, and four from 0.05 + gap on, 0.8
    further, where the task ends. The reward is the place."""
    starts = np.concatenate([np.linspace(-0.9, -0.87, 4), np.linspace(0.05, 0.08, 4) + gap])
    places = starts[:, None] + PACE * np.arange(9)
    places[7, 8] += 0.15  # further than an action leads
    last, ended = np.arange(9) == 8, np.arange(8)[:, None] >= 4
    given = {
        "observations": places.reshape(-1, 1),
        "actions": np.full((72, 1), PACE) + np.tile([0.01, -0.01], 36)[:, None],
        "rewards": places.ravel(),
        "terminals": (last & ended).ravel(),
        "timeouts": (last & ~ended).ravel(),
        "next_observations": np.append(places[:, 1:], places[:, -1:] + PACE, 1).reshape(-1, 1),
        "action_low": -FARTHEST,
        "action_high": FARTHEST,
    }
    return Dataset.from_arrays(**given | changed)


class FlatNetwork(eqx.Module):
    """A window as one vector, of which an MLP is told the rest: compiled in no time."""

    net: DenoisingMLP

    def __call__(self, x, t, told):
        return self.net(x.reshape(*x.shape[:-2], -1), t, told).reshape(x.shape)


class Flat(DiffStitch):
    widths = (128, 128)

    def network(self, key, spec):
        return FlatNetwork(
            DenoisingMLP(key, spec.observation_dim * self.horizon, self.cond_dim(spec), hidden=self.widths)
        )


class Steady(Flat):
    """Whose windows go on from their first row at a known pace, whatever is known of their end; and whose state may be
    what stitches are made with."""

    widths = ()

    def denoiser(self, ready, spec, n):
        return lambda x, t: x[:, :1] + PACE * jnp.arange(self.horizon)[:, None]

    def ready(self, state, spec):
        return state if isinstance(state, Ready) else super().ready(state, spec)


ALGORITHM = Steady(**TINY)


@pytest.fixture(scope="module")
def known():
    """A specification in whose units windows are the places themselves, and networks that know the system: the action
    is the change, the reward the place, and the task ends beyond 0.3."""
    _, spec = ALGORITHM.prepare(line())
    spec = replace(spec, normalisers=spec.normalisers | {"observations": Identity()})
    ready = ALGORITHM.ready(ALGORITHM.init(jax.random.key(0), spec), spec)
    units, layer = of_dynamics(spec).normalisers, lambda net: net.layers[0]
    inverse = with_layer(ready.inverse.net, [[-1 / FARTHEST], [1 / FARTHEST]], [0])
    change, reward, place = units["changes"], units["rewards"], units["observations"]
    weight = [[0, place.std[0] / reward.std[0], 0, 0], [FARTHEST / change.std[0], 0, 0, 0]]
    bias = [-change.mean[0] / change.std[0], (place.mean[0] - reward.mean[0]) / reward.std[0], 0, 0]
    shape = layer(ready.outcomes.ensemble.nets).weight.shape
    nets = with_layer(ready.outcomes.ensemble.nets, np.broadcast_to(weight, shape), np.broadcast_to(bias, (2, 4)))
    end = with_layer(ready.outcomes.ending, [[0], [0], [9 * place.std[0]]], [9 * (place.mean[0] - 0.3)])
    parts = eqx.tree_at(lambda each: (each.inverse.net, each.outcomes.ending), ready, (inverse, end))
    return spec, eqx.tree_at(lambda each: each.outcomes.ensemble.nets, parts, nets)


def with_layer(net, weight, bias):
    layer = net.layers[0]
    new = eqx.tree_at(lambda each: (each.weight, each.bias), layer, (jnp.float32(weight), jnp.float32(bias)))
    return eqx.tree_at(lambda each: each.layers[0], net, new)


def stitched(known, **changed):
    spec, ready = known
    return jax.device_get(replace(ALGORITHM, **changed).stitches(ready, spec, jax.random.key(1)))


@pytest.fixture(scope="module")
def found(known):
    return stitched(known)


@pytest.fixture(scope="module")
def real(known):
    return jax.device_get(known[0].kept["real"])


# A stitch


def test_episodes_are_left_where_little_is_to_come_and_led_to_where_much_is(found, real):
    to_go = real["to_go"]
    assert (to_go[found["start"]] <= np.sort(to_go)[35]).all()
    near = found["near"]
    assert 5 < near.sum() < 40
    assert (to_go[found["target"]][near] >= np.sort(to_go)[36]).all()
    assert len(set(found["start"])) > 10 and len(set(found["target"][near])) > 5


def test_episodes_are_left_and_led_to_where_enough_of_them_is_left(known, real):
    """Of nine rows an episode, the first five; shares are of these."""
    spec, ready = known
    again = replace(ALGORITHM, rows_left=4).ready(ALGORITHM.init(jax.random.key(0), spec), spec)
    assert (again.starts, again.targets, len(again.order)) == (20, 20, 40)
    found = stitched((spec, ready._replace(**{name: getattr(again, name) for name in ("order", "starts", "targets")})))
    left = real["end"] - np.arange(72)
    assert set(left[again.order]) == {5, 6, 7, 8, 9}
    assert (left[found["start"]] > 4).all() and (left[found["target"]] > 4).all()


def test_a_target_is_where_the_first_window_comes_nearest_to_it(found, real):
    place = real["observations"][:, 0]
    windows = place[found["start"]][:, None] + PACE * np.arange(2, 9)
    apart = np.abs(windows - place[found["target"]][:, None])
    near = found["near"]
    chosen = np.take_along_axis(apart, found["steps"][:, None] - 2, 1)[:, 0]
    np.testing.assert_allclose(chosen[near], apart.min(1)[near], atol=1e-6)
    assert (apart.min(1)[near] <= ALGORITHM.nearness).all()


def test_both_ends_of_a_bridge_are_real_rows_exactly(found, real):
    for i, (start, target, steps) in enumerate(zip(found["start"], found["target"], found["steps"], strict=True)):
        states = found["states"][i]
        np.testing.assert_array_equal(states[0], real["observations"][start])
        rows = np.minimum(target + np.arange(H - steps), real["end"][target] - 1)
        np.testing.assert_array_equal(states[steps:], real["observations"][rows])
        between = real["observations"][start] + PACE * np.arange(1, steps)[:, None]
        np.testing.assert_allclose(states[1:steps], between, atol=1e-6)


def test_actions_rewards_and_errors_are_those_of_the_system(found, known):
    changes = np.diff(found["states"], axis=1)
    np.testing.assert_allclose(found["actions"], np.clip(changes, -FARTHEST, FARTHEST), atol=1e-5)
    np.testing.assert_allclose(found["rewards"], found["states"][:, :-1, 0], atol=1e-5)
    std = float(of_dynamics(known[0]).normalisers["observations"].std[0])
    beyond = np.square(changes - np.clip(changes, -FARTHEST, FARTHEST)).sum(-1) / std**2
    bridge = np.arange(H - 1) < found["steps"][:, None]
    np.testing.assert_allclose(found["error"], (beyond * bridge).max(1), atol=1e-5)
    assert (found["error"] > 1e-3).any() and (found["error"][found["near"]] < 1e-5).any()


def test_bridges_are_refused_for_each_reason(known, found, real):
    near = found["near"]
    ends = (found["states"][:, 1:, 0] > 0.3) & (np.arange(H - 1) < found["steps"][:, None])
    np.testing.assert_array_equal(found["lasting"], near & ~ends.any(1))
    assert (near & ~found["lasting"]).any()
    np.testing.assert_array_equal(found["consistent"], near & (found["error"] < 1e-3))
    assert (near & (found["error"] > 1e-3)).any()
    np.testing.assert_array_equal(found["accepted"], found["consistent"] & found["lasting"] & found["better"])
    assert 3 < found["accepted"].sum() < near.sum()


@pytest.mark.parametrize(("longest", "discount"), [(0, 1.0), (12, 0.9)])
def test_a_stitched_episode_returns_more_than_the_original(known, longest, discount):
    """By sums over whole episodes, of the target's own rewards."""
    (spec, ready), data = known, line()
    spec = replace(spec, kept=spec.kept | {"real": real_rows(data, discount)})
    real, found = spec.kept["real"], stitched((spec, ready), longest_episode=longest, discount=discount)
    gained = []
    for i in np.flatnonzero(found["near"]):
        start, target, steps, rest = (int(found[name][i]) for name in ("start", "target", "steps", "rest"))
        begin, end, left = real["begin"][start], real["end"][start], real["end"][target] - target
        assert rest == (np.clip(longest - (start - begin) - steps, 0, left) if longest else left)
        parts = data.rewards[begin:start], found["rewards"][i, :steps], data.rewards[target : target + rest]
        stitch, original = np.concatenate(parts), data.rewards[begin:end]
        after, before = (float(row @ discount ** np.arange(len(row))) for row in (stitch, original))
        if abs(after - before) > 1e-4:
            assert found["better"][i] == (after > before and rest > 0)
        gained.append(after - before)
    assert max(gained) > 0.3
    assert not longest or (~found["better"] & found["near"]).any()


# Episodes


def test_pieces_are_laid_one_after_another():
    data = line()
    real = jax.device_get(real_rows(data, 1.0))
    states = np.arange(H, dtype=np.float32)[None, :, None]
    stitches = {
        "start": np.array([3]),
        "target": np.array([40]),
        "steps": np.array([4]),
        "rest": np.array([3]),
        "states": states,
        "actions": states[:, :-1] / 10,
        "rewards": states[:, :-1, 0] + 100,
    }
    rows = laid(stitches, real)
    np.testing.assert_array_equal(rows["observations"][:3], data.observations[:3])
    np.testing.assert_array_equal(rows["observations"][3:7, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(rows["next_observations"][3:7, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(rows["observations"][7:], data.observations[40:43])
    np.testing.assert_array_equal(rows["rewards"], [*data.rewards[:3], 100, 101, 102, 103, *data.rewards[40:43]])
    np.testing.assert_array_equal(rows["timeouts"], [False] * 9 + [True])
    ended = laid(stitches | {"target": np.array([42])}, real)
    assert ended["terminals"].tolist() == [False] * 9 + [True]
    assert not ended["timeouts"].any()
    none = laid({name: each[:0] for name, each in stitches.items()}, real)
    assert {name: len(each) for name, each in none.items()} == dict.fromkeys(rows, 0)


def made(known, n, start=0, **changed):
    spec, ready = known
    return list(replace(ALGORITHM, **changed).chunks(ready, spec, jax.random.key(0), n, start))


def test_what_comes_out_are_whole_episodes(known):
    (made_,) = made(known, 150)
    assert len(made_) == 150
    assert not (made_.terminals & made_.timeouts).any()
    inside = ~made_.last[:-1]
    jumps = np.abs(made_.observations[1:] - made_.next_observations[:-1])[inside]
    assert jumps.max() == 0
    begins, ends = made_.episodes[:-1, 0], made_.episodes[:-1, 1] - 1
    assert made_.terminals[ends].all() and made_.timeouts[-1]
    assert (made_.observations[begins] < 0.5).all() and (made_.observations[ends] > 0.8).all()
    sums = [made_.rewards[a:b].sum(dtype=np.float64) for a, b in made_.episodes]
    np.testing.assert_allclose(made_.returns, sums, atol=1e-6)
    assert made_.returns[:-1].min() > line().returns[:4].max()
    assert len(windows(made_, known[0], H)) > 0 and len(transitions(made_, known[0])) == 150


def test_bridges_alone_are_laid_one_after_another():
    states = np.arange(2 * H, dtype=np.float32).reshape(2, H, 1)
    stitches = {
        "steps": np.array([4, 2]),
        "states": states,
        "actions": -states[:, :-1],
        "rewards": states[:, :-1, 0] + 100,
    }
    rows = bridges(stitches)
    np.testing.assert_array_equal(rows["observations"][:, 0], [0, 1, 2, 3, H, H + 1])
    np.testing.assert_array_equal(rows["next_observations"][:, 0], [1, 2, 3, 4, H + 1, H + 2])
    np.testing.assert_array_equal(rows["actions"], -rows["observations"])
    np.testing.assert_array_equal(rows["rewards"], rows["observations"][:, 0] + 100)
    assert rows["timeouts"].tolist() == [False] * 3 + [True, False, True] and not rows["terminals"].any()
    assert {len(each) for each in bridges({name: each[:0] for name, each in stitches.items()}).values()} == {0}


def test_what_comes_out_may_be_bridges_alone(known, real):
    """From a real row, where an episode is left, and cut where the other is reached; the chunk is full in the last."""
    (made_,) = made(known, 60, chunk=60, kept="bridge")
    lengths = np.diff(made_.episodes)[:, 0]
    assert not made_.terminals.any() and made_.timeouts[made_.episodes[:, 1] - 1].all()
    assert ((lengths[:-1] >= 2) & (lengths[:-1] <= 8)).all()
    places, after = real["observations"][:, 0], made_.next_observations[:, 0]
    begins, ends = made_.episodes[:-1, 0], made_.episodes[:-1, 1] - 1
    assert np.isin(made_.observations[begins, 0], places).all() and np.isin(after[ends], places).all()
    inside = ~made_.last[:-1]
    np.testing.assert_array_equal(made_.observations[1:][inside], made_.next_observations[:-1][inside])
    np.testing.assert_allclose(made_.rewards, made_.observations[:, 0], atol=1e-5)
    sums = [made_.rewards[a:b].sum(dtype=np.float64) for a, b in made_.episodes]
    np.testing.assert_allclose(made_.returns, sums, atol=1e-6)
    assert replace(ALGORITHM, kept="bridge").kept == DiffStitch().kept and DiffStitch().deviation == 3


def test_chunks_go_on_from_where_they_were(known):
    whole, fewer = made(known, 400), made(known, 320)
    rest = made(known, 400, start=150)
    assert [len(each) for each in whole] == [150, 150, 100]
    assert [each.fingerprint for each in rest] == [each.fingerprint for each in whole[1:]]
    for name in ("observations", "actions", "rewards", "terminals"):
        np.testing.assert_array_equal(getattr(fewer[-1], name), getattr(whole[-1], name)[:20])
    assert (whole[0].observations != whole[1].observations).any()
    assert whole[0].last[-1]


def test_a_bound_that_no_bridge_keeps_is_refused_in_a_sentence(known, monkeypatch):
    monkeypatch.setattr(chunked, "BARREN", 2)
    sentence = r"80 bridges came to 0 steps .* chunk has 150: of the first 40, \d+ found a target that is near, 0 were "
    with pytest.raises(ReverieError, match=sentence + r"then consistent .*Raise nearness = 0.07, deviation = 0 or"):
        made(known, 150, deviation=0.0)


# What it learns from, and refusals


def test_half_of_the_windows_also_know_where_they_end():
    x = jnp.zeros((400, H, 1))
    mask = np.asarray(ALGORITHM.known_in_training(None, x, None, jax.random.key(0)))[..., 0]
    begins = np.where(mask[:, 1:].any(1), 1 + mask[:, 1:].argmax(1), H)
    assert mask[:, 0].all()
    np.testing.assert_array_equal(mask[:, 1:], np.arange(1, H) >= begins[:, None])
    assert set(begins) == {*range(2, 9), H}
    assert 0.4 < (begins == H).mean() < 0.6


def test_what_is_known_is_drawn_by_a_key_that_the_loss_does_not_use(monkeypatch):
    split, used, key = jax.random.split, [], jax.random.key(0)

    def spied(key, *counts):
        used.append(jax.random.key_data(key).tolist())
        return split(key, *counts)

    monkeypatch.setattr(jax.random, "split", spied)
    ALGORITHM.known_in_training(None, jnp.zeros((4, H, 1)), None, key)
    assert used
    assert not [each for each in used if each in jax.random.key_data(split(key)).tolist()]


def test_what_is_stitched_is_kept_with_the_specification(known, tmp_path):
    known[0].save(tmp_path / "spec")
    again = Spec.load(tmp_path / "spec")
    for mine, theirs in zip(jax.tree.leaves(known[0]), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert set(again.kept) == {"real", "held_out"}


def test_batches_have_windows_and_256_steps_of_every_member_s():
    view, _ = ALGORITHM.prepare(line())
    batch = view.draw(jax.random.key(0), 8)
    assert batch["observations"].shape == (8, H, 1)
    assert batch["steps"]["changes"].shape == (8, 32, 2, 1)
    numbers = np.asarray(batch["steps"]["index"])
    assert numbers.shape == (8, 32, 2) and len(np.unique(numbers[..., 0])) > 30
    many, _ = replace(ALGORITHM, batch_size=300).prepare(line())
    assert (view.several, many.several) == (32, 1)
    assert batch["index"].shape == (8,) and len(view) == 72


def test_data_that_cannot_do_are_refused_in_a_sentence():
    with pytest.raises(DataError, match=r"All 8 episodes return 9, so that none is better .* or choose synther"):
        ALGORITHM.prepare(line(rewards=np.ones(72)))
    with pytest.raises(DataError, match="no rewards"):
        ALGORITHM.prepare(line(rewards=None))
    with pytest.raises(DataError, match="no terminals"):
        ALGORITHM.prepare(line(terminals=None, timeouts=np.arange(72) % 9 == 8))
    short = replace(ALGORITHM, rows_left=9)
    with pytest.raises(DataError, match=r"more than rows_left = 9 steps .* longest episode has 9; give less"):
        short.prepare(line())
    with pytest.raises(DataError, match=r"No row has more than rows_left = 9 steps"):
        short.ready(None, ALGORITHM.prepare(line())[1])
    assert DiffStitch().rows_left == 100


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"stride": 2}, "stride = 2 would leave out steps of the bridges"),
        ({"longest_bridge": 12}, "longest_bridge = 12 steps do not fit horizon = 12 rows"),
        ({"shortest_bridge": 9}, "shortest_bridge = 9 and longest_bridge = 8 steps do not fit"),
        ({"elites": 3}, "elites = 3 exceeds members = 2"),
        ({"deviation": -1.0}, "deviation = -1.0, but it must be"),
    ],
)
def test_fields_that_cannot_work_are_refused(changed, sentence):
    with pytest.raises(ReverieError, match=sentence):
        DiffStitch(**TINY | changed)


# A gap that is crossed


def plane(gap):
    """Sixty episodes of 14 steps in the plane. Half go from (-0.8, 0) to the middle, and then up, for nothing; the
    others from (gap, -0.4) up to the same height, and on along it, for 1 at the end."""
    draw, episodes = np.random.default_rng(0), []
    for good in np.arange(60) % 2 == 1:
        place = np.array([gap, -0.4] if good else [-0.8, 0.0]) + draw.normal(0, 0.03, 2)
        for _ in range(14):
            up = place[1] < -0.02 if good else place[0] >= -0.02
            column = (gap if good else 0.0) - place[0]
            action = np.array([column if good else 0.0, PACE] if up else [PACE, -place[1]]) + draw.normal(0, 0.02, 2)
            action = np.clip(action, -0.15, 0.15)
            episodes.append((place, action, place + action))
            place = place + action
    places, actions, after = (np.array(column) for column in zip(*episodes, strict=True))
    last, good = np.arange(840) % 14 == 13, np.arange(840) // 14 % 2 == 1
    given = {"rewards": last & good, "terminals": last & good, "timeouts": last & ~good}
    return Dataset.from_arrays(places, actions, **given, next_observations=after, action_low=-0.15, action_high=0.15)


LEARNER = Flat(
    units="minmax",
    horizon=16,
    width=16,
    multipliers=(1,),
    diffusion_steps=10,
    discount=1.0,
    termination_penalty=0.0,
    hidden=(32,),
    members=2,
    elites=2,
    ensemble_hidden=(32,),
    ensemble_learning_rate=3e-3,
    held_out=20,
    learning_rate=2e-3,
    batch_size=32,
    ema_start=200,
    ema_decay=0.9,
    rows_left=0,
    targets=0.5,
    candidates=64,
    shortest_bridge=3,
    longest_bridge=10,
    deviation=0.03,
    attempts=64,
    chunk=400,
    kept="episode",
)


UPDATES = 1000


@pytest.fixture(scope="module")
def crossed():
    return reverie.fit(LEARNER, plane(0.0), steps=UPDATES, progress=False)


def tried(run):
    ready = run.algorithm.ready(run.state(), run.spec)
    return jax.device_get(run.algorithm.stitches(ready, run.spec, jax.random.key(0)))


def test_stitched_episodes_go_from_the_start_to_the_goal_as_the_plane_does(crossed):
    """Their actions, taken in the plane, lead where they say."""
    assert {"diffusion_loss", "inverse_loss", "model_error", "ending_loss"} <= set(crossed.metrics())
    found = tried(crossed)
    assert found["accepted"].mean() > 0.2
    for i in np.flatnonzero(found["accepted"]):
        steps = found["steps"][i]
        followed = found["states"][i, 0] + np.cumsum(found["actions"][i, :steps], 0)
        assert np.abs(followed - found["states"][i, 1 : steps + 1]).max() < 0.15
    made = crossed.generate(400, progress=False)
    begins, ends = made.episodes[:-1, 0], made.episodes[:-1, 1] - 1
    assert (made.observations[begins, 0] < -0.7).any()
    assert made.terminals[ends].all() and (made.rewards[ends] == 1).all() and (made.observations[ends, 0] > 0.2).all()


def test_hardly_any_is_accepted_where_the_two_are_out_of_reach(crossed):
    assert tried(reverie.fit(LEARNER, plane(1.2), steps=UPDATES, progress=False))["accepted"].mean() < 0.05
