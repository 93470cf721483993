"""A cache of compiled programs on the disk, so that a second run of a method begins at once."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

from reverie.paths import cache_folder

MOST_BYTES = 2 * 2**30
"""Of the cache; what was not used longest goes first."""
LEAST_SECONDS = 0.1
"""Programs that compile faster are not kept: reading them would save nothing."""

TELLING = ("flags", "Features", "vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
"""Lines of Linux's /proc/cpuinfo that distinguish kinds of processor."""


def use_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Keep compiled programs in the folder, `${REVERIE_CACHE:-~/.cache/reverie}/xla` by default, for later processes.

    The command line calls this, and a program that uses Reverie as a library only if it wants to: the setting is JAX's
    and of the whole process. JAX's own switches come first: with JAX_ENABLE_COMPILATION_CACHE=false nothing is kept,
    and a JAX_COMPILATION_CACHE_DIR, or `jax.config`'s jax_compilation_cache_dir, that is set stays. To be called before
    anything is compiled. Returns the folder that is used; None where none is, as where it cannot be written.

    Processes can share it: each file is written and read under a lock. Machines can: a program for a CPU is compiled
    for that CPU's instructions and number of cores, which name a folder of their own.
    """
    import jax

    config: Any = jax.config
    if not config.jax_enable_compilation_cache:
        return None
    if config.jax_compilation_cache_dir:
        return Path(config.jax_compilation_cache_dir)
    path = (Path(folder) if folder else default_folder()) / machine_kind()
    try:
        path.mkdir(parents=True, exist_ok=True)
        mend(path)
    except OSError:  # no room, no right to write: compile anew each time, as without a cache
        return None
    config.update("jax_compilation_cache_dir", str(path))
    # With a limit JAX locks the cache around each access; without one, two writers may meet in one file.
    config.update("jax_compilation_cache_max_size", MOST_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return path


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_folder() -> Path:
    return cache_folder() / "xla"


def machine_kind() -> str:
    """A name for processors that can run each other's programs: their instructions, and the cores one may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else [platform.processor()]
    telling = {line for line in lines if line.startswith(TELLING)} or set(lines)
    words = sorted({word for line in telling for word in line.split()})
    return f"{platform.machine()}-{cores()}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"


def mend(path: Path) -> None:
    """Take away what a process killed while it wrote has left half done: JAX would warn of it for ever after."""
    from filelock import FileLock

    with FileLock(path / ".lockfile", timeout=10):  # JAX's own
        for cached in path.glob("*-cache"):
            if not cached.with_name(cached.name.removesuffix("-cache") + "-atime").exists():
                cached.unlink(missing_ok=True)
