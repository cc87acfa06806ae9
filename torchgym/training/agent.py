"""`Agent`: the networks of an actor and a critic, and the policy they make."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from tensordict.nn import InteractionType, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical, Independent
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim import actions
from torchgym.training.settings import PPOSettings

_KEYS = ["observation", "account"]  # what both networks see of a `MarketEnv`


class Agent(nn.Module):
    """An actor and a critic for one kind of market: a layered network each, over features and the learner's account.

    A fresh agent takes every choice with nearly the same probability. Its weights are drawn from torch's global generator.

    Args:
        config: the market; its features, account, symbols and action scheme give the sizes.
        settings: `hidden` and `inputs`.

    Raises:
        ValueError: for inputs that the configured features do not show, listing those that they do; for actions that are no
            choices.
    """

    def __init__(self, config: MarketConfig, settings: PPOSettings) -> None:
        super().__init__()
        self.config = config
        self.settings = settings
        symbols, space = config.num_symbols, actions.scheme(config).space
        if not isinstance(space, actions.Choices):
            raise ValueError(f"this agent takes choices, and action={config.action!r} has none: use {_with_choices()}")
        choices = space.count
        columns, account = _columns(config, settings.inputs), len(account_names(config))
        shape = (choices,) if symbols == 1 else (symbols, choices)
        self._logits = _Network(columns, account, settings.hidden, shape)
        with torch.no_grad():  # begin near the uniform policy
            self._logits.body[-1].weight.mul_(0.01)
            self._logits.body[-1].bias.zero_()
        self.actor = ProbabilisticActor(
            TensorDictModule(self._logits, in_keys=_KEYS, out_keys=["logits"]),
            in_keys=["logits"],
            distribution_class=_Choice if symbols == 1 else _Choices,
            default_interaction_type=InteractionType.RANDOM,
            return_log_prob=True,
        )
        self.critic = ValueOperator(_Network(columns, account, settings.hidden, (1,)), in_keys=_KEYS)

    def policy(self, inputs: StepResult) -> Tensor:
        """The likeliest choice for each market and symbol, [N, S] int64."""
        dtype = next(self.parameters()).dtype
        with torch.no_grad():
            logits = self._logits(inputs.observation.to(dtype), inputs.account.to(dtype))
        return logits.argmax(-1).reshape(len(logits), -1)

    def make_policy(self, config: MarketConfig, seeds: Tensor) -> Callable[[StepResult], Tensor]:
        """The policy, made as `torchgym.lab.policies` makes them."""
        return self.policy


class _Network(nn.Module):
    """A layered network with tanh over chosen columns of the observation and the whole account, to outputs of a shape."""

    def __init__(self, columns: Tensor, account: int, hidden: tuple[int, ...], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.columns: Tensor
        self.register_buffer("columns", columns, persistent=False)
        self.shape = shape
        self.body = MLP(len(columns) + account, math.prod(shape), num_cells=list(hidden), activation_class=nn.Tanh)

    def forward(self, observation: Tensor, account: Tensor) -> Tensor:
        inputs = torch.cat([observation[..., self.columns], account], -1)
        logits: Tensor = self.body(inputs).unflatten(-1, self.shape)
        return logits


class _Choice(Categorical):
    """One choice of logits [..., choices]."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)


class _Choices(Independent):
    """A choice per symbol of logits [..., S, choices], taken apart from each other."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(Categorical(logits=logits, validate_args=False), 1, validate_args=False)


def _with_choices() -> str:
    """Names of the action schemes that have choices."""
    return ", ".join(repr(name) for name, row in actions.ACTIONS.items() if isinstance(row.space, actions.Choices))


def _columns(config: MarketConfig, inputs: tuple[str, ...]) -> Tensor:
    """Places of the named features of every symbol in an observation, [K] int64."""
    known = features.FEATURE_SETS[config.features]
    unknown = [repr(name) for name in inputs if name not in known]
    if unknown:
        raise ValueError(f"unknown input {', '.join(unknown)}: features={config.features!r} shows {', '.join(known)}")
    chosen = torch.tensor([at for at, name in enumerate(known) if name in inputs or not inputs], device="cpu")
    return (chosen + len(known) * torch.arange(config.num_symbols, device="cpu").unsqueeze(-1)).flatten()
