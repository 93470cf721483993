"""VPDD: what its tokens are, which rows teach what, and what videos without actions are good for."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.imitation import VPDD
from reverie.planning.chunks import Overlap
from reverie.planning.demonstrated import Demonstrated

SIDE = 8
CORNERS = np.array([(0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1)])
GOALS = np.random.default_rng(7).integers(0, 4, SIDE * SIDE)
"""To which corner a dot goes, of each of the places where it may be: a table without any order."""


def pictures(places) -> np.ndarray:
    """A bright dot at each place `[n, 2]`: `[n, 8, 8, 1]`."""
    images = np.zeros((len(places), SIDE, SIDE, 1), np.uint8)
    images[np.arange(len(places)), places[:, 0], places[:, 1]] = 255
    return images


def dots(cells, known) -> Dataset:
    """Episodes of two steps: from a cell the dot goes to its corner; the action names the corner, by two signs."""
    cells = np.asarray(cells)
    corners = CORNERS[GOALS[cells]]
    places = np.stack([np.stack(divmod(cells, SIDE), -1), corners], 1).reshape(-1, 2)
    actions = np.repeat(np.sign(corners - SIDE / 2), 2, 0)
    known = np.repeat(known, 2)
    return Dataset.from_arrays(
        {"image": pictures(places)}, actions * known[:, None], timeouts=np.tile([False, True], len(cells)),
        infos={"has_actions": known}, action_low=-1, action_high=1,
    )  # fmt: skip


LEARNER = VPDD(
    observation_horizon=1, horizon=1, action_horizon=1, frames=1, frame_stride=1, patch=4, codes=24, bins=2, width=64,
    heads=2, depth=1, diffusion_steps=8, batch_size=64, learning_rate=2e-3, code_updates=200, video_updates=400,
    auxiliary=0.1, ema_decay=0.99, guidance_scale=1.0, nfe=4, temperature=0.0,
)  # fmt: skip
NONE = Overlap(jnp.zeros((64, 1, 2)), jnp.zeros((64, 1), bool), jnp.zeros((64, 1)))


def accuracy(run) -> float:
    """How often both signs are right, from all places."""
    seen = {"image": jnp.asarray(pictures(np.stack(divmod(np.arange(64), SIDE), -1)))[:, None]}
    algorithm, state = run.algorithm, run.state()
    chosen = jax.jit(lambda key: algorithm.choose(state, run.spec, seen, NONE, key))(jax.random.key(0))[:, 0]
    return float((np.sign(chosen) == np.sign(CORNERS[GOALS] - SIDE / 2)).all(-1).mean())
