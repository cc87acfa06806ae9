"""The learnability ladder: whether an agent learns what there is to learn, rung by rung.

from torchgym.ladder import Plan, climb, summarise

for rung in climb(Plan(seeds=5), folder):
    print(summarise(rung))
"""

from torchgym.ladder.climb import Climbed, Plan, climb
from torchgym.ladder.rungs import RUNGS, Rung
from torchgym.ladder.summary import Step, curve_rows, summarise

__all__ = ["RUNGS", "Climbed", "Plan", "Rung", "Step", "climb", "curve_rows", "summarise"]
