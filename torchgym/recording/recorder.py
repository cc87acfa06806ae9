"""`EpisodeRecorder`: a market that writes down what happens as it is reset and stepped; `record`: whole episodes of a policy."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count, check_function, check_one_learner
from torchgym.engine import Compile, Market, Seeds, StepResult, check_action, check_seed, check_seeds, consecutive_seeds
from torchgym.lab.policy import MakePolicy, Policy, check_maker, made
from torchgym.progress import Progress, silent
from torchgym.readout.entries import account_entries
from torchgym.recording.calendar import Calendar
from torchgym.recording.columns import columns, schema
from torchgym.recording.file import ROWS_PER_GROUP, Block, Chunk, ParquetFile, Sorter
from torchgym.sim import actions
from torchgym.version import __version__

# Rows of an episode that are kept before they go to disk: fewer would cost more calls than they save memory.
_LEAST_ROWS = 64
NUM_ENVS = 64
_ROW = (
    "One moment of one symbol in one episode, sorted by episode, tick and symbol: the market and the learner's account when it"
    " was about to decide; then its action and the reward that this brought. The last row of an episode has no decision."
)


class EpisodeRecorder:
    """Records every episode of a market to a Parquet file; used as a context, with `reset` and `step` in place of the market's.

    Each `reset` begins as many episodes as there are markets. An episode ends with the row that is terminated or truncated; what
    its market does afterwards is not recorded. Memory for a part of one group of rows is all that is needed: the rows of the
    running episodes wait on disk, beside the file, until they can be written in order.

    The file appears when the context ends; when it ends with an exception, or the disk is full, nothing is left. One recorder
    makes one file: once that is finished, it takes no more episodes.

    Args:
        path: the file; its folder must be there.
        market: to be reset and stepped through the recorder only.
        market_fields: which rows of `torchgym.readout.entries.path_entries` to record; None is all of them.
        features: whether to record what the learner saw, 54 columns and more.
        calendar: which trading time the ticks stand for: the column `time`. None has the market's day, or one of 390 ticks.
        about: entries for the file's metadata, such as who played; `read_about` gives them back.
        overwrite: whether a file that is there already may be replaced.
        rows_per_group: rows of a group of the file, which is what its readers read at a time.

    Raises:
        FileExistsError: when the file is there already and may not be replaced.
        OSError: when its place is a folder, or in none.
        ValueError: for an unknown field, listing the known ones, or groups of no rows.

    >>> import tempfile
    >>> from torchgym.config import preset
    >>> market = Market(preset("toy", max_ticks=5), num_envs=2)
    >>> with tempfile.TemporaryDirectory() as folder, EpisodeRecorder(f"{folder}/buys.parquet", market) as recorder:
    ...     result = recorder.reset(seeds=[7, 8])
    ...     while not bool((result.terminated | result.truncated).all()):
    ...         result = recorder.step(torch.tensor([2, 2]))
    >>> recorder.episodes, recorder.rows
    (2, 12)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        market: Market,
        *,
        market_fields: Sequence[str] | None = None,
        features: bool = True,
        calendar: Calendar | None = None,
        about: Mapping[str, str] | None = None,
        overwrite: bool = False,
        rows_per_group: int = ROWS_PER_GROUP,
    ) -> None:
        check_count("rows_per_group", rows_per_group, 1)
        config = market.config
        check_one_learner("EpisodeRecorder", config)
        self.market = market
        self.columns = columns(config, features=features, market_fields=market_fields)
        settings = json.dumps(config.to_dict(), allow_nan=False)
        own = {"version": __version__, "config": settings, "row": _ROW}
        calendar = Calendar.of(config, ticks_per_day=market.common_day()) if calendar is None else calendar
        own |= {"origin": str(calendar.origin), "ticks_per_day": str(calendar.ticks_per_day)}
        self.schema = schema(self.columns, {**(about or {}), **own})
        self._calendar = calendar
        self.episodes = 0  # begun so far
        self.ruined = 0  # of those that are written
        self.done = False  # whether all episodes that run are known to be over; seen late, when rows go to disk
        self._features = self._names("feature")
        per_row = market.num_envs * config.num_symbols
        length = min(max(_LEAST_ROWS, rows_per_group // per_row), config.longest_episode + 1)
        self._chunk = Chunk(length)
        self._block: Block | None = None
        self._finished = False
        self._file = ParquetFile(Path(path), self.schema, rows_per_group=rows_per_group, overwrite=overwrite)

    @property
    def rows(self) -> int:
        """How many are in the file; all of them once the context has ended."""
        return self._file.rows

    def reset(self, seeds: Seeds, episodes: int | None = None) -> StepResult:
        """Begin new episodes in all markets. Those that still ran end here, neither terminated nor truncated.

        Args:
            seeds: one per market; with the configuration it decides the episode.
            episodes: record the first so many markets; None is all.

        Raises:
            ValueError: for bad seeds or a bad number of episodes; nothing has changed then.
            OSError: when the file cannot be written.
            RuntimeError: when the recording is finished.
        """
        self._refuse_if_finished()
        given, count = check_seeds(seeds, self.market.num_envs), self.market.num_envs if episodes is None else episodes
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= self.market.num_envs:
            raise ValueError(
                f"episodes must be an integer from 1 to the {self.market.num_envs} markets, got {episodes!r}"
            )
        self._file.open()
        with self._or_discard():
            self._end_block()
        result = self.market.reset(given)
        sorter = Sorter(self._file.path.parent, self.schema, count)
        numbers = np.arange(self.episodes, self.episodes + count)
        stepping = self.market.config.ticks_per_action
        self._block = Block(sorter, self._features, self._calendar, stepping, numbers, given.numpy())
        self.episodes += count
        self.done = False
        self._chunk.rows = 0
        self._see(result)
        return result

    def step(self, action: Tensor | None = None) -> StepResult:
        """One decision of every market, as `Market.step` without a mask; nothing has moved after a ValueError for a bad action.

        Before the first reset, and when the recording is finished, a RuntimeError.
        """
        self._refuse_if_finished()
        market = self.market
        if self._block is None:
            raise RuntimeError("no episode has begun: call reset(seeds) first")
        rest = actions.hold(market.config, market.num_envs, market.device)
        chosen = rest if action is None else check_action(market.config, action, market.num_envs, market.device)
        result = market.step(None if action is None else chosen)
        events = {name: result.info[name] for name in self._names("decision") if name in result.info}
        self._chunk.put({**actions.by_name(market.config, chosen), "reward": result.reward, **events})
        self._chunk.rows += 1
        if self._chunk.rows == self._chunk.length:
            with self._or_discard():
                self._flush(self._block, decided=True)
        self._see(result)
        return result

    def close(self) -> None:
        """End the running episodes and put the file in its place; nothing, when the recording is finished."""
        if self._finished:
            return
        with self._or_discard():
            self._end_block()
            self._file.close()
        self._finished = True

    def discard(self) -> None:
        """Give up: no file appears, and one that was to be replaced is as it was; nothing, when the recording is finished."""
        if self._finished:
            return
        self._finished = True
        if self._block is not None:
            self._block.sorter.close()
            self._block = None
        self._file.discard()

    def __enter__(self) -> EpisodeRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _refuse_if_finished(self) -> None:
        if self._finished:
            raise RuntimeError("the recording is finished: make another EpisodeRecorder")

    @contextmanager
    def _or_discard(self) -> Iterator[None]:
        """While rows go to disk: where that fails, some are lost, so there is no recording."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def _names(self, *kinds: str) -> list[str]:
        """Names of the columns of these kinds."""
        return [column.name for column in self.columns if column.kind in kinds]

    def _see(self, result: StepResult) -> None:
        """Write down the moment at which the next decision is made."""
        account = self._names("account")
        places = [name for name in account if name not in result.info]
        moment = self.market.read(*self._names("market", "hidden"), *places)
        moment |= {name: result.info[name] for name in ("tick", *account) if name in result.info}
        moment |= {"terminated": result.terminated, "truncated": result.truncated}
        if self._features:
            symbols, rows = self.market.config.num_symbols, account_entries(self.market.config)
            parts = result.account.split([symbols if row.per_symbol else 1 for row in rows.values()], -1)
            for (name, row), part in zip(rows.items(), parts, strict=True):
                moment[f"account_{name}"] = part if row.per_symbol else part.squeeze(-1)
            moment["observation"] = result.observation
        self._chunk.put(moment)

    def _flush(self, block: Block, *, decided: bool) -> None:
        block.write(self._chunk.arrays(), decided=decided)
        self.done = bool(block.over.all())
        self._chunk.rows = 0

    def _end_block(self) -> None:
        if self._block is None:
            return
        self._chunk.rows += 1  # the last moment, on which nothing was decided
        self._flush(self._block, decided=False)
        for rows in self._block.sorter.sorted():
            self._file.write(rows)
        self.ruined += self._block.ruined
        self._block.sorter.close()
        self._block = None


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
    calendar: Calendar | None = None,
    about: Mapping[str, str] | None = None,
    overwrite: bool = False,
    rows_per_group: int = ROWS_PER_GROUP,
    device: torch.device | str = "cpu",
    compile: Compile = "auto",
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
        episodes: episode i has the seed `seed + i`.
        policy: the action for what was seen last, as in `Market.run`; None holds.
        make_policy: makes a policy for the episodes about to begin, such as `torchgym.lab.policies.BASELINES[name].make`; in
            place of `policy`, where one needs to know the episodes or has a memory.
        num_envs: at most so many markets play at once.
        compile: how the steps run, as of `Market`; the numbers are the same.
        progress: called with the stage ("ticks", then "sorting" of what was played last), how much of it is done, and how much
            there is: before it begins, and now and then.

    The other arguments and errors are those of `EpisodeRecorder`; after a ValueError nothing has been written.
    """
    if policy is not None and make_policy is not None:
        raise ValueError("policy and make_policy contradict each other: give one of them")
    if policy is not None:
        check_function(
            "policy", policy, "what makes one, by name, is make_policy=torchgym.lab.policies.BASELINES[name].make"
        )
    if make_policy is not None:
        check_maker("make_policy", make_policy)
    for name, number in (("episodes", episodes), ("num_envs", num_envs)):
        check_count(name, number, 1)
    check_seed(seed)
    blocks = math.ceil(episodes / num_envs)
    market = Market(config, math.ceil(episodes / blocks), seed=seed, device=device, compile=compile)
    seeds = consecutive_seeds(seed, blocks * market.num_envs).split(market.num_envs)
    metadata = {"seed": str(seed), "episodes": str(episodes), **(about or {})}
    with EpisodeRecorder(
        path,
        market,
        market_fields=market_fields,
        features=features,
        calendar=calendar,
        about=metadata,
        overwrite=overwrite,
        rows_per_group=rows_per_group,
    ) as recorder:
        max_ticks = market.config.longest_episode * market.config.ticks_per_action
        for block, of_block in enumerate(seeds):

            def ticks(done: int, block: int = block) -> None:
                progress("ticks", block * max_ticks + done, blocks * max_ticks)

            act = (
                policy
                if make_policy is None
                else made("make_policy", make_policy, market.config, of_block.to(market.device))
            )
            left = min(market.num_envs, episodes - block * market.num_envs)
            _play(recorder, of_block, left, act, ticks)
        progress("sorting", 0, 1)
    progress("sorting", 1, 1)
    path = Path(path)
    return Recording(path, episodes, recorder.ruined, recorder.rows, len(recorder.columns), path.stat().st_size)


def _play(
    recorder: EpisodeRecorder, seeds: Tensor, episodes: int, act: Policy | None, progress: Callable[[int], None]
) -> None:
    """One block of episodes, to the end of the last; reports the ticks done."""
    config = recorder.market.config
    length = config.longest_episode
    progress(0)
    result = recorder.reset(seeds, episodes)
    for done in range(1, length + 1):
        result = recorder.step(None if act is None else act(result))
        over = recorder.done or done == length
        if over or done % max(1, length // 100) == 0:
            progress((length if over else done) * config.ticks_per_action)
        if over:
            return
