"""The command line as it is typed: what works, and what a mistake is answered with."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from reverie.cli import main
from reverie.data import Dataset

TINY = ["--horizon", "8", "--width", "16", "--multipliers", "2", "--diffusion-steps", "4", "--batch-size", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of 8 short episodes with a wandering mass, and a run of 4 updates on it."""
    path = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(
        rng.normal(size=(160, 3)), rng.uniform(-1, 1, (160, 1)), rng.normal(size=160),
        timeouts=np.arange(160) % 20 == 19,
    )  # fmt: skip
    data.save(f"d4rl:{path}/pendulum.hdf5")
    arguments = ["train", "diffuser", "--data", f"d4rl:{path}/pendulum.hdf5", "--steps", "4", "--seeds", "2"]
    assert main([*arguments, "--out", f"{path}/run", "--candidates", "2", *TINY]) == 0
    return path


def answer(capsys, *arguments):
    """Exit status, and what was said on standard error."""
    try:
        status = main(list(map(str, arguments)))
    except SystemExit as stop:  # tyro's own errors
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.err + captured.out


def test_a_run_has_all_its_files(folder):
    run = folder / "run"
    assert json.loads((run / "config.json").read_text())["algorithm"]["horizon"] == 8
    assert (run / "metrics.csv").read_text().startswith("seed,step,")
    assert (run / "plots" / "learning.png").stat().st_size > 5_000


def test_eval_prints_the_table_and_keeps_it(folder, capsys):
    status, said = answer(capsys, "eval", folder / "run", "--env", "Pendulum-v1", "--episodes", 2, "--max-steps", 3)
    assert status == 0
    assert "diffuser in Pendulum-v1" in said
    assert "95 % over" in said
    scores = json.loads((folder / "run" / "evaluation.json").read_text())["Pendulum-v1"][0]
    assert np.shape(scores["returns"]) == (2, 2)
    assert np.all(np.array(scores["lengths"]) == 3)


def test_acting_changes_how_a_run_acts_and_says_so(folder, capsys):
    run, few = folder / "run", ["--env", "Pendulum-v1", "--episodes", 2, "--max-steps", 2]
    status, said = answer(capsys, "eval", run, *few, "--acting", "candidates=1", "solver=ddim")
    assert status == 0
    assert "candidates=1, solver=ddim" in said
    status, said = answer(capsys, "eval", run, *few, "--acting", "candidate=1")
    assert status == 2
    assert "'candidate' is nothing that diffuser can change in acting; it can change nfe" in said
    assert "'candidates' is no FIELD=VALUE" in answer(capsys, "eval", run, *few, "--acting", "candidates")[1]


def test_resume_goes_on_to_more_steps(folder, capsys):
    status, said = answer(capsys, "train", "--resume", folder / "run", "--steps", 6)
    assert status == 0
    assert "6 updates of 2 seed(s)" in said


def test_list_and_data_list(capsys):
    assert "diffuser-maze" in answer(capsys, "list")[1]
    listed = answer(capsys, "data", "list")[1]
    assert "pointmaze-large" in listed and "coffee-push" in listed
    assert listed.count("metaworld-") == 3  # one line for the 50 tasks, and both sets of several


def test_data_info_and_make(folder, capsys, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(folder / "cache"))
    source = f"d4rl:{folder}/pendulum.hdf5"
    status, said = answer(capsys, "data", "info", source)
    assert status == 0
    assert "160" in said and "mean " in said and "{" not in said
    [picture] = (folder / "cache" / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.name in "".join(said.split())
    assert answer(capsys, "data", "info", source, "--out", folder / "new" / "it.svg")[0] == 0
    assert "<svg" in (folder / "new" / "it.svg").read_text()
    pytest.importorskip("gymnasium_robotics")
    made = f"d4rl:{folder}/umaze.hdf5"
    assert answer(capsys, "data", "make", "pointmaze-umaze", "--steps", 500, "--out", made)[0] == 0
    assert "regenerated; not a D4RL data set" in answer(capsys, "data", "info", made)[1]


def test_data_info_of_a_part_counts_its_own_steps(tmp_path, capsys):
    rows, ends = np.zeros((6, 1), np.float32), np.arange(6) % 3 == 2
    data = Dataset.from_arrays(rows, rows, timeouts=ends, attributes={"steps": 6, "seed": 5})
    data.save(f"d4rl:{tmp_path}/it.hdf5")
    said = answer(capsys, "data", "info", f"d4rl:{tmp_path}/it.hdf5@every=2", "--out", tmp_path / "it.png")[1]
    assert re.search(r"steps\W+3\b", said) and re.search(r"seed\W+5\b", said)


def test_help_lists_every_field_with_its_text(capsys):
    status, said = answer(capsys, "train", "diffuser", "--help")
    assert status == 0
    for field in ("--horizon", "--guidance-scale", "--solver", "--seeds", "Step of the value"):
        assert field in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fly"], "'fly' is no command of `reverie`; there are list, train"),
        (["data", "burn"], "'burn' is no command of `reverie data`"),
        (["train"], "train needs the name of an algorithm first"),
        (["train", "difuser", "--data", "x", "--steps", "1"], "did you mean one of: diffuser"),
        (["train", "diffuser", "--data", "d4rl:nowhere.hdf5", "--steps", "1"], "nowhere.hdf5"),
        (["train", "diffuser", "--data", "hopper", "--steps", "1"], "hopper"),
        (["train", "diffuser", "--data", "x", "--steps", "1", "--solver", "ddmp"], "solver 'ddmp' is unknown"),
        (["train", "diffuser", "--data", "x", "--steps", "one"], "--steps"),
        (["train", "diffuser", "--data", "x", "--steps", "1", "--horizn", "4"], "--horizn"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["train", "bc", "--data", "parquet:nowhere", "--steps", "1", "--stream"], "no whole data set in 'nowhere'"),
        (["train", "bc", "--data", "d4rl:x.hdf5", "--steps", "1", "--stream"], "'d4rl:x.hdf5' cannot be read in a"),
        (["train", "bc", "--data", "d4rl:x.hdf5", "--steps", "1", "--block-rows", "5"], "5 is of a stream; give"),
        (["eval", "nowhere", "--env", "Pendulum-v1"], "nowhere"),
        (["data", "make", "pointmaze-tiny", "--out", "d4rl:x.hdf5"], "pointmaze-tiny"),
        (["data", "info", "d4rl:x.hdf5", "--out", "x.bmp"], "'x.bmp' is no name of a picture; end it in .png"),
    ],
)
def test_a_mistake_gets_a_sentence_and_a_status(arguments, sentence, capsys):
    status, said = answer(capsys, *arguments)
    assert status == 2
    assert sentence in said
    assert "Traceback" not in said


def test_generate_says_that_a_planner_acts(folder, capsys):
    status, said = answer(capsys, "generate", folder / "run", "-n", 10, "--out", f"d4rl:{folder}/more.hdf5")
    assert status == 2
    assert "diffuser is a planner" in said


def test_a_second_run_in_the_same_folder_is_refused(folder, capsys):
    source = f"d4rl:{folder}/pendulum.hdf5"
    status, said = answer(capsys, "train", "diffuser", "--data", source, "--steps", 4, "--out", folder / "run")
    assert status == 2
    assert "holds a run" in said or "already" in said


def test_a_stream_is_trained_on_and_gone_on_with(tmp_path, capsys):
    from_arrays = Dataset.from_arrays(np.ones((40, 2)), np.zeros((40, 1)), timeouts=np.arange(40) % 4 == 3)
    from_arrays.save(f"parquet:{tmp_path}/shards")
    small = ["--hidden", 4, "--batch-size", 4, "--segment", 1]
    words = ["train", "bc", "--data", f"parquet:{tmp_path}/shards", "--stream", "--block-rows", 9, "--block-updates", 2]
    assert answer(capsys, *words, "--steps", 2, "--out", tmp_path / "bc", *small)[0] == 0
    (tmp_path / "shards").rename(tmp_path / "moved")
    words = ["train", "--resume", tmp_path / "bc", "--data", f"parquet:{tmp_path}/moved", "--steps", 3]
    assert answer(capsys, *words)[0] == 0
    training = json.loads((tmp_path / "bc" / "config.json").read_text())["training"]
    assert (training["steps"], training["block_rows"], training["block_updates"]) == (3, 9, 2)


def test_the_installed_command_and_the_light_import():
    """`import reverie` loads no simulator, no plotting, no file format; `reverie list` answers."""
    heavy = ["matplotlib", "h5py", "gymnasium", "mujoco", "minari", "orbax.checkpoint", "tensorboardX", "rich"]
    heavy += ["av", "pyarrow", "PIL"]
    code = f"import reverie, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    listed = subprocess.run([sys.executable, "-m", "reverie.cli", "list"], capture_output=True, text=True)
    assert listed.returncode == 0
    assert "Janner" in listed.stdout


def test_a_reader_that_has_read_enough_is_no_error():
    """As in `reverie train bc --help | head`: neither a message nor a traceback as the process ends."""
    helped = subprocess.Popen(
        [sys.executable, "-m", "reverie.cli", "train", "bc", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert helped.stdout is not None and helped.stderr is not None
    helped.stdout.close()
    assert helped.stderr.read() == ""
    assert helped.wait() == 141
