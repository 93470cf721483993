"""Train the agents that collect data: python recipes/agents.py TASK [--seed N] [--steps N] [--out FOLDER].

TASK is hopper, halfcheetah or walker2d: a SAC agent, which every 5,000 steps runs 20 episodes as it explores. The
first time that their mean return is within 5 points of so many per cent of the expert's, it is exported to
OUT/TASK-PERCENT.safetensors, until all are there. Or ant-xy: the SAC agent of OGBench's recipe, an ant that runs
where it is told to, exported once after its 400,000 steps. A run that is stopped goes on.

The agents that the library ships were trained with these settings and seed 0, on one core of an AMD EPYC each, and some
went on after a stop, in new episodes. The directions in which the ant ran in its first 268,450 steps were not seeded.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reverie.baselines import SAC
from reverie.collection.locomotion import ENVIRONMENTS, EXPERT, SHIPPED, agent, return_of
from reverie.evaluation import Evaluate
from reverie.training import Run, fit_online
from reverie.training.online_loop import RECENT

PERCENT = (10, 20, 33, 45, 60, 75, 90, EXPERT)
WITHIN = 5
"""Points; the expert's may be above by more."""
EPISODES = 20
ANT = SAC(learning_rate=1e-4)
ANT_STEPS = 400_000


@dataclass
class Snapshots:
    """Exports the agent when its return is first that of a level."""

    task: str
    out: Path

    def __post_init__(self) -> None:
        self.evaluate = Evaluate(ENVIRONMENTS[self.task], every=5000, episodes=EPISODES)

    def file(self, percent: int) -> Path:
        return self.out / f"{self.task}-{percent}.safetensors"

    @property
    def missing(self) -> list[int]:
        return [percent for percent in PERCENT if not self.file(percent).exists()]

    @property
    def done(self) -> bool:
        return not self.missing

    def on_segment(self, run: Run) -> dict[str, np.ndarray]:
        exploring = replace(run, algorithm=run.algorithm.exploring)
        columns = self.evaluate.on_segment(exploring)
        if not np.isnan(columns["eval_return"]).any():
            self.export(run, float(np.mean(columns["eval_return"])))
        return columns

    def export(self, run: Run, measured: float) -> None:
        low, high = (return_of(self.task, percent) for percent in (0, 100))
        reached = 100 * (measured - low) / (high - low)
        for percent in self.missing:
            if reached >= percent - WITHIN and (reached <= percent + WITHIN or percent == EXPERT):
                about = {"percent": percent, "mean_return": measured, "episodes": EPISODES}
                run.export(self.file(percent), **about, environment_steps=run.step)
                return


def ant():
    """OGBench's ant with a direction that changes every 100 steps; the reward is the way made in it, in m."""
    import gymnasium
    import ogbench.online_locomotion  # noqa: F401  # registers it
    from ogbench.online_locomotion.wrappers import GymXYWrapper

    return GymXYWrapper(gymnasium.make("online-ant-v0", disable_env_checker=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*ENVIRONMENTS, "ant-xy"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="at most")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    common = {"seed": options.seed, "out": Path("runs") / "agents" / f"{options.task}-{options.seed}", "resume": True}
    if options.task == "ant-xy":
        np.random.seed(options.seed)  # the wrapper draws its directions from it
        run = fit_online(ANT, ant, steps=options.steps or ANT_STEPS, **common)
        recent = float(np.mean(run.histories[0].returns[-RECENT:]))
        run.export(options.out / "ant-xy.safetensors", recent_return=recent, environment_steps=run.step)
        return
    snapshots = Snapshots(options.task, options.out)
    steps = options.steps or 3_000_000
    fit_online(agent(), ENVIRONMENTS[options.task], steps=steps, callbacks=[snapshots], **common)
    if snapshots.missing:
        print(f"After {steps} steps these per cent were not met: {', '.join(map(str, snapshots.missing))}.")


if __name__ == "__main__":
    main()
