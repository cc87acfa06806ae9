"""The learnability ladder: whether an agent learns what there is to learn, rung by rung.

`climb(Plan(seeds=5), folder)` trains and judges, and `summarise` tells of each rung that it gives how much of its reference was
reached. The folder keeps what is done; the same plan goes on from there.
"""

from torchgym.training.ladder.climb import Climbed, Plan, climb
from torchgym.training.ladder.rungs import RUNGS, Rung
from torchgym.training.ladder.summary import Step, curve_rows, summarise

__all__ = ["RUNGS", "Climbed", "Plan", "Rung", "Step", "climb", "curve_rows", "summarise"]
