"""A behaviour model in continuous time: what it has no use for, and what it refuses before training."""

import pytest

from reverie.errors import ReverieError
from reverie.policies import QGPO, SfBC


@pytest.mark.parametrize("method", [QGPO, SfBC])
def test_continuous_time_has_no_number_of_noise_levels(method):
    with pytest.raises(TypeError, match="diffusion_steps"):
        method(diffusion_steps=50)
    assert method().process.steps is None


@pytest.mark.parametrize("method", [QGPO, SfBC])
def test_an_nfe_of_zero_has_no_meaning_in_continuous_time(method):
    with pytest.raises(ReverieError, match="nfe = 0, but it must be a whole number of at least 1"):
        method(nfe=0)
