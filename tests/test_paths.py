"""Where files are kept, and that one is whole or not there."""

from pathlib import Path

import pytest

from reverie.errors import DataError
from reverie.paths import cache_folder, replacing


def test_the_cache_is_where_the_environment_says_else_at_home(monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.setenv("REVERIE_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "reverie"


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "file"
    with replacing(str(target)) as unfinished:
        unfinished.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error, raised", [(OSError("disk full"), DataError), (KeyError("x"), KeyError)])
def test_an_error_leaves_what_was_there(tmp_path, error, raised):
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(raised), replacing(str(target)) as unfinished:
        unfinished.write_text("half")
        raise error
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
