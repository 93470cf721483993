import numpy as np
import pytest

from reverie.collection.parts import collecting
from reverie.collection.pusht import EPISODE, Demonstrations, Settings
from reverie.collection.recipe import Part
from reverie.environments import make

pytest.importorskip("pymunk")
pytest.importorskip("shapely")

QUICK = Settings(drawn=100, tried=4)


def collect(name="pusht", episodes=3, seed=1, broken=False):
    with collecting(Demonstrations(name, QUICK, together=1), name, steps=episodes * EPISODE, seed=seed) as data:
        if broken:
            raise KeyboardInterrupt
        return data


@pytest.fixture(scope="module")
def data():
    return collect(episodes=4)


def _first_start(seed):
    rng = Part(0, 1, seed).rng()
    rng.choice((1, -1))
    return int(rng.integers(2**31))


def test_demonstrations_end_in_success_and_tell_of_it(data):
    ends = data.episodes[:, 1] - 1
    assert len(ends) == 4 and data.terminals[ends].all() and not data.timeouts.any()
    np.testing.assert_array_equal(data.infos["success"], data.terminals)
    np.testing.assert_array_equal(data.infos["success"], data.infos["coverage"] >= 0.95)
    np.testing.assert_allclose(data.rewards, np.minimum(1, data.infos["coverage"] / 0.95), rtol=1e-6)
    assert data.attributes["successful_episodes"] == "100.0%"


def test_both_styles_occur_each_for_a_whole_episode(data):
    styles = [set(data.infos["style"][start:stop].tolist()) for start, stop in data.episodes]
    assert all(len(style) == 1 for style in styles) and set.union(*styles) == {-1, 1}
    assert data.attributes["best_reward_clockwise"] == data.attributes["best_reward_anticlockwise"] == "1.000"


def test_targets_stay_near_the_agent_and_in_the_workspace(data):
    assert np.linalg.norm(data.actions - data.observations[:, :2], axis=1).max() < 60
    assert data.actions.min() >= 0 and data.actions.max() <= 512 and data.action_high.tolist() == [512, 512]


def test_the_environment_does_the_same_again(data):
    env = make("pusht")
    seen = env.reset(seed=_first_start(1))[0]
    for row in range(*data.episodes[0]):
        np.testing.assert_array_equal(seen, data.observations[row])
        seen, reward, *_ = env.step(data.actions[row])
        assert reward == pytest.approx(data.rewards[row], abs=1e-6)
        np.testing.assert_array_equal(seen, data.next_observations[row])


def test_a_stopped_collection_goes_on_bit_for_bit(data, tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        collect(episodes=4, broken=True)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 4
    files[2].unlink()
    monkeypatch.setattr(Demonstrations, "collect", _only(2, Demonstrations.collect))
    assert collect(episodes=4).fingerprint == data.fingerprint


def _only(index, collect):
    def checked(self, part, progress=False):
        assert part.index == index
        return collect(self, part, progress)

    return checked


def test_images_show_the_same_episodes(data):
    seen = collect("pusht-images", episodes=1)
    start, stop = data.episodes[0]
    np.testing.assert_array_equal(seen.actions, data.actions[start:stop])
    np.testing.assert_array_equal(seen.observations["agent"], data.observations[start:stop, :2])
    assert seen.observations["image"].shape == (stop - start, 64, 64, 3) and seen.next_observations is None
    env = make("pusht-images")
    np.testing.assert_array_equal(seen.observations["image"][0], env.reset(seed=_first_start(1))[0]["image"])


def test_a_part_depends_on_itself_only():
    recipe = Demonstrations("pusht", QUICK, together=1)
    first, second = (recipe.collect(Part(index, EPISODE, 5)) for index in (0, 1))
    again = recipe.collect(Part(1, EPISODE, 5))
    for key, column in second.items():
        np.testing.assert_array_equal(again[key], column)
    assert (first["observations"][0] != second["observations"][0]).any()
