"""skrl's face: the same numbers as the market's, fresh tensors, and episodes that follow each other."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from gymnasium import spaces
from markets import random_actions, toy
from torch import Tensor

import torchgym as tg

pytest.importorskip("skrl")

from skrl.envs.wrappers.torch import Wrapper

pytestmark = pytest.mark.kept

CONFIG = toy(max_ticks=12, ticks_per_action=2, scaling="relative")


def made(**options: Any) -> tg.SkrlEnv:
    return tg.SkrlEnv(CONFIG, 3, seed=4, include_account=True, **options)


def test_spaces_are_those_of_one_market() -> None:
    env = made()
    assert isinstance(env, Wrapper)
    assert (env.num_envs, env.num_agents, env.device, env.state_space) == (3, 1, torch.device("cpu"), None)
    assert env.observation_space.shape == (58,) and str(env.observation_space.dtype) == "float32"
    assert env.action_space == spaces.Discrete(3)
    assert env.feature_names[-1] == "time_left" and len(env.feature_names) == 58
    two = tg.SkrlEnv(preset="toy", num_symbols=2, action="sized")
    assert two.action_space == spaces.MultiDiscrete([7, 7])
    assert env.state() is None and env.render() is None
    env.close()


def shown(result: Any) -> Tensor:
    return torch.cat([result.observation, result.account], -1).float()


def test_every_number_is_the_markets() -> None:
    env, market = made(), tg.Market(CONFIG, 3, seed=4)
    observations, info = env.reset()
    seen = market.reset()
    assert torch.equal(observations, shown(seen))
    assert torch.equal(info["equity"], seen.info["equity"])
    begun = seen.info["equity"]
    gathered = torch.zeros(3, dtype=torch.float64)
    ends = 0
    for action in random_actions(CONFIG, 14, 3):
        observations, rewards, terminated, truncated, info = env.step(action)
        result = market.step(action)
        gathered += result.reward
        assert torch.equal(rewards, result.reward.float().unsqueeze(-1))
        assert torch.equal(terminated, result.terminated.unsqueeze(-1))
        assert torch.equal(truncated, result.truncated.unsqueeze(-1))
        assert torch.equal(info["position"], result.info["position"])
        if bool(result.truncated.all()):
            ends += 1
            assert torch.equal(info["final_observation"], shown(result))
            assert info["episode"]["return"].item() == gathered.mean().item()
            assert info["episode"]["profit"].item() == (result.info["equity"] - begun).mean().item()
            seen = market.reset()
            begun, gathered = seen.info["equity"], torch.zeros(3, dtype=torch.float64)
            assert torch.equal(observations, shown(seen))
        else:
            assert "final_observation" not in info and "episode" not in info
            assert torch.equal(observations, shown(result))
    assert ends == 2


def test_only_those_that_end_begin_anew() -> None:
    env = made()
    env.reset()
    env.market.reset(mask=torch.tensor([True, False, False]))
    for _ in range(2):
        env.step(torch.ones((3, 1), dtype=torch.int64))
    env.market.reset(mask=torch.tensor([True, False, False]))  # two decisions behind the others
    for _ in range(3):
        env.step(torch.ones((3, 1), dtype=torch.int64))
    observations, _, _, truncated, info = env.step(torch.ones((3, 1), dtype=torch.int64))
    assert truncated.flatten().tolist() == [False, True, True]
    assert torch.equal(observations[0], info["final_observation"][0])
    assert observations[1:, -1].tolist() == [1.0, 1.0]  # all of the time is left
    assert info["final_observation"][1:, -1].tolist() == [0.0, 0.0]


def test_reset_opens_once_and_then_tells_the_present() -> None:
    env = made()
    first, _ = env.reset()
    later = env.step(torch.full((3, 1), 2))[0]
    again, _ = env.reset()
    assert torch.equal(again, later) and not torch.equal(again, first)
    assert again.data_ptr() != later.data_ptr()


def test_tensors_are_the_callers_own() -> None:
    env = made()
    env.reset()
    _, rewards, *_ = env.step(torch.full((3, 1), 2))
    kept = rewards.clone()
    rewards += 5.0  # as skrl does where time runs out
    env.step(torch.full((3, 1), 2))
    assert torch.equal(rewards, kept + 5.0)


def test_nothing_passes_through_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on a CPU writes numpy's arrays, which share their memory with torch's; a GPU has none."""
    env = made(compile=False)
    env.reset()

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("numpy was asked for")

    monkeypatch.setattr(Tensor, "numpy", refuse)
    monkeypatch.setattr(Tensor, "__array__", refuse)
    monkeypatch.setattr(torch, "from_numpy", refuse)
    for _ in range(7):  # through the end of an episode
        env.step(torch.full((3, 1), 2))


@pytest.mark.parametrize("action", [torch.tensor([[3], [0], [0]]), torch.tensor([[0.5], [0.0], [0.0]]), torch.ones(2)])
def test_bad_actions_are_refused(action: Tensor) -> None:
    env = made()
    env.reset()
    before = env.market.observe().observation
    with pytest.raises(ValueError, match=r"action .*must"):
        env.step(action)
    assert torch.equal(env.market.observe().observation, before)


def test_contradictory_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict each other"):
        tg.SkrlEnv(CONFIG, preset="toy")


def test_without_skrl_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['skrl'] = None\nimport torchgym\n"
        "try: torchgym.SkrlEnv\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "torchgym[skrl]"' in done.stdout


def test_it_lends_the_markets_attributes_but_nothing_private() -> None:
    env = made()
    assert env.opened is False and env.scheme is env.market.scheme
    for name in ("nothing", "_state", "__deepcopy__"):
        assert not hasattr(env, name)
