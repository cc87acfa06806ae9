"""Openings of single markets in a running batch: warmed up together, ahead of need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from torchgym.engine.replay import Replay, World
from torchgym.readout import rewards
from torchgym.readout.packed import Columns
from torchgym.sim import actions, noise
from torchgym.sim import tick as ticking
from torchgym.sim.state import MarketParams, leaves, rows


class Openings:
    """Opens episodes and puts them into a batch.

    Programs step whole chunks, however few markets need it. So the places left over are given to markets that will end
    soon: their next episode depends on nothing but their seed and how many they have had, and waits here, warmed up, until it is
    asked for. With episodes that end at scattered times nearly all work is shared this way.

    Args:
        world: what the markets have in common.
        base: parameters before anything is drawn, of N markets.
        room: markets that are warmed up together: a chunk for every thread.
    """

    def __init__(self, world: World, base: MarketParams, room: int) -> None:
        self._world = world
        self._base = rows(base, torch.arange(room, device="cpu") % next(leaves(base))[1].shape[0])
        self._room = room
        self._hold = torch.full((room, world.places.symbols), actions.REST, dtype=torch.int64, device="cpu")
        self._columns = Columns(world.config)
        self._warm: Replay | None = None
        self._ready: dict[tuple[int, int], int] = {}  # (seed, episode) to its place

    def open(
        self, target: Replay, markets: Sequence[int], wanted: Sequence[tuple[int, int]], soon: Sequence[tuple[int, int]]
    ) -> None:
        """Put opened episodes into a batch.

        Args:
            target: the batch.
            markets: where in it.
            wanted: seed and episode of each.
            soon: those that may be asked for next, the likeliest first.
        """
        missing = [index for index, episode in enumerate(wanted) if episode not in self._ready]
        self._put(target, markets, wanted, [index for index in range(len(wanted)) if wanted[index] in self._ready])
        while missing:
            now, missing = missing[: self._room], missing[self._room :]
            self._make(list(dict.fromkeys([*(wanted[index] for index in now), *soon]))[: self._room])
            self._put(target, markets, wanted, now)

    def _put(self, target: Replay, markets: Sequence[int], wanted: Sequence[tuple[int, int]], which: list[int]) -> None:
        if which:
            assert self._warm is not None
            places = [self._ready[wanted[index]] for index in which]
            target.take_rows(np.array([markets[index] for index in which]), self._warm, np.array(places))
            for index in which:
                self._ready.pop(wanted[index], None)

    def _make(self, episodes: Sequence[tuple[int, int]]) -> None:
        """Start and warm up these, at most as many as there is room for."""
        config, places, lanes = self._world.config, self._world.places, self._world.lanes
        self._ready = {}  # until all of them are: interrupted, their places hold neither old nor new episodes
        padded = [*episodes, *[episodes[0]] * (self._room - len(episodes))]
        seed, episode = torch.tensor(padded, dtype=torch.int64, device="cpu").T.contiguous()
        params = ticking.draw_params(config, self._base, noise.make_key(seed, episode))
        opened = ticking.start(config, params, places=places, lanes=lanes, seed=seed, episode=episode)
        if self._warm is None:
            self._warm = Replay(self._world, params, opened)
        state = opened
        for _ in range(config.warmup_ticks // config.ticks_per_action):
            state, _ = self._warm(params, state, self._hold)
        self._warm.forget_rewards(rewards.start(config, state.accounts.half_equity), self._columns)
        self._ready = {name: place for place, name in reversed(list(enumerate(episodes)))}


def seed_and_episode(seed: Tensor, episode: Tensor, markets: Sequence[int]) -> list[tuple[int, int]]:
    """Names of episodes: the seeds and episodes ([N] int64) of these markets."""
    seeds, episodes = seed.numpy(), episode.numpy()
    return [(int(seeds[market]), int(episodes[market])) for market in markets]
