"""Benchmarks of a device: what an accelerator makes of the library, and how long programs take to be made."""

import json

from benchmarks import accelerator, compiling, timing

QUICK_AREAS = ("machine", "together")


def test_accelerator_says_what_it_found_area_by_area(tmp_path, capsys):
    words = ["--quick", "--updates", "2", "--training", "4", "--pairs", "1", "--least", "0.001", "--only", *QUICK_AREAS]
    lines = accelerator.run(accelerator.arguments([*words, "--out", str(tmp_path)]))
    assert list(dict.fromkeys(line.area for line in lines)) == list(QUICK_AREAS)
    seeds = {line.what: line for line in lines if line.area == "together"}
    assert seeds["td3-bc: 4 seeds in one program"].wanted == "2 times" and "td3-bc: 4 settings in one program" in seeds
    assert seeds["td3-bc: 1 seed in one program"].reached == ""
    assert "machine: matrix product, float32: " in capsys.readouterr().out
    assert len(json.loads((tmp_path / "accelerator.json").read_text())["lines"]) == len(lines)


def test_compiling_times_every_program(tmp_path):
    parser = timing.parser("")
    parser.add_argument("--methods", nargs="+")
    found = compiling.run(parser.parse_args(["--quick", "--methods", "bc", "synther", "--out", str(tmp_path)]))
    assert [row["method"] for row in found] == ["bc", "synther"]
    assert all(row["train"] > 0 and row["init"] > 0 for row in found)
    assert found[0]["act"] > 0 and found[1]["act"] is None
    assert "| method | init, s | train, s | act, s |" in (tmp_path / "compiling.md").read_text()


def test_a_line_is_reached_at_what_was_wanted():
    assert [accelerator.Line("a", "b", "c", x, 2.0).reached for x in (1.9, 2.0)] == ["no", "yes"]
