"""IQL of several tasks, told the task by a one-hot (MT-IQL of He et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

from reverie.baselines.iql import IQL
from reverie.planning.task_policy import TaskPolicy


@dataclass(frozen=True)
class MTIQL(TaskPolicy, IQL):
    """MT-IQL: IQL whose networks see a one-hot of the task beside the observation."""

    name: ClassVar = "mt-iql"
    paper: ClassVar = "He et al. 2023"
    needs: ClassVar[tuple[str, ...]] = ("tasks", "rewards", "terminals")
