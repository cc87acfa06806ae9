"""The ready-made ids: what a task asks, who may change it, and how long gymnasium says that its episodes are."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

import torchgym as tg
from torchgym.config import TASKS
from torchgym.envs.vector import TradingVectorEnv

pytestmark = pytest.mark.kept

ID = "torchgym/Trading-v0"
PLAIN = {"compile": False}


def make(**settings: Any) -> Any:
    return gymnasium.make(ID, **PLAIN, **settings)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_an_id_and_a_configuration_of_every_face(name: str) -> None:
    row, config = TASKS[name], tg.task(name)
    assert config == tg.MarketConfig(**row.settings)
    faces: list[Any] = [gymnasium.make(f"torchgym/{name}-v0", **PLAIN).unwrapped]
    faces += [gymnasium.make_vec(f"torchgym/{name}-v0", num_envs=2, **PLAIN)]
    faces += [kind(task=name, **PLAIN) for kind in (tg.TradingEnv, tg.TradingVectorEnv, tg.SB3VecEnv, tg.SkrlEnv)]
    for env in faces:
        assert env.config == config
        assert env.include_account == row.include_account
        space = getattr(env, "single_observation_space", env.observation_space)
        assert space.dtype == np.dtype(row.dtype)


def test_the_learner_sees_bounded_numbers_and_its_account_in_short_episodes() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert (observation.shape, observation.dtype) == ((58,), np.float32)
    assert np.abs(observation).max() <= 10.0
    assert env.get_wrapper_attr("feature_names")[-4:] == ["position", "cash", "equity", "time_left"]
    assert env.unwrapped.config.max_ticks == 1_000


def test_what_the_caller_says_comes_first_then_the_task_then_the_preset() -> None:
    chosen = make(preset="toy", max_ticks=50, scaling="raw", include_account=False, dtype=np.float64).unwrapped
    assert chosen.config == tg.preset("toy", max_ticks=50)
    assert (chosen.observation_space.shape, chosen.observation_space.dtype) == ((54,), np.float64)
    assert make(preset="toy").unwrapped.config == tg.preset(
        "toy", scaling="relative"
    )  # whose episodes are short anyway
    assert make(preset="volatile").unwrapped.config == tg.preset("volatile", scaling="relative", max_ticks=1_000)


@pytest.mark.parametrize("given", [{"config": tg.MarketConfig()}, {"task": None}], ids=["config", "no task"])
def test_a_literal_configuration_stays_literal(given: dict[str, Any]) -> None:
    """The same bits as a `TradingEnv` that knows of no task."""
    named = gymnasium.make(f"torchgym:{ID}", **PLAIN, **given)
    plain = tg.TradingEnv(compile=False)
    assert named.unwrapped.config == tg.MarketConfig()
    assert named.spec.max_episode_steps == 10_000
    for one, other in ((named.reset(seed=3), plain.reset(seed=3)), (named.step(2), plain.step(2))):
        assert one[0].dtype == other[0].dtype == np.float64
        np.testing.assert_array_equal(one[0], other[0])
    with pytest.raises(ValueError, match="contradict"):
        make(config=tg.MarketConfig(), preset="toy")


def test_an_unknown_task_is_named() -> None:
    for given in ({}, {"config": tg.MarketConfig()}):
        with pytest.raises(ValueError, match=r"unknown task 'Racing': choose from Trading"):
            tg.TradingEnv(task="Racing", **given)
    with pytest.raises(ValueError, match="unknown preset 'mars'"):
        tg.task("Trading", "mars")


def test_a_task_comes_before_its_preset_but_for_the_length() -> None:
    for name, row in TASKS.items():
        for market in ("illiquid", "as_null"):
            made = tg.task(name, market)
            asked = {setting: value for setting, value in row.settings.items() if setting != "max_ticks"}
            assert {setting: getattr(made, setting) for setting in asked} == asked
    assert tg.task("MarketMaking", "illiquid").commission_bps == tg.preset("illiquid").commission_bps == 3.0
    assert tg.task("Trading", "toy").max_ticks == tg.preset("toy").max_ticks == 200
    assert tg.task("MarketMaking", "as_null", action="depths").action == "depths"


def test_what_was_meant_is_asked() -> None:
    for make, meant in (
        (lambda: tg.preset("toy", max_tick=3), "max_ticks"),
        (lambda: tg.task("market_making"), "MarketMaking"),
        (lambda: tg.TradingEnv(num_symbol=2), "num_symbols"),
    ):
        with pytest.raises((ValueError, TypeError), match=rf"; did you mean {meant}\?$"):
            make()


LENGTHS: list[tuple[dict[str, Any], int]] = [
    ({}, 1_000),
    ({"max_ticks": 1_500}, 1_500),
    ({"ticks_per_action": 5}, 200),
    ({"preset": "toy"}, 200),
    ({"config": tg.preset("toy", max_ticks=6, ticks_per_action=2)}, 3),
]


@pytest.mark.parametrize(("settings", "steps"), LENGTHS, ids=str)
def test_gymnasium_is_told_the_length_of_episodes(settings: dict[str, Any], steps: int) -> None:
    batch = gymnasium.make_vec(ID, num_envs=2, **PLAIN, **settings)
    for env in (make(**settings), batch):
        assert env.spec.id == ID
        assert env.spec.max_episode_steps == steps
        assert env.unwrapped.config.max_ticks == steps * env.unwrapped.config.ticks_per_action
    assert gymnasium.make_vec(batch.spec).spec.max_episode_steps == steps
    assert gymnasium.make(make(**settings).spec).spec.max_episode_steps == steps


def test_nothing_but_the_market_ends_an_episode() -> None:
    """Also where gymnasium wraps its own limit around an environment that is made again from its specification."""
    made = make(preset="toy", max_ticks=6, ticks_per_action=2)
    again = gymnasium.make(made.spec)
    for env, limited in ((made, False), (again, True)):
        assert isinstance(env, TimeLimit) == limited
        env.reset(seed=1)
        ends = [env.step(1)[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]
        assert env.unwrapped.market.state.clock.tick.tolist() == [6]


def test_another_length_than_the_market_has_is_refused() -> None:
    assert isinstance(gymnasium.make_vec(ID, num_envs=2, max_episode_steps=1_000, **PLAIN), TradingVectorEnv)
    with pytest.raises(ValueError, match=r"max_episode_steps = 30, .* makes 20: give max_ticks=30 \* 5"):
        gymnasium.make_vec(ID, num_envs=2, max_ticks=100, ticks_per_action=5, max_episode_steps=30, **PLAIN)


def test_a_client_in_the_manner_of_cleanrl_learns_from_the_name() -> None:
    """Its DQN: single environments in a `SyncVectorEnv`, a replay buffer of the space's dtype, networks of float32."""
    buffers = pytest.importorskip("stable_baselines3.common.buffers")

    def make_env() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.RecordEpisodeStatistics(make(preset="toy", max_ticks=15))

    envs = gymnasium.vector.SyncVectorEnv([make_env])
    assert isinstance(envs.single_action_space, gymnasium.spaces.Discrete)
    width = int(np.prod(envs.single_observation_space.shape))
    network = torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    memory = buffers.ReplayBuffer(
        100, envs.single_observation_space, envs.single_action_space, "cpu", handle_timeout_termination=False
    )
    seen, _ = envs.reset(seed=1)
    before, lengths = [weight.clone() for weight in network.parameters()], []
    for _ in range(40):
        choices = network(torch.Tensor(seen)).argmax(1).numpy()
        after, rewards, terminations, _, infos = envs.step(choices)
        memory.add(seen, after, choices, rewards, terminations, infos)
        lengths += infos["episode"]["l"][infos["_episode"]].tolist() if "episode" in infos else []
        seen = after
        drawn = memory.sample(8)
        with torch.no_grad():
            target = drawn.rewards.flatten() + 0.99 * network(drawn.next_observations).max(1).values
        loss = torch.nn.functional.mse_loss(network(drawn.observations).gather(1, drawn.actions).squeeze(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert lengths == [15, 15]
    assert not all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
