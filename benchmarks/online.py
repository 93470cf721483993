"""Learning online, against stable-baselines3 on the same work: python -m benchmarks.online --peer-python PYTHON

PYTHON is an interpreter that has stable-baselines3 and gymnasium[mujoco]; without it Reverie's half runs alone. Equal
work: one environment, SAC with two layers of 256, batches of 256 and 50 updates after every 50 steps, PPO with two
layers of 64 and 10 passes over 2048 steps in batches of 64. Each side is a process of its own, A B A B ..., and what is
timed is its second half: no start and no compilation, but the environment's steps as well as the updates.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.timing import Ratio

WARMUP = 1000
SIZES = {"sac": {"steps": 4000, "from": 2000}, "ppo": {"steps": 10_240, "from": 4096}}
"""Environment steps in all, and those before the first mark."""
SETTINGS: dict[str, dict[str, Any]] = {"sac": {"update_interval": 50, "log_every": 500}, "ppo": {}}
"""Of Reverie's loop."""


def reverie_side(name: str, env: str) -> tuple[float, float]:
    """Clock at the first mark and at the end."""
    from reverie.baselines import PPO, SAC
    from reverie.training import fit_online

    size, marks = SIZES[name], []

    class Marks:
        def on_segment(self, run: Any) -> dict[str, float]:
            marks.append((run.step, now()))
            return {}

    algorithm: Any = {"sac": SAC, "ppo": PPO}[name]()
    settings = SETTINGS[name] | ({"warmup": WARMUP} if name == "sac" else {})
    fit_online(algorithm, env, steps=size["steps"], callbacks=[Marks()], progress=False, **settings)
    return next(t for step, t in marks if step >= size["from"]), marks[-1][1]


def sb3_side(name: str, env: str) -> tuple[float, float]:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    size, marks = SIZES[name], {}

    class Marks(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == size["from"]:
                marks["from"] = now()
            return True

    options: dict[str, Any] = {
        "sac": {"train_freq": 50, "gradient_steps": 50, "learning_starts": WARMUP},
        "ppo": {},
    }[name]
    model = getattr(stable_baselines3, name.upper())("MlpPolicy", env, device="cpu", **options)
    model.learn(size["steps"], callback=Marks())
    return marks["from"], now()


def now() -> float:
    return timing.CLOCKS[timing.CLOCK[0]]()


def side(python: str, which: str, name: str, options: argparse.Namespace) -> float:
    """Environment steps a second of one process of its own."""
    words = ["-m", "benchmarks.online", "--side", which, "--only", name, "--env", options.env]
    words += ["--clock", options.clock, "--threads", str(options.threads)]
    ended = subprocess.run([python, *words], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    first, last = json.loads(ended.stdout.strip().splitlines()[-1])
    return (SIZES[name]["steps"] - SIZES[name]["from"]) / (last - first)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--peer-python", help="interpreter that has stable-baselines3")
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--side", choices=("reverie", "sb3"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    timing.begin(options)
    if options.quick:
        SIZES.update(sac={"steps": 1200, "from": 1100}, ppo={"steps": 6144, "from": 4096})
    if options.side:
        if options.side == "sb3":
            import torch

            torch.set_num_threads(options.threads)
        print(json.dumps({"reverie": reverie_side, "sb3": sb3_side}[options.side](options.only[0], options.env)))
        return
    print(f"| {options.env}, {options.threads} cores, {options.clock} clock | Reverie | stable-baselines3 | ratio |")
    print("|---|---|---|---|")
    for name in options.only:
        ours, theirs = [], []
        for _ in range(options.pairs):
            ours.append(side(sys.executable, "reverie", name, options))
            theirs += [side(options.peer_python, "sb3", name, options)] if options.peer_python else []
        ratio = Ratio.of(theirs, ours) if theirs else "–"
        peer = f"{statistics.median(theirs):.0f}" if theirs else "–"
        print(f"| {name}: steps a second | {statistics.median(ours):.0f} | {peer} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
