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


class Line(Lamp):
    """Its state is a place on a line of 100 pixels, 40 high."""

    def render(self):
        return np.full((40, 100, 3), 255, np.uint8)

    @property
    def state(self):
        return np.array([self.light])

    def project(self, states):
        return np.stack([10 * np.asarray(states), np.full(np.shape(states), 20.0)], -1)


class Planner(Brighter):
    """Plans to go on to 3 brighter than it is, by the first environment two pixels higher."""

    def act(self, observations, *_):
        self.seen = observations
        return super().act(observations)

    def planned(self, i):
        return self.seen[i] + np.arange(4)[:, None]


def shows(picture, colour):
    """Columns in which the row of the state is nearer to this colour than to white."""
    row = np.asarray(picture, float)[20]
    return np.flatnonzero(np.abs(row - colour).sum(-1) < np.abs(row - 255).sum(-1))


def test_a_line_covers_known_pixels():
    picture = np.full((40, 100, 3), 255, np.uint8)
    drawn = video.with_lines(picture, [(np.array([[[10.0, 20.0]], [[60.0, 20.0]]]), (0, 0, 255, 255))])
    rows, columns = np.nonzero((drawn == (0, 0, 255)).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max(), len(rows)) == (19, 20, 10, 59, 2 * 50)
    faint = video.with_lines(drawn, [(np.array([[[60.0, 20.0]], [[np.nan, 20.0]], [[90.0, 20.0]]]), (255, 0, 0, 51))])
    np.testing.assert_array_equal(faint[20, 65:88], np.tile([255, 204, 204], (23, 1)))
    np.testing.assert_array_equal(faint[20, 11:58], drawn[20, 11:58])


def test_a_plan_is_drawn_on_the_picture_of_the_state_it_was_made_in_and_the_way_taken_above_it():
    envs = [Line(), Line()]
    policy = Planner()
    films = video.film(envs, 2, policy)
    seen = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, (1, 4), strict=True)])
    policy.reset(2)
    start = 10 * float(seen[1, 0])
    for _ in range(3):
        actions = policy.act(seen)
        seen = np.stack([env.step(action)[0] for env, action in zip(envs, actions, strict=True)])
    first, second, third, last = (Image.open(io.BytesIO(frame)) for frame in films[1].frames)
    red, blue = 255 + (np.array(video.PLANNED[:3]) - 255) * video.PLANNED[3] / 255, np.array(video.TAKEN[:3])

    def span(picture, colour):
        found = shows(picture, colour)
        return [found.min(), found.max()]

    np.testing.assert_allclose(span(first, red), [start, start + 30], atol=3)
    np.testing.assert_allclose(span(third, red)[1], start + 40, atol=3)
    np.testing.assert_allclose(span(last, red)[1], start + 40, atol=3)  # the last one that was made
    row = np.asarray(third, float)[20]
    is_blue = np.flatnonzero(np.abs(row - blue).sum(-1) < 120)
    np.testing.assert_allclose([is_blue.min(), is_blue.max()], [start, start + 10], atol=3)
    assert second.size == (100, 40)


def test_the_film_is_the_policy_s_and_not_the_reference_s(tmp_path, monkeypatch):
    """By which the same environments are played in."""
    pytest.importorskip("gymnasium_robotics")
    kept = []
    monkeypatch.setattr(video, "write_films", lambda films, *_: kept.extend(films))

    class Still:
        name = "still"

        def reset(self, n):
            self.n = n

        def act(self, observations, *_):
            return np.zeros((self.n, 2), np.float32)

    evaluate(Still(), "pointmaze-umaze-single", episodes=1, max_steps=30, progress=False, video=tmp_path, filmed=1)
    assert len(kept[0].frames) == 31
    away = np.abs(np.stack(kept[0].taken) - kept[0].taken[0]).max()
    assert away < 2  # the controller is further on


def test_each_film_is_of_its_own_task(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(video, "write_films", lambda films, *_: kept.extend(films))

    class East(Brighter):
        def act(self, observations, *_):
            return np.full((self.n, 2), [0.1, 0.0], np.float32)

    scores = evaluate(East(), "compass", episodes=3, progress=False, video=tmp_path, filmed=2)
    assert [one.unwrapped.task for one in kept] == [0, 1]
    assert scores.tasks == 8 and scores.successes.tolist() == [[True, False, False]]


def test_a_notebook_shows_a_film(tmp_path):
    gif, mp4 = tmp_path / "a.gif", tmp_path / "a.mp4"
    for path in (gif, mp4):
        path.write_bytes(b"film")
    assert 'src="data:image/gif;base64,ZmlsbQ=="' in video.Film(gif)._repr_html_()
    assert 'src="data:video/mp4;base64,ZmlsbQ=="' in video.Film(mp4)._repr_html_()
