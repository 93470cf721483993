"""What videos without actions are good for, in a few minutes: python recipes/dots.py [--seeds S].

In pictures of 8 x 8 pixels a dot goes from each of 64 places to one of four corners, by a table without any order.
Actions, which name the corner, are shown from 12 of the places. VPDD learns from these beside videos without actions
from all places, or beside videos from the same 12; the share of all places from which its action is right is printed.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import reverie
from reverie.data import Dataset
from reverie.imitation import VPDD
from reverie.planning.chunks import Overlap

SIDE, SHOWN, VIDEOS = 8, 12, 120
CORNERS = np.array([(0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1)])
GOALS = np.random.default_rng(7).integers(0, 4, SIDE * SIDE)
LEARNER = VPDD(
    observation_horizon=1, horizon=1, action_horizon=1, frames=1, frame_stride=1, patch=4, codes=24, bins=2, width=64,
    heads=2, depth=1, diffusion_steps=8, batch_size=64, learning_rate=2e-3, code_updates=800, video_updates=400,
    auxiliary=0.1, ema_decay=0.99, guidance_scale=1.0, nfe=4, temperature=0.0,
)  # fmt: skip
UPDATES = 1400
"""Of all three stages."""


def pictures(places) -> np.ndarray:
    """A bright dot at each place `[n, 2]`: `[n, 8, 8, 1]`."""
    images = np.zeros((len(places), SIDE, SIDE, 1), np.uint8)
    images[np.arange(len(places)), places[:, 0], places[:, 1]] = 255
    return images


def dots(cells, known) -> Dataset:
    """Episodes of two steps: from a cell the dot goes to its corner; the action names the corner, by two signs."""
    cells, known = np.asarray(cells), np.repeat(known, 2)
    corners = CORNERS[GOALS[cells]]
    places = np.stack([np.stack(divmod(cells, SIDE), -1), corners], 1).reshape(-1, 2)
    actions = np.repeat(np.sign(corners - SIDE / 2), 2, 0)
    return Dataset.from_arrays(
        {"image": pictures(places)}, actions * known[:, None], timeouts=np.tile([False, True], len(cells)),
        infos={"has_actions": known}, action_low=-1, action_high=1,
    )  # fmt: skip


def accuracy(run) -> float:
    """How often both signs are right, from all places."""
    n = SIDE * SIDE
    seen = {"image": jnp.asarray(pictures(np.stack(divmod(np.arange(n), SIDE), -1)))[:, None]}
    none = Overlap(jnp.zeros((n, 1, 2)), jnp.zeros((n, 1), bool), jnp.zeros((n, 1)))
    choose = jax.jit(lambda key: run.algorithm.choose(run.state(), run.spec, seen, none, key))
    signs = np.sign(choose(jax.random.key(0))[:, 0])
    return float((signs == np.sign(CORNERS[GOALS] - SIDE / 2)).all(-1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    print("| seed | with videos of all places | with videos of the 12 |\n|---|---|---|")
    for seed in range(parser.parse_args().seeds):
        shown = np.random.default_rng(seed).permutation(SIDE * SIDE)[:SHOWN]
        known, right = np.arange(SHOWN + VIDEOS) < SHOWN, []
        for cells in (np.arange(SIDE * SIDE), shown):
            data = dots(np.concatenate([shown, np.resize(cells, VIDEOS)]), known.astype(float))
            right.append(accuracy(reverie.fit(LEARNER, data, steps=UPDATES, seed=seed, progress=False, segment=200)))
        print(f"| {seed} | {right[0]:.2f} | {right[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
