import os
import sys
from pathlib import Path

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # the command line's, which would fill the user's own folder

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent / "diffusion"))


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly(request):
    """Most programs run a few times only, and most of the suite's time would be the compiler's. A module that trains
    for long says `OPTIMISED = True`."""
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMISED", False))
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    # Each compiled program holds memory maps, of which a process may have 65,530: then the compiler crashes.
    jax.clear_caches()
