import sys
from types import SimpleNamespace

import pytest

import reverie
from reverie.errors import RunError
from reverie.training.hub import fetched


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub's library, which has one run."""
    calls = []

    def download(repository, name, revision=None):
        calls.append((repository, name, revision))
        if repository != "us/hopper":
            raise ValueError("Repository not found.\nDetails follow.")
        return str(tmp_path / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    return calls


def test_a_name_is_a_repository_and_a_revision(hub, tmp_path):
    assert fetched("hf:us/hopper") == fetched("hf:us/hopper@v2") == tmp_path / "model.safetensors"
    assert hub == [("us/hopper", "model.safetensors", None), ("us/hopper", "model.safetensors", "v2")]


def test_load_reads_what_was_fetched(hub, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no such file")
    with pytest.raises(RunError, match=r"model.safetensors"):
        reverie.load("hf:us/hopper")


def test_a_run_that_is_not_there_and_a_missing_library_are_one_sentence(hub, monkeypatch):
    with pytest.raises(RunError, match=r"^'hf:us/walker' cannot be fetched: Repository not found\.$"):
        reverie.load("hf:us/walker")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RunError, match=r'pip install "reverie\[hub\]"'):
        reverie.load("hf:us/hopper")
