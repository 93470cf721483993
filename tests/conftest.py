import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent / "diffusion"))


@pytest.fixture(scope="module")
def compiled_quickly():
    """For modules whose programs run a few times only: most of their time would be the compiler's."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
