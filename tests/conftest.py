import gc
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from reverie.compilation import machine_kind
from reverie.paths import cache_folder

# Most of the suite's time is the compiler's, and most programs are those of the last time. They have a folder of their
# own, as the command line's is small, and locked around each access. What is older than a week goes.
CACHE = cache_folder() / "tests" / machine_kind()
CACHE.mkdir(parents=True, exist_ok=True)
for program in CACHE.iterdir():
    with suppress(FileNotFoundError):  # another worker was faster
        if program.stat().st_mtime < time.time() - 7 * 24 * 3600:
            program.unlink()
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax  # noqa: E402
import pytest  # noqa: E402

# Before a test's command line can have it begin with a device for each core.
jax.devices()
for helpers in ("diffusion", "training"):
    sys.path.insert(0, str(Path(__file__).parent / helpers))


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly(request):
    """Most programs run a few times only, and most of the suite's time would be the compiler's. A module that trains
    for long says `OPTIMISED = True`, and one that does so in a fixture alone takes `optimised` there."""
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMISED", False))
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    # Each compiled program holds memory maps, of which a process may have 65,530: then the compiler crashes.
    jax.clear_caches()


@pytest.fixture(scope="session")
def optimised():
    """A context in which programs are compiled as outside the tests."""

    @contextmanager
    def context():
        before = jax.config.values["jax_disable_most_optimizations"]
        jax.config.update("jax_disable_most_optimizations", False)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)

    return context


# What JAX traces are many small objects that live until a module ends: the collector would look at all of them often.
gc.set_threshold(100_000, 20, 50)

TRAINING = {"sided", "crossing", "trained", "drifting"}
"""Fixtures that train for ten seconds and more: what uses them is slow."""


def pytest_collection_modifyitems(items):
    for item in items:
        if TRAINING & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
