"""`TradingEnv`: gymnasium's contract, held to gymnasium's and stable-baselines3's own checkers."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from torchrl.envs import GymEnv
from torchrl.envs.utils import check_env_specs

import torchgym as tg
from torchgym import MarketConfig
from torchgym.envs.gymnasium import TradingEnv
from torchgym.envs.spaces import ActionArrays
from torchgym.readout.rewards import weights

pytestmark = pytest.mark.kept

VARIANTS: dict[str, dict[str, Any]] = {
    "one symbol": {},
    "two symbols, target, account": {"num_symbols": 2, "action": "target", "include_account": True},
    "sized, relative, two ticks": {"action": "sized", "scaling": "relative", "ticks_per_action": 2},
}
BAD_ACTIONS = [3, -1, 2**70, 1.0, 0.5, True, None, "2", np.nan, [1], np.array([1]), np.bool_(True), torch.tensor(1.0)]
GOOD_ACTIONS = [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)]


def toy(**settings: Any) -> TradingEnv:
    return TradingEnv(**{"preset": "toy", "max_ticks": 8, **settings})


@pytest.fixture(scope="module")
def opened() -> TradingEnv:
    """An environment in its first episode, for tests that leave it where it is."""
    env = toy()
    env.reset(seed=3)
    return env


def tick(env: TradingEnv) -> list[int]:
    return env.market.state.clock.tick.tolist()


# What both checkers say of any feature without bounds, prices among them.
@pytest.mark.filterwarnings(r"ignore:.*A Box observation space minimum value is -infinity\. This is probably too low\.")
@pytest.mark.filterwarnings(r"ignore:.*A Box observation space maximum value is infinity\. This is probably too high\.")
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_gymnasium_finds_nothing_wrong(settings: dict[str, Any]) -> None:
    made = gymnasium.make("torchgym/Trading-v0", preset="toy", max_ticks=8, **settings).unwrapped if settings else toy()
    check_env(made, skip_render_check=True)  # opens a window; see test_rendering.py


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_stable_baselines3_finds_nothing_wrong(settings: dict[str, Any]) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(toy(**settings))


def test_an_episode_from_reset_to_the_end() -> None:
    env = toy(num_symbols=2, include_account=True, information="privileged")
    first, opening = env.reset(seed=1)
    assert (opening["tick"], opening["equity"], opening["privileged"]) == (0, 100_000.0, True)
    total, terminated, truncated, info = 0.0, False, False, opening
    env.action_space.seed(1)
    while not (terminated or truncated):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        total += reward
    assert (info["tick"], terminated, truncated) == (8, False, True)
    assert list(info) == list(opening)
    assert info["equity"] == pytest.approx(100_000.0 + total, rel=1e-12)
    assert observation.shape == first.shape == (len(env.feature_names),) == (2 * 54 + 5,)
    for name, value in info.items():
        per_symbol = name in ("position", "filled", "mid", "bid", "ask", "recent_volume")
        kind = np.ndarray if per_symbol else {"tick": int, "privileged": bool}.get(name, float)
        assert type(value) is kind, name
    assert info["position"].shape == info["filled"].shape == (2,)
    with pytest.raises(ResetNeeded, match=r"ended: call reset\(\)"):
        env.step([1, 1])
    assert tick(env) == [8]


def test_it_is_the_market_itself() -> None:
    env, market = toy(include_account=True, reward={"pnl": 1.0, "log_return": 2.0}), tg.Market(tg.preset("toy"), 1)
    observation, _ = env.reset(seed=9)
    seen = market.reset(seeds=[9])
    for action in (2, 2, 0):
        result = market.step(torch.tensor([action]))
        after, reward, *_, info = env.step(action)
        np.testing.assert_array_equal(after[:54], result.observation[0].numpy())
        assert info["equity"] == result.info["equity"].item()
        assert info["position"].tolist() == result.info["position"][0].tolist()
        terms = [weight * info[f"reward_{name}"] for name, weight in weights(env.config).items()]
        assert reward == pytest.approx(sum(terms), rel=1e-12)
    np.testing.assert_array_equal(observation[:54], seen.observation[0].numpy())


def test_the_seed_decides_the_episode() -> None:
    env = toy(seed=5)
    by_constructor = env.reset()[0]
    then = env.reset()[0]
    by_reset = env.reset(seed=np.int64(5))[0]
    again = env.reset()[0]
    assert env.np_random_seed == 5
    np.testing.assert_array_equal(by_constructor, by_reset)
    np.testing.assert_array_equal(then, again)
    assert not np.array_equal(then, by_reset)


def test_a_seed_at_reset_comes_before_the_constructors() -> None:
    env = toy(seed=5)
    env.reset(seed=6)
    drawn = env.reset()[1], env.market.state.clock.seed.tolist()
    assert drawn[1] == [int(np.random.default_rng(6).integers(2**63))]


def test_without_any_seed_episodes_differ() -> None:
    assert not np.array_equal(toy().reset()[0], toy().reset()[0])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "7", True])
def test_a_bad_seed_changes_nothing(opened: TradingEnv, seed: Any) -> None:
    key, generator = opened.market.state.clock.key.tolist(), opened.np_random.bit_generator.state
    with pytest.raises(ValueError, match=r"seed .* got"):
        opened.reset(seed=seed)
    with pytest.raises(ValueError, match=r"seed .* got"):
        toy(seed=seed)
    assert opened.market.state.clock.key.tolist() == key
    assert opened.np_random.bit_generator.state == generator


@pytest.mark.parametrize("action", BAD_ACTIONS, ids=repr)
def test_a_bad_action_changes_nothing(opened: TradingEnv, action: Any) -> None:
    before = tick(opened)
    with pytest.raises(ValueError, match=r"^action must "):
        opened.step(action)
    assert tick(opened) == before


@pytest.mark.parametrize("action", GOOD_ACTIONS, ids=repr)
def test_integers_of_any_kind_are_actions(action: Any) -> None:
    assert ActionArrays(MarketConfig()).checked(action) == 2


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ([0, 3], r"0 to 2, got 3 at \(1,\)"),
        ([0], r"shape \(2,\), got \(1,\)"),
        (1, r"shape \(2,\), got \(\)"),
        ([True, 1], r"integers, got \[True, 1\]"),
        ([[0], [1, 2]], "integers"),
        (np.array([0.0, 1.0]), "integers"),
        (torch.tensor([0, -1]), r"0 to 2, got -1 at \(1,\)"),
        ({0, 1}, "integers"),
    ],
    ids=repr,
)
def test_a_bad_action_of_several_symbols_is_named(action: Any, complaint: str) -> None:
    assert ActionArrays(MarketConfig(num_symbols=2)).checked((0, np.int64(2))).tolist() == [0, 2]
    with pytest.raises(ValueError, match=complaint):
        ActionArrays(MarketConfig(num_symbols=2)).checked(action)


def test_a_step_needs_a_reset() -> None:
    with pytest.raises(ResetNeeded, match=r"no episode has begun: call reset\(\)"):
        toy().step(1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"config": tg.MarketConfig(), "preset": "toy"}, "contradict"),
        ({"preset": "mars"}, "unknown preset 'mars': choose one of default"),
        ({"config": "toy"}, "config must be a MarketConfig, got 'toy'"),
        ({"action": "shout"}, "unknown action scheme 'shout'"),
        ({"render_mode": "paper"}, "unknown render_mode 'paper': choose one of human, rgb_array, ansi, or None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TradingEnv(**settings)


@pytest.mark.parametrize(
    ("make", "action"),
    [(toy, 1), (partial(tg.TradingVectorEnv, preset="toy", num_envs=2), [1, 2])],
    ids=["one market", "batch"],
)
def test_observations_are_of_the_dtype_that_is_asked_for(make: Any, action: Any) -> None:
    exact, rounded = make(), make(dtype="float32")
    for one, other in ((exact.reset(seed=2), rounded.reset(seed=2)), (exact.step(action), rounded.step(action))):
        assert (one[0].dtype, other[0].dtype) == (np.float64, np.float32)
        np.testing.assert_array_equal(one[0].astype(np.float32), other[0])
        assert other[0] in rounded.observation_space
    for wrong in ("float16", int, "far", 7):
        with pytest.raises(ValueError, match=r"dtype must be numpy's float32 or float64, .* got"):
            make(dtype=wrong)


def test_options_that_nobody_knows_are_refused() -> None:
    for env in (toy(), tg.TradingVectorEnv(preset="toy")):
        env.reset(seed=1, options={})
        with pytest.raises(ValueError, match=r"reset options must .*, got \{'tick': 3\}"):
            env.reset(options={"tick": 3})


def test_settings_change_the_configuration_given() -> None:
    env = TradingEnv(tg.preset("toy"), max_ticks=4, num_symbols=2, compile=True)
    assert env.config == tg.preset("toy", max_ticks=4, num_symbols=2)
    assert env.market.compile
    env.close()
    env.close()


@pytest.mark.parametrize("settings", [{}, {"num_symbols": 2, "action": "target"}], ids=["one symbol", "two symbols"])
def test_torchrl_makes_it_by_its_name(settings: dict[str, Any]) -> None:
    """It tries arguments of its own on every environment; its data are those of the environment itself."""
    made = GymEnv("torchgym/Trading-v0", preset="toy", max_ticks=4, categorical_action_encoding=True, **settings)
    check_env_specs(made)
    made.set_seed(7)
    data = made.rollout(6, break_when_any_done=False)
    assert data["next", "truncated"].flatten().tolist() == [False, False, False, True, False, False]
    env = toy(task="Trading", max_ticks=4, **settings)
    env.reset(seed=7)  # as `set_seed` does at once
    observation, _ = env.reset()
    for step, action in enumerate(data["action"].tolist()):
        np.testing.assert_array_equal(data["observation"][step].numpy(), observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(data["next", "observation"][step].numpy(), observation)
        assert data["next", "reward"][step].item() == np.float32(reward)
        if terminated or truncated:
            observation, _ = env.reset()


def test_torchrl_passes_a_misspelt_setting_on() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'max_tick': .* settings are .*max_ticks"):
        GymEnv("torchgym/Trading-v0", preset="toy", max_tick=4)


def test_it_runs_in_workers_of_gymnasium() -> None:
    make = partial(gymnasium.make, "torchgym:torchgym/Trading-v0", preset="toy", max_ticks=2)
    workers, here = AsyncVectorEnv([make] * 2, context="spawn"), SyncVectorEnv([make] * 2)
    for env in (workers, here):
        assert env.metadata["information"] == "public"
    np.testing.assert_array_equal(workers.reset(seed=3)[0], here.reset(seed=3)[0])
    for actions in ([2, 0], [1, 1], [0, 2], [2, 2]):
        one, other = workers.step(np.array(actions)), here.step(np.array(actions))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[-1]["equity"], other[-1]["equity"])
    workers.close()
    here.close()


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", None])
def test_make_vec_makes_the_same_markets_in_every_way(mode: str | None) -> None:
    made = gymnasium.make_vec("torchgym/Trading-v0", num_envs=2, vectorization_mode=mode, preset="toy")
    alone = toy(task="Trading", max_ticks=200)
    np.testing.assert_array_equal(made.reset(seed=3)[0][1], alone.reset(seed=4)[0])
    np.testing.assert_array_equal(made.step(np.array([0, 2]))[0][1], alone.step(2)[0])
    made.close()


def test_what_comes_back_is_the_callers_own() -> None:
    env = toy()
    kept = [env.reset(seed=2)] + [env.step(2)[::4] for _ in range(3)]
    copies = [(observation.copy(), info["position"].copy()) for observation, info in kept]
    for observation, info in kept[:-1]:
        observation += 1.0
        info["position"] += 1
    np.testing.assert_array_equal(kept[-1][0], copies[-1][0])
    env.step(2)
    np.testing.assert_array_equal(kept[-1][0], copies[-1][0])
    assert kept[-1][1]["position"].tolist() == copies[-1][1].tolist() == [30]
