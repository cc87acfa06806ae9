"""Is there money for nothing? Scripted traders try, and each gets a verdict.

`audit` plays every policy of `POLICIES` in the same episodes, net of all costs and with everything sold at the end, and holds
each to its requirement: manipulation and blind rules must not pay, knowledge of value must. To try a rule of your own, hand in a
`Policy`; see `torchgym.lab.audit.policy` for the parts that policies are made of.
"""

from __future__ import annotations

from torchgym.lab.audit.attacks import ATTACKS
from torchgym.lab.audit.policies import BASIC
from torchgym.lab.audit.policy import Policy
from torchgym.lab.audit.run import POLICIES, SEED, Audit, Row, audit
from torchgym.lab.audit.scene import Scene
from torchgym.lab.audit.verdicts import GAIN, Requirement, Sample

__all__ = [
    "ATTACKS",
    "BASIC",
    "GAIN",
    "POLICIES",
    "SEED",
    "Audit",
    "Policy",
    "Requirement",
    "Row",
    "Sample",
    "Scene",
    "audit",
]
