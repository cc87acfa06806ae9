"""Is there money for nothing? Scripted traders try, and each gets a verdict.

`audit` plays every row of `POLICIES` in the same episodes, net of all costs and with everything sold at the end, and holds each
to its requirement: manipulation and blind rules must not pay, knowledge of value must. To try a rule of your own, hand in an
`Attempt`, or a `QuotingAttempt` for one that lets orders rest, or a trained agent as an `AgentAttempt`. `torchgym.lab.policies`
has the parts that rules are made of, `torchgym.lab.audit.attempts` those that need a clock, `torchgym.lab.audit.quoting` those
that quote.
"""

from __future__ import annotations

from torchgym.lab.audit.agents import AgentAttempt
from torchgym.lab.audit.attempts import Attempt, AuditSnapshot
from torchgym.lab.audit.playing import POLICIES, SEED, Audit, AuditRow, audit
from torchgym.lab.audit.quoting import QuotingAttempt
from torchgym.lab.audit.scheme import Wanted
from torchgym.lab.audit.verdicts import GAIN, Requirement, Sample

__all__ = [
    "GAIN",
    "POLICIES",
    "SEED",
    "AgentAttempt",
    "Attempt",
    "Audit",
    "AuditRow",
    "AuditSnapshot",
    "QuotingAttempt",
    "Requirement",
    "Sample",
    "Wanted",
    "audit",
]
