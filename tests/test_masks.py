"""Action masks: a choice is masked exactly where the position limit cuts its order to nothing, and every face says so alike."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from torchrl.envs import ActionMask, TransformedEnv
from torchrl.envs.utils import check_env_specs

import torchgym as tg
from torchgym.numerics.trees import leaves
from torchgym.sim.actions import ACTIONS, Choices, Known, orders

pytestmark = pytest.mark.kept

LIMIT = 25  # two and a half orders
TIGHT = tg.preset("toy", max_ticks=40, position_limit=LIMIT)
# A choice that lets an order rest also cancels one, so it never does the same as nothing.
SCHEMES = {name: row.space for name, row in ACTIONS.items() if isinstance(row.space, Choices) and row.rests is None}


def at(held: list[int], **settings: Any) -> tg.Market:
    """A market per position, opened and holding it."""
    rows = {"starting_shares": np.array(held)}
    market = tg.Market(TIGHT.replace(**settings), len(held), seed=0, params=rows, compile=False)
    market.reset()
    assert market.live.ledger.shares.flatten().tolist() == held
    return market


@pytest.mark.parametrize(
    ("name", "held", "masks"),
    [
        ("discrete", [-25, -24, 0, 24, 25], ["011", "111", "111", "111", "110"]),
        ("sized", [-25, -24, 0, 24, 25], ["0001111", "1111111", "1111111", "1111111", "1111000"]),
        ("target", [-25, 0, 25], ["11111"] * 3),  # a target reached is a hold, and none lies beyond the limit
    ],
)
def test_masks_by_hand(name: str, held: list[int], masks: list[str]) -> None:
    mask = at(held, action=name).action_mask()
    assert (mask.shape, mask.dtype) == ((len(held), 1, len(masks[0])), torch.bool)
    assert ["".join(str(int(allowed)) for allowed in row) for row in mask[:, 0].tolist()] == masks


@pytest.mark.parametrize("name", SCHEMES)
def test_a_masked_choice_is_a_hold_and_no_other_choice_that_orders_is(name: str) -> None:
    """In every bit of the market that follows. What a choice orders where no limit binds, a flat twin tells."""
    held = [-25, -20, 7, 25]
    market = at(held, action=name)
    mask, wants = market.action_mask()[:, 0], _orders_when_far_from_the_limit(name, held)
    idle = market.fork()
    idle.step(None)
    stands = dict(leaves(idle.live))
    for choice in range(0, SCHEMES[name].count, 1 if SCHEMES[name].count < 10 else 23):
        twin = market.fork()
        twin.step(torch.full((len(held),), choice))
        same = [all(torch.equal(leaf[row], stands[path][row]) for path, leaf in leaves(twin.live)) for row in range(4)]
        for row in range(4):
            assert not same[row] or not mask[row, choice] or not wants[row][choice], (choice, held[row])
            assert mask[row, choice] or (same[row] and wants[row][choice]), (choice, held[row])


def _orders_when_far_from_the_limit(name: str, held: list[int]) -> list[list[bool]]:
    if name == "target":  # whose targets are the limit's own: what it does not trade, it does not want
        twin = at(held, action=name)
        shares = [_first_order(twin, choice) for choice in range(5)]
    else:
        twin = at(held, action=name, position_limit=10_000)
        shares = [_first_order(twin, choice) for choice in range(SCHEMES[name].count)]
    return [[bool(column[row]) for column in shares] for row in range(len(held))]


def _first_order(market: tg.Market, choice: int) -> list[int]:
    action = torch.full((market.num_envs, 1), choice)
    known = Known.of(market.structure, market.params, market.live)
    return orders(market.structure, known, action)[0].flatten().tolist()


def test_learners_and_symbols_have_masks_of_their_own() -> None:
    config = TIGHT.replace(num_symbols=2, num_learners=3)
    market = tg.Market(config, 2, seed=0, compile=False)
    market.reset()
    assert market.action_mask().shape == (2, 3, 2, 3)
    for _ in range(3):
        market.step(torch.tensor([[[2, 1], [1, 0], [1, 1]]] * 2))
    held = market.live.ledger.shares.transpose(1, 2)
    assert (held[:, 0, 0] == LIMIT).all() and (held[:, 1, 1] == -LIMIT).all()
    assert torch.equal(market.action_mask()[..., 2], held < LIMIT)
    assert torch.equal(market.action_mask()[..., 0], held > -LIMIT)


def test_numbers_have_no_masks() -> None:
    box = TIGHT.replace(action="position")
    env = tg.TradingEnv(box)
    env.reset(seed=0)
    asked = [partial(kind, box, action_mask=True) for kind in (tg.TradingEnv, tg.TradingVectorEnv, tg.MarketEnv)]
    for ask in (env.action_masks, *asked):
        with pytest.raises(ValueError, match="'position' takes numbers, which have no masks: choose one of discrete"):
            ask()


def test_there_is_no_mask_before_the_first_reset() -> None:
    with pytest.raises(RuntimeError, match="call reset"):
        tg.TradingEnv(TIGHT).action_masks()


def play(env: Any, actions: list[Any], seed: int) -> list[Any]:
    return [env.reset(seed=seed)[1], *(env.step(action)[-1] for action in actions)]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("symbols", [1, 2])
def test_infos_of_a_batch_are_those_of_single_environments(mode: str, symbols: int) -> None:
    settings: dict[str, Any] = {"max_ticks": 4, "num_symbols": symbols, "action_mask": True}
    batch = tg.TradingVectorEnv(TIGHT, 2, autoreset_mode=mode, **settings)
    single = SyncVectorEnv([partial(tg.TradingEnv, TIGHT, **settings)] * 2, autoreset_mode=batch.autoreset_mode)
    actions = [np.full(batch.action_space.shape, choice) for choice in (2, 2, 2, 2, 0, 0, 0)]
    told = list(zip(play(batch, actions, seed=3), play(single, actions, seed=3), strict=True))
    for one, other in told:
        assert one.keys() == other.keys()
        for key in ("action_mask", "_action_mask"):
            np.testing.assert_array_equal(one[key], other[key])
        if "final_info" in one:
            np.testing.assert_array_equal(one["final_info"]["action_mask"], other["final_info"]["action_mask"])
    masks = [one["action_mask"] for one, _ in told]
    assert masks[3].dtype == np.int8
    assert masks[3].shape == ((2, 3) if symbols == 1 else (2, 2, 3))
    assert masks[3].reshape(-1, 3).tolist() == [[1, 1, 0]] * (2 * symbols)
    assert masks[0].all()
    answers = zip(batch.call("action_masks"), single.call("action_masks"), strict=True)
    assert all(np.array_equal(one, other) for one, other in answers)


@pytest.mark.parametrize("symbols", [1, 2])
def test_spaces_sample_with_the_masks_of_infos(symbols: int) -> None:
    env = tg.TradingEnv(TIGHT, num_symbols=symbols, action_mask=True)
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    for _ in range(30):
        mask = info["action_mask"]
        action = env.action_space.sample(mask if symbols == 1 else tuple(mask))
        held = info["position"]
        *_, info = env.step(action)
        moved = np.sign(info["position"] - held)
        np.testing.assert_array_equal(moved, np.atleast_1d(action) - 1)  # each order is filled, at least in part


def test_the_space_of_a_batch_samples_with_its_masks() -> None:
    env = tg.TradingVectorEnv(TIGHT, num_envs=3, action_mask=True)
    _, infos = env.reset(seed=0)
    for _ in range(20):
        chosen = env.action_space.sample(tuple(infos["action_mask"]))
        assert infos["action_mask"][np.arange(3), chosen].all()
        *_, infos = env.step(chosen)


def test_masks_change_nothing_else() -> None:
    plain, masked = (tg.TradingEnv(TIGHT, action_mask=told) for told in (False, True))
    plain.reset(seed=3)
    masked.reset(seed=3)
    for choice in (2, 2, 2, 2):
        one, other = plain.step(choice), masked.step(choice)
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
        assert other[4].pop("action_mask").shape == (3,)
        np.testing.assert_equal(one[4], other[4])


@pytest.mark.parametrize("symbols", [1, 2])
def test_torchrl_draws_only_what_is_not_masked(symbols: int) -> None:
    config = TIGHT.replace(num_symbols=symbols)
    env = tg.MarketEnv(config, 8, seed=0, action_mask=True, info_keys=("position",))
    check_env_specs(env)
    torch.manual_seed(0)
    data = TransformedEnv(env, ActionMask()).rollout(40, break_when_any_done=False)
    held, mask = data["next", "info", "position"], data["next", "action_mask"]
    assert mask.shape == (8, 40, 3 * symbols)
    assert torch.equal(mask.unflatten(-1, (symbols, 3))[..., 2], held < LIMIT)
    action = data["action"].reshape(8, 40, symbols, 1)
    assert data["action_mask"].unflatten(-1, (symbols, 3)).gather(-1, action).all()
    assert (held.abs() == LIMIT).any()


def test_each_market_of_stable_baselines3_has_its_own() -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    env = vec_env.VecNormalize(tg.SB3VecEnv(TIGHT, 3, seed=0))
    env.reset()
    for _ in range(3):
        env.step(np.array([0, 1, 2]))
    masks = env.env_method("action_masks")
    assert np.stack(masks).tolist() == [[False, True, True], [True, True, True], [True, True, False]]
    assert np.array_equal(env.env_method("action_masks", indices=[2])[0], masks[2])
    assert env.has_attr("action_masks")


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("batch", [True, False])
def test_maskable_ppo_takes_only_what_is_not_masked(batch: bool, symbols: int) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
    from stable_baselines3.common.env_util import make_vec_env

    settings: dict[str, Any] = {"position_limit": LIMIT, "preset": "toy", "num_symbols": symbols}
    if batch:
        env: Any = tg.SB3VecEnv(num_envs=2, seed=0, **settings)
    else:
        env = make_vec_env("torchgym/Trading-v0", n_envs=2, env_kwargs=settings)
    assert is_masking_supported(env)
    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(64)
    masks = model.rollout_buffer.action_masks.reshape(-1, symbols, 3)
    taken = model.rollout_buffer.actions.reshape(-1, symbols, 1).astype(np.int64)
    assert not masks.all()
    assert np.take_along_axis(masks, taken, -1).all()
    assert get_action_masks(env).shape == (2, 3 * symbols)


def test_a_single_environment_answers_through_gymnasiums_wrappers() -> None:
    env = gymnasium.make("torchgym/Trading-v0", config=TIGHT)
    env.reset(seed=0)
    for _ in range(3):
        env.step(2)
    assert env.get_wrapper_attr("action_masks")().tolist() == [True, True, False]
