import io

import gymnasium
import numpy as np
import pytest
from PIL import Image

from reverie.errors import ReverieError
from reverie.evaluation import evaluate, video


class Lamp(gymnasium.Env):
    """The brightness of its picture is what its actions sum up to; so is the reward of the last step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = None
    observation_space = gymnasium.spaces.Box(-9, 9, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.light, self.steps = float(self.np_random.uniform(0, 5)), 0
        return np.array([self.light], np.float32), {}

    def step(self, action):
        self.light, self.steps = self.light + float(action[0]), self.steps + 1
        return np.array([self.light], np.float32), self.light, False, self.steps == 5, {}

    def render(self):
        return np.full((600, 301, 3), 20 * self.light, np.uint8) if self.render_mode == "rgb_array" else None


class Brighter:
    name = "brighter"

    def reset(self, n):
        self.n = n

    def act(self, observations, *_):
        return np.full((self.n, 1), 0.5, np.float32)


def brightness(picture):
    return np.asarray(picture.convert("L"), float).mean()


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_the_best_and_the_worst_are_filmed_from_the_first_state_to_the_last(suffix, tmp_path, monkeypatch):
    if suffix == "mp4":
        av = pytest.importorskip("av")
    monkeypatch.setattr(video, "_has_av", lambda: suffix == "mp4")
    scores = evaluate(Brighter(), Lamp, episodes=5, progress=False, video=tmp_path / "films", filmed=3)
    returns = scores.returns[0, :3]
    names = {f"Lamp-{name}-{value:.4g}.{suffix}" for name, value in (("best", returns.max()), ("worst", returns.min()))}
    assert {path.name for path in (tmp_path / "films").iterdir()} == names
    best = next(tmp_path.glob("films/*best*"))
    if suffix == "mp4":
        pictures = [frame.to_image() for frame in av.open(str(best)).decode(video=0)]
    else:
        film = Image.open(best)
        pictures = []
        for at in range(film.n_frames):
            film.seek(at)
            pictures.append(film.copy())
        assert film.info["duration"] == 100
    assert len(pictures) == 6 and max(pictures[0].size) <= 480
    steps = np.diff([brightness(picture) for picture in pictures])
    np.testing.assert_allclose(steps, 10, atol=2)


def test_a_fast_task_is_a_gif_of_fewer_frames(tmp_path):
    pictures = []
    for light in range(40):
        Image.new("RGB", (8, 8), (light, 0, 0)).save(file := io.BytesIO(), "JPEG")
        pictures.append(file.getvalue())
    film = Image.open(video.save(pictures, tmp_path / "fast.gif", 100.0))
    assert film.n_frames == 8 and film.info["duration"] == 50


def test_one_episode_is_one_film(tmp_path):
    evaluate(Brighter(), Lamp, episodes=1, progress=False, video=tmp_path, filmed=4)
    assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["best"]


def test_what_draws_nothing_is_said_in_a_sentence(tmp_path):
    class Dark(Lamp):
        def render(self):
            raise NotImplementedError

    with pytest.raises(ReverieError, match=r"Dark cannot be drawn .*: no video"):
        evaluate(Brighter(), Dark, episodes=1, progress=False, video=tmp_path)

    class Blind(Lamp):
        def render(self):
            return None

    with pytest.raises(ReverieError, match="Blind draws no pictures of its states: no video"):
        evaluate(Brighter(), Blind, episodes=1, progress=False, video=tmp_path)
