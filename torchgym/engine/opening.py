"""Openings: episodes begin, warm up, and enter a running batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from torchgym.config import MarketConfig, structure
from torchgym.engine.buffers import Buffers
from torchgym.engine.program import reason, say
from torchgym.engine.replay import has_changed_rows
from torchgym.numerics import random
from torchgym.numerics.trees import map_tensors, put_rows, rows
from torchgym.readout import rewards
from torchgym.readout import step as decisions
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static
from torchgym.sim import actions
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params, draw_params, make_params
from torchgym.sim.state import MarketState

# So many times `at_once` are warmed up together: to start many episodes costs about as much as to start one.
TOGETHER = 4

MOST_TICKS = 64  # of a warm-up in one call, which Ctrl-C waits for

Step = Callable[[Params, MarketState, Tensor, int], tuple[MarketState, Packed]]


def begin(static: Static, params: Params, seed: Tensor, episode: Tensor) -> MarketState:
    """Opening quotes, before the warm-up; seed and episode [N] int64. In inference mode where that is safe, see `Uncompiled`."""
    with torch.no_grad() if has_changed_rows(static) else torch.inference_mode():
        state = ticking.start(static.structure, params, plan=static.plan, seed=seed, episode=episode)
        state = decisions.opened(static, params, state)
    # The layout in memory that every later tick has too; with another one the tick would be compiled twice. A copy, because
    # contiguous() lets any stride stand in a dimension of one, as those of a single market are.
    with torch.inference_mode(False), torch.no_grad():
        return map_tensors(lambda leaf: leaf.clone(memory_format=torch.contiguous_format), state)


def open_episodes(
    static: Static, params: Params, seed: Tensor, episode: Tensor, step: Step, *, whole: bool = False
) -> MarketState:
    """Begin and warm up: decisions in which learners rest, the last one shorter where they do not divide the warm-up.

    Rewards begin afterwards: what starting shares gain or lose in the warm-up is no profit and no drawdown.

    Args:
        whole: the warm-up is few decisions, for a step that takes any number of ticks; nobody reads what is told between.
    """
    structure = static.structure
    state = begin(static, params, seed, episode)
    rest = actions.rest(structure, seed.shape[0], seed.device)
    ticks = max(MOST_TICKS, structure.ticks_per_action) if whole else structure.ticks_per_action
    with torch.no_grad():
        for start in range(0, structure.warmup_ticks, ticks):
            state, _ = step(params, state, rest, min(ticks, structure.warmup_ticks - start))
    return replace(state, reward=rewards.start(structure, state))


class Episode(NamedTuple):
    """An episode by its name: which market's numbers, which seed, and how many episodes it has had."""

    market: int
    seed: int
    number: int


class EpisodePool:
    """Opens episodes and puts them into a batch.

    A program costs little more for many markets than for one. So markets that will end soon are opened along with those that have
    ended: their next episode depends on nothing but their seed and how many they have had, and waits here, warmed up, until it is
    asked for. With episodes that end at scattered times nearly all work is shared this way.

    Args:
        static: what the markets have in common.
        config: of the markets.
        base: parameters before anything is drawn, of N markets.
        room: markets that are warmed up together.
    """

    def __init__(self, static: Static, config: MarketConfig, base: Params, room: int) -> None:
        self._static = static
        self._config = config
        self._base = base
        self._room = room
        self._warm: Buffers | None = None
        self._ready: dict[Episode, int] = {}  # its row

    def open(self, target: Buffers, wanted: Sequence[Episode], soon: Callable[[], Sequence[Episode]]) -> None:
        """Put opened episodes into a batch, each into the row of its market.

        Args:
            target: the batch.
            wanted: the episodes.
            soon: those that may be asked for next, the likeliest first; looked for only where some are warmed up.
        """
        missing = [episode for episode in wanted if episode not in self._ready]
        found = [self._taken([episode for episode in wanted if episode in self._ready], copied=bool(missing))]
        while missing:
            now, missing = missing[: self._room], missing[self._room :]
            self._make(target, list(dict.fromkeys([*now, *soon()]))[: self._room])
            found.append(self._taken(now, copied=bool(missing)))

        def put() -> None:
            for markets, leaves, places in found:
                if markets:
                    target.take_rows(markets, leaves, places)

        try:
            put()
        except BaseException:
            put()  # Ctrl-C leaves no market half opened
            raise

    def _taken(self, episodes: Sequence[Episode], *, copied: bool) -> tuple[list[int], list[Tensor], Sequence[int]]:
        """Of which markets they are, all that is here, and their rows in it; copied before others are made in their place."""
        markets, places = [episode.market for episode in episodes], [self._ready.pop(episode) for episode in episodes]
        leaves = self._warm.leaves() if self._warm is not None and markets else []
        if copied:
            leaves, places = [leaf[places] for leaf in leaves], list(range(len(places)))
        return markets, leaves, places

    def _make(self, target: Buffers, episodes: Sequence[Episode]) -> None:
        """Begin and warm up these, at most as many as there is room for, as the batch is stepped."""
        self._ready = {}  # until all of them are: interrupted, their rows hold neither old nor new episodes
        padded = [*episodes, *[episodes[0]] * (self._room - len(episodes))]
        device = self._base.int64.device
        market, seed, number = torch.tensor(padded, dtype=torch.int64, device=device).T.contiguous()
        params = draw_params(self._config, rows(self._base, market), random.make_key(seed, number))
        if self._warm is None:
            self._warm = target.like(params, begin(self._static, params, seed, number))
        state = open_episodes(self._static, params, seed, number, self._warm.step, whole=self._warm.any_ticks)
        self._warm.load(params, state)
        self._static.columns.without_events(self._warm.packed_now)
        self._ready = {episode: row for row, episode in enumerate(episodes)}


def example(config: MarketConfig, num_envs: int) -> tuple[Static, Params, MarketState]:
    """Markets on the CPU that have not been warmed up, as a compiler is shown them."""
    device = torch.device("cpu")
    static, params = Static.of(structure(config), device), make_params(config, num_envs, device)
    seed = torch.zeros(num_envs, dtype=torch.int64, device=device)
    return static, params, begin(static, params, seed, seed.clone())


class Openings:
    """Opens the markets of a batch: all of them, or some by a mask.

    Args:
        static: what the markets have in common.
        config: of the markets.
        base: parameters before anything is drawn.
        alone: makes a step that takes a part of the batch and any number of ticks, for where openings cannot share the program.
    """

    def __init__(self, static: Static, config: MarketConfig, base: Params, alone: Callable[[], Step]) -> None:
        self._static = static
        self._config = config
        self._base = base
        self._alone = alone
        self._step: Step | None = None  # made by it, with a record of its own
        self._pools: dict[int, EpisodePool] = {}  # by the markets that one warms up together
        self._shared = True  # until that fails

    def params(self, key: Tensor) -> Params:
        """The worlds of episodes, key [N, 2] int32: that of a running episode is known whatever new seed its market was given."""
        with torch.no_grad():
            return draw_params(self._config, self._base, key)

    def blank(self) -> MarketState:
        """Markets that have not been warmed up: the right shapes."""
        seed = torch.zeros_like(self._base.int64[:, 0])
        return begin(self._static, self._base, seed, seed.clone())

    def open_all(self, step: Step, seed: Tensor, episode: Tensor, *, whole: bool) -> tuple[MarketState, Params]:
        """New episodes of all markets, by this step; see `open_episodes`."""
        params = self.params(random.make_key(seed, episode))
        return open_episodes(self._static, params, seed, episode, step, whole=whole), params

    def open_some(
        self,
        chosen: Tensor,
        buffers: Buffers | None,
        present: tuple[MarketState, Params],
        episodes: tuple[Tensor, Tensor],
        *,
        ahead: bool,
    ) -> tuple[MarketState, Params]:
        """New episodes of the markets of the mask [N] bool; the others keep every bit.

        Args:
            buffers: what steps the batch, where it does so on memory of its own.
            present: state and parameters of the batch.
            episodes: seed and episode of every market, [N] int64 each.
            ahead: whether each market will go on to the next episode of its seed.
        """
        index = chosen.nonzero().flatten()
        (state, params), (seed, episode) = present, episodes
        if buffers is not None and self._shared:
            try:
                self._step = None
                return self._open_together(chosen, index, buffers, present, episodes, ahead=ahead)
            except Exception as error:  # a compiler may fail in any way
                # What is wrong with an opening itself fails again.
                say(f"openings are uncompiled from now on, with the same numbers: {reason(error)}")
                self._shared = False
                self.forget()
        self._step = self._step or self._alone()
        some = rows(self.params(random.make_key(seed, episode)), index)
        opened = open_episodes(self._static, some, seed[index], episode[index], self._step, whole=True)
        return put_rows(state, index, opened), put_rows(params, index, some) if self._config.randomize else params

    def forget(self) -> None:
        """Forget what is opened ahead: it may be half made."""
        self._pools = {}

    def _open_together(
        self,
        chosen: Tensor,
        index: Tensor,
        buffers: Buffers,
        present: tuple[MarketState, Params],
        episodes: tuple[Tensor, Tensor],
        *,
        ahead: bool,
    ) -> tuple[MarketState, Params]:
        """The same by a program that also warms up the episodes that will be asked for next."""
        state, params = present
        buffers.load(params, state)
        # Where no episode is known ahead, more room would be filled in vain. One market alone has another program than two.
        room = min(buffers.num_envs, max(2, (TOGETHER if ahead else 1) * buffers.at_once))
        pool = self._pools.setdefault(room, EpisodePool(self._static, self._config, self._base, room))

        def named(markets: Tensor) -> list[Episode]:
            columns = (markets, *(numbers[markets] for numbers in episodes))
            return [Episode(*numbers) for numbers in torch.stack(columns, -1).tolist()]

        def soon() -> list[Episode]:
            """Of those nearest to their end."""
            if not ahead:
                return []
            ticks = torch.where(chosen, -1, buffers.state.clock.tick)
            nearest = torch.topk(ticks, min(room, len(ticks))).indices
            return named(nearest[~chosen[nearest]])

        pool.open(buffers, named(index), soon)
        if self._config.randomize:
            params = put_rows(params, index, rows(self.params(buffers.state.clock.key), index))
        return buffers.state, params
