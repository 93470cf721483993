"""Frames out of videos and images: the right ones, in the right size."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from recorded import FPS, encoded, write_video

from reverie.data.frames import Frame, read_image, read_video
from reverie.errors import DataError

STRIPES = np.zeros((8, 12, 3), np.uint8)
STRIPES[:, 1::2] = 200
"""Columns of 0 and 200 side by side: 100 for whoever averages, and for nobody else."""
WIDE = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
"""Brighter from left to right alone."""


def seen(path, seconds, frame):
    images = np.zeros((len(seconds), *frame.shape), np.uint8)
    read_video(path, np.asarray(seconds), FPS, frame, images.__setitem__)
    return images


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A video of 60 frames of noise, of which only every 12th can be decoded alone."""
    path = tmp_path_factory.mktemp("frames") / "numbered.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (60, 16, 24, 3), dtype=np.uint8)
    write_video(path, frames)
    return path, frames


@pytest.mark.parametrize("rows", [range(60), range(37, 45), [0, 1, 30, 31, 59], [59]], ids=str)
def test_each_second_has_its_frame_from_wherever_in_the_video(numbered, rows):
    path, frames = numbered
    rows = np.array(rows)
    np.testing.assert_array_equal(seen(path, rows / FPS, Frame(16, 24, 3)), frames[rows])


@pytest.mark.parametrize("late", [-0.049, 0.049])
def test_the_frame_is_the_nearest_within_half_a_step(numbered, late):
    path, frames = numbered
    rows = np.arange(1, 50)
    np.testing.assert_array_equal(seen(path, rows / FPS + late, Frame(16, 24, 3)), frames[rows])


def test_a_second_beyond_the_video_has_no_frame(numbered):
    with pytest.raises(DataError, match=r"numbered.mp4' has no frame at 6.000 s, and the data have 2 more steps"):
        seen(numbered[0], [5.9, 6.0, 6.1], Frame(16, 24, 3))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_smaller_images_are_averages_and_not_turned(tmp_path, kind):
    small = []
    for number, picture in enumerate((STRIPES, WIDE)):
        frame = Frame(8, 12, 3, (4, 6))
        if kind == "image":
            small.append(read_image(encoded(picture)["bytes"], "it", frame).astype(int))
        else:
            write_video(tmp_path / f"{number}.mp4", picture[None])
            small.append(seen(tmp_path / f"{number}.mp4", [0.0], frame)[0].astype(int))
    # At a border a filter that is as wide as four columns sees fewer of one kind than of the other.
    assert np.abs(small[0][:, 1:-1] - 100).max() <= 3
    assert (np.diff(small[1][:, :, 0], axis=1) > 0).all() and np.ptp(small[1], axis=0).max() <= 1


def test_channels_are_those_that_are_asked_for(tmp_path):
    grey = np.full((1, 8, 12, 3), 90, np.uint8)
    write_video(tmp_path / "grey.mp4", grey)
    assert np.abs(seen(tmp_path / "grey.mp4", [0.0], Frame(8, 12, 1)).astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(read_image(encoded(grey[0])["bytes"], "it", Frame(8, 12, 1)), grey[0, :, :, :1])


def test_what_is_no_image_of_8_bits_is_named():
    stream = BytesIO()
    Image.fromarray(np.zeros((8, 12), np.uint16)).save(stream, "PNG")
    with pytest.raises(DataError, match=r"'top' in row 3 is an image of mode 'I;16', not of 8 bits"):
        read_image(stream.getvalue(), "'top' in row 3", Frame(8, 12, 1))
    with pytest.raises(DataError, match=r"'top' in row 3 is no whole image \(UnidentifiedImageError"):
        read_image(b"none", "'top' in row 3", Frame(8, 12, 1))
