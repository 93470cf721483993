import os
import sys
from contextlib import contextmanager
from pathlib import Path

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # the command line's, which would fill the user's own folder

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent / "diffusion"))


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
