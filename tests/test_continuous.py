"""Learners of numbers from other libraries play every box: a few steps of each, in which no action is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from markets import acting
from stable_baselines3 import SAC, TD3
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

import torchgym as tg
from torchgym import MarketConfig
from torchgym.sim import actions
from torchgym.sim.actions import ACTIONS, Box

pytestmark = pytest.mark.kept

BOXES = [name for name in ACTIONS if isinstance(actions.space(acting(name)), Box)]


def config(name: str) -> MarketConfig:
    return acting(name, num_symbols=2, scaling="relative", max_ticks=30, ticks_per_action=2)


@pytest.mark.parametrize("algorithm", [SAC, TD3])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name", BOXES)
def test_stable_baselines3_learns(name: str, batched: bool, algorithm: type[SAC | TD3]) -> None:
    env: Any = tg.SB3VecEnv(config(name), num_envs=2, seed=0) if batched else tg.TradingEnv(config(name), seed=0)
    model = algorithm(
        "MlpPolicy",
        env,
        learning_starts=8,
        buffer_size=64,
        batch_size=8,
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )
    before = [parameter.clone() for parameter in model.actor.parameters()]
    model.learn(32)
    after = list(model.actor.parameters())
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in after)
    observation = env.reset() if batched else env.reset(seed=1)[0]
    action, _ = model.predict(observation)
    numbers = np.atleast_2d(action)
    assert all(env.action_space.contains(one) for one in numbers)


def test_the_loss_of_torchrl_reaches_every_network() -> None:
    torch.manual_seed(0)
    env = tg.MarketEnv(config("signed_weights"), num_envs=2, seed=0)
    numbers, shown = env.action_spec.shape[-1], env.observation_spec["observation"].shape[-1]
    policy = nn.Sequential(MLP(shown, 2 * numbers, num_cells=[8]), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(policy, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=env.action_spec_unbatched,
        distribution_class=TanhNormal,
        distribution_kwargs={"low": env.action_spec_unbatched.low, "high": env.action_spec_unbatched.high},
        return_log_prob=True,
    )
    critic = ValueOperator(MLP(shown + numbers, 1, num_cells=[8]), in_keys=["observation", "action"])
    data = env.rollout(8, actor).reshape(-1)
    loss = SACLoss(actor, critic, action_spec=env.action_spec_unbatched)
    loss.make_value_estimator(gamma=0.9)
    target = SoftUpdate(loss, eps=0.9)
    told = loss(data)
    sum(told[name] for name in ("loss_actor", "loss_qvalue", "loss_alpha")).backward()
    target.step()
    gradients = [parameter.grad for parameter in loss.parameters() if parameter.grad is not None]
    assert len(gradients) > 8 and all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert env.action_spec.is_in(env.rollout(1, actor)["action"][:, 0])
