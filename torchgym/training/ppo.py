"""`Agent`: the networks of an actor and a critic, and the policy they make; `PPO`: how they change by what was played."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import InteractionType, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent
from torchrl.modules import MLP, ProbabilisticActor, TruncatedNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchgym.config import MarketConfig
from torchgym.config.validation import check_number
from torchgym.engine import StepResult, check_device
from torchgym.lab.policy import apart
from torchgym.numerics.random import make_key
from torchgym.readout import features
from torchgym.readout.entries import account_names, account_numbers
from torchgym.sim import actions
from torchgym.training.parallel import ALONE, Ranks
from torchgym.training.settings import PPOSettings

_KEYS = ["observation", "account"]  # what both networks see of a `MarketEnv`
_FIRST_WIDTH = 0.5  # standard deviation of the numbers of a fresh agent, over half the box
_LEAST_DEVIATION = 1e-4  # of an input, by which it is divided
_TOLD = (
    "entropy",
    "kl_approx",
    "clip_fraction",
    "explained_variance",
)  # by TorchRL's loss, beside the losses themselves


class Agent(nn.Module):
    """An actor and a critic for one kind of market: a layered network each, over features and the learner's account.

    Choices are drawn from a categorical distribution. Numbers in a box are drawn, each by itself, from a normal distribution that
    is cut off at the bounds; the network gives its likeliest number, and its width is learnt, the same in every state. A fresh
    agent takes every choice with nearly the same probability, and its likeliest numbers lie at `first_numbers`.

    Weights are drawn from torch's global generator. Inputs that neither the configured features nor the account show are a
    ValueError that lists those that they do.
    """

    def __init__(self, config: MarketConfig, settings: PPOSettings) -> None:
        super().__init__()
        self.config = config
        self.settings = settings
        symbols, space = config.num_symbols, actions.space(config)
        inputs = _Inputs(config, settings)
        self.moments = inputs.moments
        shape: tuple[int, ...]
        if isinstance(space, actions.Choices):
            each, cash = space.count, 0
            shape = (each,) if symbols == 1 else (symbols, each)
        else:
            each, cash = space.each, int(space.cash)
            shape = (space.width(symbols),)
        self._logits = _Network(inputs, inputs.body(each, cash), shape)
        first = 0.0 if isinstance(space, actions.Choices) else math.atanh(2.0 * settings.first_numbers - 1.0)
        with torch.no_grad():  # begin near the uniform policy, or about one point of the box
            self._logits.body[-1].weight.mul_(0.01)
            self._logits.body[-1].bias.fill_(first)
        if isinstance(space, actions.Choices):
            self._numbers = None
            self.actor = _actor(
                self._logits, ["logits"], Categorical if symbols == 1 else _Choices, validate_args=False
            )
        else:
            bounds = tuple(end.to(torch.get_default_dtype()) for end in space.bounds(symbols))
            self._numbers = _Numbers(self._logits, *bounds)
            self.actor = _actor(self._numbers, ["loc", "scale"], TruncatedNormal, low=bounds[0], high=bounds[1])
        critic = _Network(inputs, inputs.body(0, 1), (1,))
        self.critic = ValueOperator(critic, in_keys=_KEYS)

    def inputs(self, data: TensorDictBase) -> Tensor:
        """What the networks see of decisions, [..., K], before it is normalised."""
        return self._logits.inputs(*(data[key] for key in _KEYS))

    def policy(self, inputs: StepResult) -> Tensor:
        """The likeliest action of each market: a choice per symbol, [N, S] int64, or the numbers of a box, [N, W] float64."""
        dtype = next(self.parameters()).dtype
        shown = inputs.observation.to(dtype), inputs.account.to(dtype)
        with torch.no_grad():
            if self._numbers is not None:
                likeliest: Tensor = self._numbers(*shown)[0]
                return likeliest.to(torch.float64)
            logits = self._logits(*shown)
        return logits.argmax(-1).reshape(len(logits), -1)

    def make_policy(self, config: MarketConfig, seeds: Tensor) -> Callable[[StepResult], Tensor]:
        """The policy, made as `torchgym.lab.policies` makes them.

        A ValueError where the market shows it other numbers, or asks for other actions, than the one that it was trained on.
        """
        if found := apart(config, self.config):
            raise ValueError(
                f"the agent was trained on another kind of market, which differs in {', '.join(found)}: let it play in its own"
            )
        return self.policy


class _Moments(nn.Module):
    """Mean and mean square of inputs [..., K] over all decisions so far, and the inputs on that scale, cut at ±10."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor
        for name, tensor in (
            ("count", torch.zeros(1, dtype=torch.float64, device="cpu")),
            ("mean", torch.zeros(inputs, dtype=torch.float64, device="cpu")),
            ("square", torch.ones(inputs, dtype=torch.float64, device="cpu")),
        ):
            self.register_buffer(name, tensor)

    def forward(self, inputs: Tensor) -> Tensor:
        deviation = (self.square - self.mean**2).clamp(min=_LEAST_DEVIATION**2).sqrt()
        return ((inputs - self.mean.to(inputs)) / deviation.to(inputs)).clamp(-10.0, 10.0)

    def add(self, inputs: Tensor, ranks: Ranks) -> None:
        """Count these decisions [M, K] in, and those of the other processes."""
        rows = inputs.to(torch.float64)
        new = [rows.mean(0), (rows**2).mean(0)]
        ranks.average(new)
        self.count += len(rows)
        for kept, mean in zip((self.mean, self.square), new, strict=True):
            kept += (mean - kept) * len(rows) / self.count


class _Inputs:
    """What networks see: columns of the observation and of the account, and which of both belong to a symbol."""

    def __init__(self, config: MarketConfig, settings: PPOSettings) -> None:
        self.settings = settings
        self.columns, self.account = _columns(config, settings.inputs)
        count = len(self.columns) + len(self.account)
        self.moments = _Moments(count) if settings.normalise else None
        symbols, numbers = config.num_symbols, list(account_numbers(config))
        chosen = [numbers[at] for at in self.account.tolist()]
        own = [
            {
                len(self.columns) + at: name
                for at, (name, row, of) in enumerate(chosen)
                if of == symbol or not row.per_symbol
            }
            for symbol in range(symbols)
        ]
        each = len(self.columns) // symbols
        self.of_symbol = [[*range(each * symbol, each * (symbol + 1)), *places] for symbol, places in enumerate(own)]
        if settings.shared and len({tuple(places.values()) for places in own}) > 1:
            raise ValueError(
                f"inputs = {settings.inputs} names entries of some symbols, and shared=True needs the same of all: leave out"
                " the @ and what follows"
            )

    def body(self, each: int, common: int) -> MLP:
        """A network from all inputs [..., I] to `common` outputs and then `each` of every symbol."""
        form = {"num_cells": list(self.settings.hidden), "activation_class": nn.Tanh}
        if self.settings.shared:
            return _Shared(torch.tensor(self.of_symbol, device="cpu"), each, common, **form)
        return MLP(len(self.columns) + len(self.account), common + len(self.of_symbol) * each, **form)


class _Shared(MLP):
    """One network for all symbols: from inputs [..., I] to means over the symbols, and then to what it makes of each of them."""

    def __init__(self, of_symbol: Tensor, each: int, common: int, **form: Any) -> None:
        super().__init__(of_symbol.shape[1], each + common, **form)
        self.each = each
        self.of_symbol: Tensor
        self.register_buffer("of_symbol", of_symbol, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = super().forward(inputs[..., self.of_symbol])
        return torch.cat([outputs[..., self.each :].mean(-2), outputs[..., : self.each].flatten(-2)], -1)


class _Network(nn.Module):
    """A layered network with tanh over chosen columns of the observation and the account, to outputs of a shape."""

    def __init__(self, inputs: _Inputs, body: MLP, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.columns: Tensor
        self.account: Tensor
        self.register_buffer("columns", inputs.columns, persistent=False)
        self.register_buffer("account", inputs.account, persistent=False)
        self.shape = shape
        self.moments = inputs.moments
        self.body = body

    def inputs(self, observation: Tensor, account: Tensor) -> Tensor:
        """What it sees of these, [..., K], before it is normalised."""
        return torch.cat([observation[..., self.columns], account[..., self.account]], -1)

    def forward(self, observation: Tensor, account: Tensor) -> Tensor:
        inputs = self.inputs(observation, account)
        logits: Tensor = self.body(inputs if self.moments is None else self.moments(inputs)).unflatten(-1, self.shape)
        return logits


class _Numbers(nn.Module):
    """Of the outputs [..., W] of a network: the likeliest numbers, in their bounds, and the widths of their distributions."""

    def __init__(self, network: _Network, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.network = network
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.log_width = nn.Parameter(torch.full_like(low, math.log(_FIRST_WIDTH)))  # over half the box

    def forward(self, observation: Tensor, account: Tensor) -> tuple[Tensor, Tensor]:
        half, outputs = 0.5 * (self.high - self.low), self.network(observation, account)
        likeliest = self.low + half * (1.0 + torch.tanh(outputs))
        width = half * torch.exp(self.log_width)
        return torch.minimum(torch.maximum(likeliest, self.low), self.high), width.expand_as(likeliest)


class _Choices(Independent):
    """A choice per symbol of logits [..., S, choices], taken apart from each other."""

    def __init__(self, logits: Tensor, validate_args: bool) -> None:
        super().__init__(Categorical(logits=logits, validate_args=validate_args), 1, validate_args=validate_args)


def _actor(
    network: nn.Module, parameters: list[str], distribution: type[Distribution], **constants: Any
) -> ProbabilisticActor:
    """Draws actions from a distribution whose parameters a network makes, and says how likely they were."""
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=_KEYS, out_keys=parameters),
        in_keys=parameters,
        distribution_class=distribution,
        distribution_kwargs=constants,
        default_interaction_type=InteractionType.RANDOM,
        return_log_prob=True,
    )


def _columns(config: MarketConfig, inputs: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Places of the named features of every symbol in an observation, and of the named entries in an account, int64.

    An entry that each symbol has is named for all of them, position, or for one, position@2.
    """
    known, entries = features.FEATURE_SETS[config.features], account_names(config)
    named = [{entry, name} for entry, (name, _, _) in zip(entries, account_numbers(config), strict=True)]
    unknown = [repr(name) for name in inputs if name not in known and not any(name in names for names in named)]
    if unknown:
        shown = f"features={config.features!r} shows {', '.join(known)}, the account {', '.join(entries)}"
        raise ValueError(f"unknown input {', '.join(unknown)}: {shown}")
    chosen = torch.tensor(
        [at for at, name in enumerate(known) if name in inputs or not inputs], dtype=torch.int64, device="cpu"
    )
    account = [at for at, names in enumerate(named) if names & set(inputs)] or range(len(entries))
    columns = (chosen + len(known) * torch.arange(config.num_symbols, device="cpu").unsqueeze(-1)).flatten()
    return columns, torch.tensor(account, device="cpu")


class PPO:
    """Proximal policy optimisation of an `Agent` on decisions from anywhere: a rollout here, a collector, other machines.

    The networks follow from the seed; in all of the `ranks`, the processes that learn together, they are the same in every bit.
    """

    def __init__(
        self,
        config: MarketConfig,
        settings: PPOSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings = settings
        self.ranks = ranks
        with generator(seed_of(seed, 0)):
            self.agent = Agent(config, settings).to(check_device(device))
            self.ranks.copy_from_first(parameter.data for parameter in self.agent.parameters())
            self._loss = ClipPPOLoss(
                self.agent.actor,
                self.agent.critic,
                clip_epsilon=settings.clip,
                entropy_coeff=settings.entropy,
                critic_coeff=settings.critic,
                normalize_advantage=True,
            )
            self._advantage = GAE(gamma=settings.gamma, lmbda=settings.gae_lambda, value_network=self.agent.critic)
            self._optimizer = torch.optim.Adam(self._loss.parameters(), lr=settings.learning_rate, eps=1e-5)

    def learn(self, data: TensorDictBase, *, done: float) -> dict[str, float]:
        """One update.

        Returns means over its minibatches and over all processes. `loss` is what the optimiser lowers: policy, value and entropy
        bonus together. `entropy` is the policy's, in nats. `kl_approx` estimates the KL divergence of the policy from that which
        played: the mean of old less new log-probabilities. `clip_fraction` is the share of decisions whose ratio of probabilities
        is clipped. `explained_variance` is the value network's, of the returns: 1 at best, 0 for a constant.

        Minibatches are drawn from torch's generator; each process draws its own, from its own decisions.

        Args:
            data: decisions [N, T] with the log-probabilities of their actions, as `MarketEnv.rollout` and collectors give them.
                With `copies`, whoever plays gives so many markets in a row the same seed.
            done: share of the training that lies behind, by which the learning rate has fallen, 0 to 1.

        Raises:
            ValueError: for another share; nothing has been learnt then.
        """
        settings = self.settings
        check_number("done", done, 0.0, 1.0)
        data = data.clone(recurse=False)  # the caller keeps its rewards
        data["next", "reward"] = data["next", "reward"] * settings.reward_scale
        if not settings.bootstrap:
            data["next", "terminated"] = data["next", "done"]
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - done)
        count, told = data.numel(), []
        for _ in range(settings.epochs):
            with torch.no_grad():
                self._advantage(data)
                if settings.copies > 1:
                    advantage = data["advantage"].unflatten(0, (-1, settings.copies))
                    data["advantage"] = (advantage - advantage.mean(1, keepdim=True)).flatten(0, 1)
            flat = data.exclude("next").reshape(-1)  # the loss needs no more of what followed than the advantage
            for rows in torch.randperm(count, device=flat.device).tensor_split(min(settings.minibatches, count)):
                told.append(self._descend(self._loss(flat[rows])))
        if self.agent.moments is not None:  # last: the decisions were made on the scale that was
            self.agent.moments.add(self.agent.inputs(data.reshape(-1)), self.ranks)
        means = torch.stack(told).mean(0)
        self.ranks.average([means])
        return dict(zip(("loss", *_TOLD), means.tolist(), strict=True))

    def check_alike(self) -> None:
        """A RuntimeError, unless all processes hold the same networks."""
        self.ranks.check_alike(self.agent.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimiser."""
        return {"agent": self.agent.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; a ValueError or RuntimeError when it belongs to other settings."""
        self.agent.load_state_dict(state["agent"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _descend(self, losses: TensorDictBase) -> Tensor:
        loss: Tensor = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average(parameter.grad for parameter in self._loss.parameters() if parameter.grad is not None)
        nn.utils.clip_grad_norm_(self._loss.parameters(), self.settings.max_grad_norm)
        self._optimizer.step()
        return torch.stack([loss.detach(), *(losses[name].squeeze() for name in _TOLD)])


@contextmanager
def generator(seed: int) -> Iterator[None]:
    """Torch's generators begin at the seed here, and are afterwards what they were.

    What is made without a device is made on the CPU, whatever torch's default device is: the same seed gives the same weights.
    """
    usual = torch.get_default_device() == torch.device("cpu")
    on_cpu = nullcontext() if usual else torch.device("cpu")  # which costs something at every operation
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), on_cpu:
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, number: int, rank: int = 0) -> int:
    """A seed for update `number` (0: the networks) of a process, 63 mixed bits; see `torchgym.numerics.random.make_key`."""
    seeds, numbers = (torch.tensor([word], device="cpu") for word in (seed, rank << 40 | number))
    low, high = make_key(seeds, numbers)[0].tolist()
    return (high << 32 | low & 0xFFFFFFFF) & 0x7FFFFFFFFFFFFFFF
