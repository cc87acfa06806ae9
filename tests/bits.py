"""Digests of everything public that a market tells over a few hundred random decisions: `python tests/bits.py` writes them."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from pathlib import Path

import torch

from torchgym import Market, MarketConfig, preset

FILE = Path(__file__).with_name("bits.json")
PRESETS = ("default", "calm", "volatile", "illiquid", "crash", "zero_intelligence", "toy", "day")
SYMBOLS = (1, 3)
SCHEMES = {"discrete": 3, "sized": 7, "target": 5, "percent": 201}
CASES = tuple("-".join(map(str, case)) for case in itertools.product(PRESETS, SYMBOLS, SCHEMES))
STEPS = 200
WRITTEN_AS = {"meta_order": "executor"}  # names that have changed since the digests were written

ADDED = {"mid", "bid", "ask", "recent_volume"}  # entries of info that are younger than the digests


def case_config(case: str) -> MarketConfig:
    """The configuration of a case, as "calm-3-target"."""
    name, symbols, scheme = case.split("-")
    return preset(name, num_symbols=int(symbols), action=scheme)


def digest(case: str, *, compile: bool = False, num_envs: int = 2, params: dict[str, object] | None = None) -> str:
    """Of the first two markets: each decision's observation, account, reward, ends and info, and who owns what at the end."""
    config = case_config(case)
    market = Market(config, num_envs, seed=11, compile=compile, **({} if params is None else {"params": params}))
    generator = torch.Generator().manual_seed(3)
    collected = hashlib.sha256()

    def add(name: str, tensor: torch.Tensor) -> None:
        collected.update(name.encode())
        collected.update(str(tensor.dtype).encode())
        collected.update(tensor[:2].contiguous().numpy().tobytes())

    result = market.reset()
    for _ in range(STEPS):
        drawn = torch.randint(SCHEMES[config.action], (2, config.num_symbols), generator=generator)
        action = drawn[torch.arange(num_envs) % 2]
        result = market.step(action)
        for name in ("observation", "account", "reward", "terminated", "truncated"):
            add(name, getattr(result, name))
        for name in sorted(set(result.info) - ADDED):
            add(name, result.info[name])
        if bool((result.terminated | result.truncated).any()):
            market.reset(mask=result.terminated | result.truncated)
    owners = {WRITTEN_AS.get(owner, owner): owned for owner, owned in market.holdings().items()}
    for owner, owned in sorted(owners.items()):
        for what, amount in sorted(owned.items()):
            add(f"{owner} {what}", amount)
    return collected.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    digests = {}
    for case in given.cases:
        digests[case] = digest(case, compile=given.compile)
        print(case, digests[case][:16], flush=True)
    given.out.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
