"""Compiled programs are kept on the disk for the next process, and only where that is wanted."""

import os
import subprocess
import sys

from reverie import compilation

PROGRAM = """
import jax, jax.numpy as jnp, reverie, sys
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
folder = reverie.use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((3, 3))).sum(), sum(hits), folder)
"""


def outputs(tmp_path, **variables):
    names = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = kept | {"REVERIE_CACHE": str(tmp_path)} | variables
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert "arning" not in done.stderr
    return done.stdout.split()


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    first, second = outputs(tmp_path), outputs(tmp_path)
    assert first[1] == "0" and int(second[1]) > 0
    assert first[0] == second[0] and first[2] == second[2]
    assert first[2] == str(tmp_path / "xla" / compilation.machine_kind())


def test_jax_s_own_switches_come_first(tmp_path):
    assert outputs(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[1:] == ["0", "None"]
    elsewhere = tmp_path / "elsewhere"
    assert outputs(tmp_path, JAX_COMPILATION_CACHE_DIR=str(elsewhere))[2] == str(elsewhere)
    assert not (tmp_path / "xla").exists()


def test_what_was_killed_half_written_is_taken_away(tmp_path):
    for name in ("whole-cache", "whole-atime", "half-cache"):
        (tmp_path / name).touch()
    compilation.mend(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["whole-atime", "whole-cache"]


def test_other_processors_have_another_folder(monkeypatch):
    here = compilation.machine_kind()
    monkeypatch.setattr(compilation, "TELLING", ("vendor_id",))
    assert compilation.machine_kind() != here
