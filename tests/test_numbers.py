"""`Market(params=...)`: numbers by path in place of the configuration's, market by market."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import differences, opened, random_actions, seen, toy

from torchgym import Market
from torchgym.config import with_numbers
from torchgym.numerics.trees import rows

CONFIG = toy()
SKEW = [0.5, 1.5, 4.0]


def told(market: Market) -> list[Any]:
    return [seen(market.step(action)) for action in random_actions(market.config, 5, market.num_envs)]


@pytest.mark.parametrize(
    "given",
    [
        {"population.maker.skew": SKEW},
        {"population": {"maker": {"skew": torch.tensor(SKEW, dtype=torch.float64)}}},
    ],
)
def test_each_market_has_the_bits_of_its_own_configuration(given: Any) -> None:
    batch = opened(CONFIG, 3, seed=4, params=given)
    results = told(batch)
    for row, skew in enumerate(SKEW):
        alone = opened(with_numbers(CONFIG, {"population.maker.skew": skew}), 1, seed=4 + row)
        actions = [action[row : row + 1] for action in random_actions(CONFIG, 5, 3)]
        for result, action in zip(results, actions, strict=True):
            assert differences(seen(alone.step(action)), rows(result, torch.tensor([row]))) == []


def test_numbers_of_another_market() -> None:
    first = opened(CONFIG, 3, seed=4, params={"population.noise.rate": [0.1, 0.2, 0.3], "order_size": 7})
    second = opened(CONFIG, 3, seed=4, params=first.params)
    assert told(first)[-1]["info"]["position"].abs().max() > 0
    assert differences(second.params, first.params) == []
    assert told(second)[-1].keys()
    assert differences(second.state, first.state) == []


def test_large_integers_are_exact() -> None:
    cash = [2**24 + 1, 2**40 + 1]
    market = opened(CONFIG, 2, params={"starting_cash": cash})
    assert market.state.ledger.cash[:, 0].tolist() == cash


@pytest.mark.parametrize("how", ["save", "fork", "deepcopy", "pickle"])
def test_copies_keep_them(how: str, tmp_path: Path) -> None:
    market = opened(CONFIG, 3, seed=4, params={"population.maker.skew": SKEW})
    market.save(tmp_path / "market.pt")
    ways = {
        "save": lambda: Market.load(tmp_path / "market.pt"),
        "fork": market.fork,
        "deepcopy": lambda: copy.deepcopy(market),
        "pickle": lambda: pickle.loads(pickle.dumps(market)),
    }
    twin = ways[how]()
    assert differences(twin.params, market.params) == []
    for first, second in zip(told(twin), told(market), strict=True):
        assert differences(first, second) == []
    twin.reset(), market.reset()
    assert differences(twin.state, market.state) == []


def test_markets_of_which_each_is_possible() -> None:
    loadings = {"fundamentals.market_loading": [0.9, 0.1], "fundamentals.sector_loading": [0.1, 0.9]}
    assert opened(CONFIG, 2, params=loadings).opened


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"population.maker.skw": 1.0}, r"'population.maker.skw' is no number .* closest are population.maker.skew"),
        (
            {"num_symbols": 2},
            r"'num_symbols' is structure, which all markets of a batch share: set it in the configuration",
        ),
        (
            {"population.maker.skew": -1.0},
            r"params\['population.maker.skew'\] must be a finite number in \[0.0, 100.0\]",
        ),
        ({"population.maker.skew": [1.0, 2.0]}, r"must be one number, or one for each of 3 markets"),
        ({"population.maker.skew": "2"}, r"must be a finite number"),
        ({"order_size": [10, 10.5, 11]}, r"params\['order_size'\] must be an integer"),
        ({"order_size": [10, 60, 10]}, r"position_limit = 50 is below order_size = 60"),
        ([1.0], r"params must map paths to numbers"),
    ],
)
def test_what_cannot_be_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Market(CONFIG, 3, params=given)


def test_numbers_of_another_structure_are_refused() -> None:
    few = opened(CONFIG, 2)
    for params in (few.params, opened(CONFIG.replace(reward="log_return"), 3).params):
        with pytest.raises(ValueError, match=r"those of 3 markets of the same structure"):
            Market(CONFIG, 3, params=params)
