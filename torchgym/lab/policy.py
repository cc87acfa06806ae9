"""What a policy is."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from torchgym.config import MarketConfig, with_numbers
from torchgym.config.validation import check_function
from torchgym.engine import StepResult
from torchgym.numerics import random
from torchgym.numerics.trees import map_tensors
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim.params import Params, draw_params, make_params, number_of, plain_params

Policy = Callable[[StepResult], Tensor]  # the action for what was seen last, [N, W], int64 or, of a box, float64
MakePolicy = Callable[[MarketConfig, Tensor], Policy]  # of a configuration and the episodes' seeds [N] int64

_READY = "the ready-made ones are torchgym.lab.policies.BASELINES[name].make"


def check_maker(name: str, make_policy: object) -> None:
    """A ValueError, unless it can be called with a configuration and seeds; `name` is what the caller knows it as."""
    if callable(getattr(make_policy, "make_policy", None)):
        raise ValueError(f"{name} must be a function that makes a policy, got an agent: give its make_policy")
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


def apart(config: MarketConfig, trained_on: MarketConfig) -> list[str]:
    """In what a market differs from the one that an agent was trained on, by what it shows and asks; at most five things."""
    told = [
        f"{name} = {getattr(config, name)!r}, not {getattr(trained_on, name)!r}"
        for name in ("scaling", "action", "num_symbols", "num_learners")
        if getattr(config, name) != getattr(trained_on, name)
    ]
    shown, known = (features.names(one) + account_names(one) for one in (config, trained_on))
    return (told or sorted(set(shown) ^ set(known)) or (["the order of its numbers"] if shown != known else []))[:5]


class OwnNumbers:
    """The numbers of the first episodes of some seeds, drawn as their markets draw them; without draws, one row for all.

    A policy may use the terms of its own account, such as its limit and the size of its orders. The rest is not public. Numbers
    that a market is given by `params=` are unknown here.

    Args:
        seeds: [N] int64; only looked at where the configuration draws something.
    """

    def __init__(self, config: MarketConfig, seeds: Tensor) -> None:
        self._config = config
        self._drawn: Params | None = None
        if config.randomize and len(seeds):
            key = random.make_key(seeds, torch.zeros_like(seeds))
            self._drawn = draw_params(config, make_params(config, len(seeds), seeds.device), key)

    def on(self, device: torch.device) -> Params:
        """The numbers where a policy is shown the market."""
        if self._drawn is None:
            return plain_params(self._config, device)
        if self._drawn.int64.device != device:
            self._drawn = map_tensors(lambda tensor: tensor.to(device), self._drawn)
        return self._drawn


def own_config(config: MarketConfig, seed: int) -> MarketConfig:
    """The world of a seed's first episode as a configuration of its own, which draws nothing and has the same bits."""
    if not config.randomize:
        return config
    params = OwnNumbers(config, torch.tensor([seed], device="cpu")).on(torch.device("cpu"))
    world: MarketConfig = with_numbers(config, {path: number_of(params, path) for path in config.randomize})
    return world.replace(randomize={})


def check_fixed(policy: str, config: MarketConfig, *names: str) -> None:
    """A ValueError where `randomize` draws one of these settings, of which the policy works out a table beforehand."""
    drawn = [name for name in names if name in config.randomize]
    if drawn:
        raise ValueError(
            f"{policy} plans for one {' and one '.join(drawn)}, and randomize draws it for each episode: leave it out there"
        )
