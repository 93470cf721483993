"""Behaviour cloning by diffusion: what its widths mean; what it learns is in tests/test_bandit.py."""

import jax
import pytest

from reverie.data import MinMax, Spec
from reverie.errors import ReverieError
from reverie.policies import DiffusionBC

SPEC = Spec(3, 2, -1.0, 1.0, {"actions": MinMax(-1.0, 1.0)})


def blocks(**fields):
    return jax.eval_shape(DiffusionBC(**fields).network, jax.random.key(0), SPEC).blocks


def test_the_resnet_has_a_block_for_every_width():
    assert len(blocks(backbone="resnet")) == 3
    assert len(blocks(backbone="resnet", hidden=(8, 8))) == 2


def test_a_resnet_of_several_widths_is_refused():
    with pytest.raises(ReverieError, match=r"hidden = \(8, 16\), but the resnet's blocks are of one width"):
        DiffusionBC(backbone="resnet", hidden=(8, 16))
    assert DiffusionBC(hidden=(8, 16)).hidden == (8, 16)
