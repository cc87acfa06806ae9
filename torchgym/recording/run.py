"""`record`: whole episodes of a policy, to a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count
from torchgym.engine import Market, check_seeds, consecutive_seeds
from torchgym.lab.policies import MakePolicy, Policy
from torchgym.progress import Count, Progress, silent
from torchgym.recording.file import ROWS_PER_GROUP
from torchgym.recording.recorder import EpisodeRecorder

NUM_ENVS = 64


@dataclass(frozen=True)
class Recording:
    """What was recorded, and where."""

    path: Path
    episodes: int
    ruined: int  # episodes that ended before their time
    rows: int
    columns: int
    size: int  # bytes of the file


def record(
    path: str | os.PathLike[str],
    config: MarketConfig | None = None,
    *,
    episodes: int,
    seed: int = 0,
    policy: Policy | None = None,
    make_policy: MakePolicy | None = None,
    num_envs: int = NUM_ENVS,
    market_fields: Sequence[str] | None = None,
    features: bool = True,
    about: Mapping[str, str] | None = None,
    overwrite: bool = False,
    rows_per_group: int = ROWS_PER_GROUP,
    device: torch.device | str = "cpu",
    compile: bool = False,
    progress: Progress = silent,
) -> Recording:
    """Play whole episodes and write them to a Parquet file: one row per episode, tick and symbol, sorted so.

    A row is the moment before a decision, and the decision: see `torchgym.recording`; `columns` lists what is in it. Integers are
    int64, real numbers float64, every bit as `Market.step` shows it. Memory does not grow with the number or length of episodes:
    those that are played together wait on disk, beside the file, for their turn to be written.

    The file is the same in every byte whatever `num_envs` is, provided that a policy treats each market by itself. A network may
    not, in the last bits: how its sums are rounded can depend on the size of the batch.

    Args:
        path: the file, in a folder that is there. It appears when all is recorded, and not at all after an exception.
        config: what kind of market; the default is a liquid stock.
        episodes: how many; episode i has the seed `seed + i`.
        policy: the action for what was seen last, as in `Market.run`; None holds.
        make_policy: makes a policy for the episodes about to begin, such as `torchgym.lab.policies.BASELINES[name].make`; in
            place of `policy`, where one needs to know the episodes or has a memory.
        num_envs: at most so many markets play at once.
        market_fields: which rows of `torchgym.readout.entries.PATHS` to record; None is all of them.
        features: whether to record what the learner saw, its own account included.
        about: further entries for the file's metadata, such as who played; `read_about` gives them back.
        overwrite: whether a file that is there already may be replaced.
        rows_per_group: rows of a group of the file, which is what its readers read at a time.
        device: where the markets live.
        compile: run compiled steps. The numbers are the same.
        progress: called with the stage ("ticks", then "sorting" of what was played last), how much of it is done, and how much
            there is: before it begins, and now and then.

    Raises:
        FileExistsError: when the file is there already and may not be replaced.
        OSError: when it cannot be written.
        ValueError: for an impossible argument; nothing has been written then.
    """
    if policy is not None and make_policy is not None:
        raise ValueError("policy and make_policy contradict each other: give one of them")
    for name, number in (("episodes", episodes), ("num_envs", num_envs)):
        check_count(name, number, 1)
    check_seeds([seed], 1)
    blocks = math.ceil(episodes / num_envs)
    market = Market(config, math.ceil(episodes / blocks), seed=seed, device=device, compile=compile)
    seeds = consecutive_seeds(seed, blocks * market.num_envs).split(market.num_envs)
    metadata = {"seed": str(seed), "episodes": str(episodes), **(about or {})}
    with EpisodeRecorder(
        path,
        market,
        market_fields=market_fields,
        features=features,
        about=metadata,
        overwrite=overwrite,
        rows_per_group=rows_per_group,
    ) as recorder:
        for block, of_block in enumerate(seeds):
            act = policy if make_policy is None else make_policy(market.config, of_block.to(market.device))
            left = min(market.num_envs, episodes - block * market.num_envs)
            _play(recorder, of_block, left, act, _within(progress, block, blocks))
        progress("sorting", 0, 1)
    progress("sorting", 1, 1)
    path = Path(path)
    return Recording(path, episodes, recorder.ruined, recorder.rows, len(recorder.columns), path.stat().st_size)


def _play(recorder: EpisodeRecorder, seeds: Tensor, episodes: int, act: Policy | None, tell: Count) -> None:
    """One block of episodes, to the end of the last."""
    config = recorder.market.config
    length = config.max_ticks // config.ticks_per_action
    tell(0, config.max_ticks)
    result = recorder.reset(seeds, episodes)
    for done in range(1, length + 1):
        result = recorder.step(None if act is None else act(result))
        over = recorder.done or done == length
        if over or done % max(1, length // 100) == 0:
            tell(config.max_ticks if over else done * config.ticks_per_action, config.max_ticks)
        if over:
            return


def _within(progress: Progress, block: int, blocks: int) -> Count:
    """Reports the ticks of one block as a part of those of all."""

    def tell(done: int, total: int) -> None:
        progress("ticks", block * total + done, blocks * total)

    return tell
