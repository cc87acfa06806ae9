"""The learnability ladder: whether an agent learns what there is to learn, task by task.

`run_ladder(Plan(seeds=5), folder)` trains and judges; `summarise` computes from each of its results how much of the reference was
reached. The folder keeps what is done; the same plan goes on from there.
"""

from torchgym.training.ladder.runner import Plan, TaskResult, run_ladder
from torchgym.training.ladder.summary import TaskSummary, curve_rows, summarise
from torchgym.training.ladder.tasks import TASKS, Task

__all__ = ["TASKS", "Plan", "Task", "TaskResult", "TaskSummary", "curve_rows", "run_ladder", "summarise"]
