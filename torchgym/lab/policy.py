"""What a policy is."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_function
from torchgym.engine import StepResult

Policy = Callable[[StepResult], Tensor]  # the action for what was seen last, [N, W], int64 or, of a box, float64
MakePolicy = Callable[[MarketConfig, Tensor], Policy]  # of a configuration and the episodes' seeds [N] int64

_READY = "the ready-made ones are torchgym.lab.policies.BASELINES[name].make"


def check_maker(name: str, make_policy: object) -> None:
    """A ValueError, unless it can be called with a configuration and seeds; `name` is what the caller knows it as."""
    check_function(name, make_policy, _READY)
    try:
        inspect.signature(make_policy).bind(None, None)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(
            f"{name} must make a policy from a configuration and the episodes' seeds ({error}): where it is a policy itself,"
            " give lambda config, seeds: policy"
        ) from error
    except ValueError:
        pass  # some functions that are written in C do not say what they take


def made(name: str, make_policy: MakePolicy, config: MarketConfig, seeds: Tensor) -> Policy:
    """The policy for these episodes.

    Raises:
        ValueError: where `make_policy` is no function of two, or what it makes is no function.
    """
    check_maker(name, make_policy)
    policy = make_policy(config, seeds)
    check_function(f"what {name} makes", policy, "a policy takes what was seen last and returns the action")
    return policy
