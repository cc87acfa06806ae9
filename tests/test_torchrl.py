"""The TorchRL face: its specifications, resets and steps by mask, and that it shows exactly what the market does."""

import functools
import itertools
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector, MultiAsyncCollector, MultiSyncCollector
from torchrl.data import Bounded, Unbounded
from torchrl.envs import EnvCreator, ParallelEnv, RewardSum, SerialEnv, TransformedEnv, check_env_specs
from torchrl.modules import ProbabilisticActor
from torchrl.objectives.value import GAE

import torchgym as tg
from torchgym.envs.torchrl import info_layout
from torchgym.numerics.trees import leaves
from torchgym.readout.rewards import REWARDS
from torchgym.sim.actions import ACTIONS

pytestmark = pytest.mark.kept

AS_IS = {"auto_register_policy_transforms": False}  # torchrl 0.14 warns until it is told whether to add transforms


def toy(num_envs: int = 2, *, max_ticks: int = 20, seed: int = 0, dtype: torch.dtype = torch.float32, **settings):
    info_keys = settings.pop("info_keys", ())
    config = tg.preset("toy", max_ticks=max_ticks, **settings)
    return tg.MarketEnv(config, num_envs, seed=seed, dtype=dtype, info_keys=info_keys)


def play(env: tg.MarketEnv, actions: list[list[int]]) -> TensorDictBase:
    """A rollout with these actions [T][N], episodes following each other: [N, T]."""
    steps, seen = [], env.reset()
    for action in actions:
        step, seen = env.step_and_maybe_reset(seen.set("action", torch.tensor(action)))
        steps.append(step)
    return torch.stack(steps, dim=1)


def bits(env: tg.MarketEnv) -> dict[str, Tensor]:
    return {name: leaf.clone() for name, leaf in leaves(env.market.state)}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], rows: Tensor | None = None) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        pair = (tensor, other[name]) if rows is None else (tensor[rows], other[name][rows])
        assert torch.equal(*pair), name


def flatten(data: TensorDictBase) -> dict[str, Tensor]:
    return dict(data.flatten_keys(".").items())


# Every preset, action scheme and reward, both precisions, one and two symbols; not every combination of them.
CASES = list(
    itertools.islice(
        zip(
            itertools.cycle(tg.PRESETS),
            itertools.cycle(ACTIONS),
            itertools.cycle(REWARDS),
            itertools.cycle((torch.float32, torch.float64)),
            itertools.cycle((1, 1, 1, 2, 2)),
            itertools.cycle(("public", "privileged", "none")),
            itertools.cycle(("raw", "relative")),
            strict=False,
        ),
        max(len(tg.PRESETS), len(ACTIONS), len(REWARDS)) + 1,
    )
)


@pytest.mark.parametrize(("preset", "action", "reward", "dtype", "symbols", "information", "scaling"), CASES)
def test_torchrl_accepts_the_specifications(preset, action, reward, dtype, symbols, information, scaling):
    config = tg.preset(
        preset,
        action=action,
        quotes=0 if ACTIONS[action].rests is None else 1,
        reward=reward,
        num_symbols=symbols,
        information=information,
        scaling=scaling,
        max_ticks=2,
    )
    env = tg.MarketEnv(config, num_envs=2, seed=1, dtype=dtype, info_keys=tuple(info_layout(config)))
    check_env_specs(env, break_when_any_done="both")


def test_specifications_name_shapes_and_types():
    env = toy(3, num_symbols=2, dtype=torch.float64, action="sized")
    assert env.batch_size == (3,)
    assert env.observation_spec["observation"].shape == (3, 108)
    assert env.observation_spec["account"].shape == (3, 5)
    assert env.action_spec.shape == (3, 2)
    assert env.action_spec.dtype == torch.int64
    assert {env.reward_spec.dtype, env.observation_spec["account"].dtype} == {torch.float64}
    assert set(env.done_keys) == {"done", "terminated", "truncated"}
    assert env.action_spec.rand().max() <= 6
    assert toy(3).action_spec.shape == (3,)
    assert toy(3).action_spec.space.n == 3
    assert toy(3).reward_spec.dtype == torch.float32


def test_relative_observations_are_bounded_and_raw_ones_are_not():
    raw, relative = toy(1).observation_spec["observation"], toy(1, scaling="relative").observation_spec["observation"]
    assert isinstance(raw, Unbounded)
    assert isinstance(relative, Bounded)
    assert relative.space.high.unique().tolist() == [10.0]


def test_data_with_the_exact_value_in_sight_are_labelled():
    labelled = toy(information="privileged")
    assert ("info", "privileged") in labelled.observation_spec.keys(True, True)
    data = labelled.rollout(2, break_when_any_done=False)
    assert data["info", "privileged"].shape == (2, 2, 1)
    assert data["info", "privileged"].all()
    assert data["next", "info", "privileged"].all()
    for public in (toy(), toy(information="none")):
        assert set(public.observation_spec.keys()) == {"observation", "account"}
        assert "info" not in set(public.reset().keys())


@pytest.mark.parametrize("reward", ["pnl", dict.fromkeys(REWARDS, 1.0)])
def test_info_has_every_entry_in_full_precision(reward):
    layout = info_layout(tg.preset("toy", num_symbols=2, reward=reward))
    env = toy(num_symbols=2, reward=reward, info_keys=tuple(layout))
    stepped = env.rand_step(env.reset())["next", "info"]
    info = env.market.step().info
    assert layout == {name: (value.dtype, value.reshape(2, -1).shape[1]) for name, value in info.items()}
    assert {name: (value.dtype, value.shape[1]) for name, value in stepped.items()} == layout


def test_every_step_gives_new_memory():
    env, twin = toy(dtype=torch.float64, info_keys=("tick", "equity", "reward_pnl")), toy(dtype=torch.float64)
    seen, expected = env.reset(), twin.reset()
    kept, places = [seen], []
    for _ in range(4):
        stepped = env.step(seen.set("action", torch.tensor([2, 0])))
        kept.append(stepped)
        places += [leaf.data_ptr() for leaf in stepped["next"].values(True, True)]
        seen = stepped["next"].clone()
    assert len(set(places)) == len(places)
    owned = {leaf.data_ptr() for _, leaf in leaves(env.market.state)}
    assert not owned & {leaf.data_ptr() for step in kept for leaf in step.values(True, True)}
    for step in kept:
        step.apply_(lambda leaf: leaf.zero_())
    for _ in range(4):
        expected = twin.step(expected.set("action", torch.tensor([2, 0])))["next"]
    scribbled = env.step(seen.set("action", torch.tensor([1, 1])))["next"]
    unharmed = twin.step(expected.set("action", torch.tensor([1, 1])))["next"]
    assert torch.equal(scribbled["observation"], unharmed["observation"])


def test_a_row_is_the_same_alone_and_in_a_batch():
    actions = [[2, 1, 0], [0, 0, 1], [2, 2, 2], [1, 0, 2]]
    together = play(toy(3, max_ticks=3, seed=40), actions)
    for row in (0, 2):
        alone = play(toy(1, max_ticks=3, seed=40 + row), [[action[row]] for action in actions])
        assert_same(flatten(alone[0]), flatten(together[row]))


def test_float32_is_the_rounded_float64():
    actions = [[2, 1], [0, 2]]
    single, double = play(toy(), actions), play(toy(dtype=torch.float64), actions)
    for key in ("observation", "account", ("next", "observation"), ("next", "account"), ("next", "reward")):
        assert single[key].dtype == torch.float32
        assert double[key].dtype == torch.float64
        assert torch.equal(single[key], double[key].to(torch.float32))


def test_a_partial_reset_opens_only_its_rows():
    env = toy(3)
    seen = env.reset()
    for _ in range(2):
        seen = env.step(seen.set("action", torch.tensor([2, 0, 2])))["next"]
    before, shown = bits(env), seen["observation"].clone()
    mask = torch.tensor([[False], [True], [False]])
    reset = env.reset(seen.set("_reset", mask))
    after, others = bits(env), torch.tensor([0, 2])
    assert_same(before, after, others)
    assert after["clock.tick"].tolist() == [2, 0, 2]
    assert after["clock.episode"].tolist() == [0, 1, 0]
    assert torch.equal(reset["observation"][others], shown[others])
    assert not torch.equal(reset["observation"][1], shown[1])
    assert not reset["done"].any()


def test_the_last_observation_of_an_episode_is_kept():
    env = toy(2, max_ticks=3)
    seen = env.reset()
    seen = env.step(seen.set("action", torch.tensor([1, 1])))["next"]
    seen = env.reset(seen.set("_reset", torch.tensor([[False], [True]])))  # row 1 is now a tick behind
    _, seen = env.step_and_maybe_reset(seen.set("action", torch.tensor([2, 2])))
    fork = env.market.fork()
    step, seen = env.step_and_maybe_reset(seen.set("action", torch.tensor([0, 1])))
    truth = fork.step(torch.tensor([0, 1]))
    last, current = step["next", "observation"], seen["observation"]
    assert torch.equal(last, truth.observation.to(torch.float32))
    assert step["next", "truncated"].flatten().tolist() == [True, False]
    assert step["next", "done"].flatten().tolist() == [True, False]
    assert not step["next", "terminated"].any()
    assert not torch.equal(current[0], last[0])
    assert torch.equal(current[1], last[1])
    assert torch.equal(current[0], fork.reset(mask=torch.tensor([True, False])).observation[0].to(torch.float32))
    assert not seen["done"].any()


def test_rows_outside_the_step_mask_stand_still():
    env, whole = toy(3), toy(3)
    action, mask = torch.tensor([2, 2, 0]), torch.tensor([True, False, True])
    seen, moved = env.reset(), whole.reset()
    before, shown = bits(env), seen["observation"].clone()
    stepped = env.step(seen.set("action", action).set("_step", mask))["next"]
    moved = whole.step(moved.set("action", action))["next"]
    assert_same(before, bits(env), torch.tensor([1]))
    assert_same(bits(whole), bits(env), torch.tensor([0, 2]))
    assert torch.equal(stepped["observation"], torch.where(mask[:, None], moved["observation"], shown))
    assert stepped["reward"][1] == 0
    assert torch.equal(stepped["reward"][mask], moved["reward"][mask])
    assert moved["reward"][1] != 0


def test_ended_rows_wait_for_the_others_when_a_rollout_runs_until_all_are_done():
    env = toy(2, max_ticks=4)
    seen = env.reset()
    seen = env.step(seen.set("action", torch.tensor([1, 1])))["next"]
    seen = env.reset(seen.set("_reset", torch.tensor([[True], [False]])))
    data = env.rollout(10, tensordict=seen, auto_reset=False, break_when_any_done=False, break_when_all_done=True)
    assert data.shape == (2, 4)
    assert env.market.state.clock.tick.tolist() == [4, 4]


def test_stepping_in_inference_mode_leaves_a_usable_market():
    env, plain = toy(max_ticks=3), toy(max_ticks=3)
    seen, expected = env.reset(), plain.reset()
    for index in range(5):
        with torch.inference_mode(index % 2 == 0):
            action = torch.tensor([2, 0])
            step, seen = env.step_and_maybe_reset(seen.set("action", action))
        truth, expected = plain.step_and_maybe_reset(expected.set("action", action.clone()))
        assert torch.equal(step["next", "observation"], truth["next", "observation"])


def test_rewards_add_up_to_the_change_of_equity():
    env = toy(3, max_ticks=30, dtype=torch.float64, info_keys=("equity",))
    torch.manual_seed(0)
    data = env.rollout(30, break_when_any_done=False)
    equity = data["next", "info", "equity"]
    assert torch.allclose(
        data["next", "reward"].sum(1), equity[:, -1] - data["info", "equity"][:, 0], rtol=0, atol=1e-8
    )
    assert (data["next", "reward"] != 0).any(1).all()


def ruinous(num_envs: int) -> tg.MarketEnv:
    """Whoever trades at all is ruined by the commission; the time is up after two ticks."""
    start = tg.preset("toy").starting_cash
    return toy(num_envs, max_ticks=2, dtype=torch.float64, maintenance=start - 1, commission_bps=100.0)


def test_ruin_terminates_and_time_truncates():
    data = play(ruinous(2), [[2, 1], [1, 1]])
    assert data["next", "terminated"][..., 0].tolist() == [[True, False], [False, False]]
    assert data["next", "truncated"][..., 0].tolist() == [[False, False], [False, True]]
    assert data["next", "done"][..., 0].tolist() == [[True, False], [False, True]]


def test_advantages_bootstrap_at_truncation_and_not_at_termination():
    gamma, worth = 0.5, 3.0
    constant = TensorDictModule(lambda seen: torch.full_like(seen[..., :1], worth), ["observation"], ["state_value"])
    data = play(ruinous(2), [[2, 1], [1, 1]])
    GAE(gamma=gamma, lmbda=1.0, value_network=constant, differentiable=False)(data)
    ruined, rested = data["advantage"][..., 0]
    assert torch.allclose(ruined[0], data["next", "reward"][0, 0, 0] - worth)
    assert data["next", "reward"][1].eq(0).all()
    assert rested[1] == gamma * worth - worth
    assert rested[0] == gamma * gamma * worth - worth


def test_a_seed_decides_the_next_episodes():
    actions = [[2, 0], [1, 2]]
    env = toy(seed=17)
    first = play(env, actions)
    env.set_seed(17)
    again = play(env, actions)
    assert_same(flatten(first), flatten(again))
    unopened = toy(seed=0)
    unopened.set_seed(18)
    other = unopened.reset()["observation"]
    assert torch.equal(other[0], first["observation"][1, 0])
    assert not torch.equal(other[0], other[1])


def test_a_seed_given_in_an_episode_waits_for_its_end():
    env, twin = toy(max_ticks=3), toy(max_ticks=3)
    seen, undisturbed = env.reset(), twin.reset()
    env.set_seed(17)
    action = torch.tensor([2, 0])
    for _ in range(3):
        step, seen = env.step_and_maybe_reset(seen.set("action", action))
        expected, undisturbed = twin.step_and_maybe_reset(undisturbed.set("action", action))
        assert torch.equal(step["next", "observation"], expected["next", "observation"])
    assert step["next", "done"].all()
    assert torch.equal(seen["observation"], toy(seed=17, max_ticks=3).reset()["observation"])


@pytest.mark.parametrize("seed", [-1, 2**63, "7"])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        toy()._set_seed(seed)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.tensor([1, 3]), "market 1 is 3"),
        (torch.tensor([-1, 1]), "market 0 is -1"),
        (torch.tensor([[1], [1]]), "shape"),
        (torch.tensor([1.0, 1.0]), "integer dtype"),
        (torch.tensor([True, False]), "integer dtype"),
    ],
)
def test_bad_actions_move_nothing(action, message):
    env = toy()
    seen = env.reset()
    before = bits(env)
    with pytest.raises(ValueError, match=message):
        env.step(seen.set("action", action))
    assert_same(before, bits(env))


def test_one_action_for_several_symbols_is_refused():
    env = toy(num_symbols=2)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), got \(2,\)"):
        env.step(env.reset().set("action", torch.tensor([1, 1])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": torch.float16}, "float32 or torch.float64"),
        ({"info_keys": ("equity", "wealth")}, "unknown info 'wealth': choose from tick, equity"),
        ({"info_keys": "equity"}, "sequence of names"),
        ({"num_envs": 0}, "num_envs"),
        ({"config": "toy"}, "MarketConfig"),
        ({"compile": {"fullgraph": True}}, "compile must be True, False or 'auto', got {'fullgraph': True}"),
        ({"compile": None}, "compile must be True, False or 'auto', got None"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tg.MarketEnv(**arguments)


def test_the_market_state_resumes_in_every_bit():
    env = toy(seed=3)
    env.rollout(4, break_when_any_done=False)
    saved = env.market_state()
    other = toy(seed=99)
    other.set_market_state(saved)
    assert_same(bits(env), bits(other))
    action = TensorDict({"action": torch.tensor([2, 0])}, [2])
    assert_same(flatten(env.step(action.clone())["next"]), flatten(other.step(action.clone())["next"]))
    assert_same(flatten(env.reset()), flatten(other.reset()))
    with pytest.raises(ValueError, match="do not fit"):
        toy(3).set_market_state(saved)
    assert_same(TransformedEnv(other, RewardSum()).market_state(), other.market_state())


def test_a_state_dict_has_nothing_of_the_market():
    """TorchRL loads it from one environment into others, with its transforms' weights."""
    for env in (toy(seed=3), TransformedEnv(toy(seed=3), RewardSum())):
        env.rollout(4, break_when_any_done=False)
        before = bits(env)
        saved = env.state_dict()
        assert not saved
        other = toy(seed=99)
        other.reset()
        env.load_state_dict(other.state_dict())
        assert_same(bits(env), before)


def test_reset_takes_a_seed():
    """Whole or partial it opens the first episodes of these seeds; later ones follow."""
    env, fresh = toy(seed=3), toy(seed=40)
    env.reset()
    assert_same(flatten(env.reset(seed=40)), flatten(fresh.reset()))
    assert_same(flatten(env.reset()), flatten(fresh.reset()))
    data = env.rand_step(env.reset())["next"]
    data["_reset"] = torch.tensor([[False], [True]])
    again = env.reset(data.clone(), seed=40)
    assert torch.equal(again["observation"][1], toy(seed=40).reset()["observation"][1])
    assert torch.equal(again["observation"][0], data["observation"][0])
    assert torch.equal(
        TransformedEnv(env, RewardSum()).reset(seed=7)["observation"], toy(seed=7).reset()["observation"]
    )
    before = bits(env)
    for wrong in (-1, 1.5, True, "7", 2**63):
        with pytest.raises(ValueError, match=r"^seed must be an integer"):
            env.reset(seed=wrong)
    with pytest.raises(TypeError, match="options"):
        env.reset(options={})
    assert_same(bits(env), before)


def make_fresh() -> tg.MarketEnv:
    return tg.MarketEnv(tg.preset("toy", max_ticks=4), 1)


def make_seeded(seed: int) -> tg.MarketEnv:
    return tg.MarketEnv(tg.preset("toy", max_ticks=4), 1, seed=seed)


SEEDED = [functools.partial(make_seeded, seed) for seed in (11, 70)]


@pytest.mark.parametrize("batched", [SerialEnv, ParallelEnv])
@pytest.mark.parametrize("creator", [lambda make: make, EnvCreator])
def test_workers_play_episodes_of_their_own(batched: Any, creator: Any):
    """Without seeds they differ; with seeds each begins with the first episode of its own, as `MarketEnv(seed=...)` does."""
    env = batched(2, creator(make_fresh))
    observations = env.reset()["observation"]
    assert not torch.equal(observations[0], observations[1])
    env.close()
    env = batched(2, [creator(make) for make in SEEDED])
    first, second = env.reset()["observation"], env.reset()["observation"]
    env.close()
    for row, make in enumerate(SEEDED):
        alone = make()
        assert torch.equal(first[row], alone.reset()["observation"])
        assert torch.equal(second[row], alone.reset()["observation"])


def test_batched_environments_can_be_seeded():
    """`set_seed` gives each worker a seed of its own, the same in every such environment."""
    envs = [batched(2, make_fresh) for batched in (SerialEnv, ParallelEnv)]
    for env in envs:
        env.set_seed(5)
    serial, parallel = (env.reset()["observation"] for env in envs)
    for env in envs:
        env.close()
    assert torch.equal(serial, parallel)
    assert not torch.equal(serial[0], serial[1])
    assert torch.equal(serial[0], make_seeded(5).reset()["observation"])


def test_workers_of_a_collector_play_episodes_of_their_own():
    collector = MultiAsyncCollector([make_fresh, make_fresh], frames_per_batch=8, total_frames=32, **AS_IS)
    batches = [batch["observation"].clone() for batch in collector]
    collector.shutdown()
    openings = torch.cat([batch.reshape(-1, 4, 54)[:, 0] for batch in batches])
    assert len(openings.unique(dim=0)) == len(openings) == 8


def test_workers_of_a_collector_begin_with_their_seeds():
    collector = MultiSyncCollector(SEEDED, frames_per_batch=8, total_frames=8, cat_results="stack", **AS_IS)
    openings = next(iter(collector))["observation"].reshape(2, 4, 54)[:, 0]
    collector.shutdown()
    assert torch.equal(openings, torch.cat([make().reset()["observation"] for make in SEEDED]))


def test_an_environment_moves_to_another_device_whole():
    env = toy()
    env.reset()
    market = env.market
    assert env.to("cpu") is env
    assert env.market is market
    assert env.to("meta") is env
    assert {leaf.device.type for _, leaf in leaves(env.market.state)} == {"meta"}
    assert env.observation_spec.device.type == env.market.device.type == env.device.type == "meta"


def test_compile_switches_the_market_and_eager_switches_back():
    env = tg.MarketEnv(tg.preset("toy"), compile=True)
    assert env.market.compile
    assert not env.eager().market.compile
    assert env.compile().market.compile
    with pytest.raises(ValueError, match="options of its own"):
        env.compile(fullgraph=True)


@pytest.mark.slow
def test_compiled_steps_are_the_same_in_every_bit():
    config = tg.preset("toy", max_ticks=4)
    compiled, eager = (tg.MarketEnv(config, 2, seed=2, compile=compile) for compile in (True, False))
    actions = [[2, 0], [2, 1], [0, 0], [1, 2], [2, 2]]
    assert_same(flatten(play(compiled, actions)), flatten(play(eager, actions)))
    assert_same(bits(compiled), bits(eager))


class TestCollector:
    @staticmethod
    def policy(env: tg.MarketEnv) -> ProbabilisticActor:
        net = TensorDictModule(nn.Linear(54, 3), ["observation"], ["logits"])
        return ProbabilisticActor(
            net, ["logits"], spec=env.action_spec, distribution_class=torch.distributions.Categorical
        )

    def test_batches_join_seamlessly(self):
        env = toy(3, max_ticks=5, scaling="relative")
        collector = Collector(env, self.policy(env), frames_per_batch=12, total_frames=24, **AS_IS)
        data = torch.cat(list(collector), dim=1)
        collector.shutdown()
        assert data.shape == (3, 8)
        done = data["next", "done"][..., 0]
        assert done.nonzero()[:, 1].unique().tolist() == [4]
        follows = (data["next", "observation"][:, :-1] == data["observation"][:, 1:]).all(-1)
        assert torch.equal(follows, ~done[:, :-1])

    def test_transforms_see_whole_episodes(self):
        env = TransformedEnv(toy(2, max_ticks=3, dtype=torch.float64), RewardSum())
        data = env.rollout(6, break_when_any_done=False)
        rewards = data["next", "reward"][..., 0].reshape(2, 2, 3)
        assert torch.allclose(data["next", "episode_reward"][..., 0].reshape(2, 2, 3), rewards.cumsum(-1))
