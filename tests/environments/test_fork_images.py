"""The fork as a picture: the same task, whatever it looks like."""

import numpy as np

from reverie.environments import make
from reverie.environments.fork import GOAL, OBSTACLE, SIZE
from reverie.environments.fork_images import COLOURS, PIXELS, PLAIN, Look, draw, draw_look


def place_of(image, colour):
    """The middle of the pixels of that colour."""
    rows, columns = np.nonzero((image == colour).all(-1))
    return np.array([columns.mean() + 0.5, PIXELS - rows.mean() - 0.5]) / PIXELS * 2 * SIZE - SIZE


def test_a_picture_shows_where_everything_is():
    image = draw((0.6, -0.4))
    assert image.shape == (PIXELS, PIXELS, 3) and image.dtype == np.uint8
    pixel = 2 * SIZE / PIXELS
    for name, place in {"agent": (0.6, -0.4), "goal": GOAL, "obstacle": OBSTACLE}.items():
        assert np.abs(place_of(image, COLOURS[name]) - place).max() < pixel / 2, name
    colours = {tuple(colour) for colour in image.reshape(-1, 3).tolist()}
    assert colours == {*COLOURS.values(), (235, 235, 235)}


def test_a_look_changes_the_ground_alone():
    plain, changed = draw((0.3, 0.5)), []
    ground = (plain == 235).all(-1)
    for seed in range(100):
        image = draw((0.3, 0.5), draw_look(np.random.default_rng(seed)))
        np.testing.assert_array_equal(image[~ground], plain[~ground])
        changed.append((image != plain).any(-1)[ground].mean())
    assert min(changed) > 0.9


def test_the_ground_is_two_colours_and_discs_lie_on_it():
    colours, still = np.array([[10.0, 20, 30], [210, 20, 30]]), np.zeros(3)
    look = Look(colours, still, np.array([[1.0, 1.0, 0.2]]), np.array([[1.0, 2, 3]]))
    image = draw((0.0, -1.0), look)
    np.testing.assert_array_equal(image[-1, -1], [110, 20, 30])  # half of each where the wave is 0
    np.testing.assert_allclose(place_of(image, (1, 2, 3)), [1, 1], atol=0.07)
    striped = draw((0.0, -1.0), look._replace(wave=np.array([np.pi / SIZE, 0, 0])))
    assert striped[0, :, 0].min() < 15 and striped[0, :, 0].max() > 205  # a whole wave across


def test_the_task_is_the_fork_s():
    states, plain, looks = (make(name) for name in ("fork", "fork-images", "fork-looks"))
    for seed in range(3):
        position = states.reset(seed=seed)[0]
        first = [env.reset(seed=seed)[0] for env in (plain, looks)]
        np.testing.assert_array_equal(first[0], draw(plain.position))
        for env in (plain, looks):
            np.testing.assert_array_equal(env.position.astype(np.float32), position)
        for _ in range(15):
            action = np.random.default_rng(seed).uniform(-0.1, 0.1, 2)
            expected = states.step(action)
            for env in (plain, looks):
                seen, *rest = env.step(action)
                assert rest == list(expected[1:])
                np.testing.assert_array_equal(seen, draw(env.position, env.look))
                assert env.observation_space.contains(seen)
    assert plain.look is PLAIN
    assert looks.spec.id == "fork-looks"


def test_a_seed_fixes_the_look_which_lasts_for_the_episode():
    env = make("fork-looks")
    seen = [env.reset(seed=seed)[0] for seed in (1, 2, 1)]
    np.testing.assert_array_equal(seen[0], seen[2])
    assert (seen[0] != seen[1]).any(-1).mean() > 0.8
    look = env.look
    env.step((0.0, 0.05))
    assert env.look is look
