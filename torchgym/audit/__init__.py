"""Is there money for nothing? Scripted traders try, and each gets a verdict.

`audit` plays every policy of `POLICIES` in the same episodes, net of all costs and with everything sold at the end, and holds
each to its requirement: manipulation and blind rules must not pay, knowledge of value must. To try a rule of your own, hand in a
`Policy`; see `torchgym.audit.policy` for the parts that policies are made of.
"""

from __future__ import annotations

from torchgym.audit.attacks import ATTACKS
from torchgym.audit.policies import BASIC
from torchgym.audit.policy import Policy
from torchgym.audit.run import POLICIES, SEED, Audit, Row, audit
from torchgym.audit.scene import Scene
from torchgym.audit.verdicts import GAIN, Requirement, Sample

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
