import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# The command line's would be in the user's own folder. This one is the process's, for the many small programs that
# every module compiles again after `clear_caches`.
CACHE = TemporaryDirectory(prefix="reverie-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax  # noqa: E402
import pytest  # noqa: E402

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
