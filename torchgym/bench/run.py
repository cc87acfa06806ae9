"""Measuring the cases that were asked for, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from torchgym.bench import machine
from torchgym.bench.cases import CASES, Case, Target
from torchgym.bench.found import Found
from torchgym.bench.lab import Lab
from torchgym.bench.rows import Row
from torchgym.bench.scaling import largest, scaled
from torchgym.bench.settings import Settings
from torchgym.config import MarketConfig, preset
from torchgym.sim.state import layout

Progress = Callable[[str, int, int], None]


def bench(settings: Settings | None = None, *, command: str = "", progress: Progress | None = None) -> Iterator[Row]:
    """Measure speed, case by case; rows come as soon as their case is done.

    A figure is the median over timed windows of equal work. Whether a target is met is told only for standard settings.

    Args:
        settings: what to measure; None is everything.
        command: to be noted in the rows, so that others can repeat it.
        progress: called with the case and what it is doing, how much of it is done and how much there is; before it begins, too.

    Raises:
        ValueError: for an unknown preset, or numbers of traders that no market can have.
        ChildProcessError: when a measurement in a process of its own fails.
    """
    settings = settings or Settings()
    _check_crowds(settings)
    where = _Place(settings, command)
    for number in settings.cases:
        case = CASES[number]
        if case.cpu_only and where.lab.device.type != "cpu":
            continue
        yield from where.rows(number, case, progress)


def _check_crowds(settings: Settings) -> None:
    """Refuse impossible numbers of traders now, not after the cases before."""
    config = preset(settings.preset)
    if 7 in settings.cases:
        for size in settings.traders:
            scaled(config, size)
    if 8 in settings.cases:
        largest(config, settings.crowd)


class _Place:
    """What all rows of a run have in common."""

    def __init__(self, settings: Settings, command: str) -> None:
        self.settings, self.command = settings, command
        self.lab = Lab(settings)
        self.date, self.commit = time.strftime("%Y-%m-%d"), machine.commit()
        self.device = machine.device_name(self.lab.device)
        self.dtype = self.lab.dtypes()

    def rows(self, number: int, case: Case, progress: Progress | None) -> list[Row]:
        """Measure one case."""
        if progress is not None:
            tell = progress
            self.lab.tell = lambda what, done, total: tell(f"case {number}, {case.name}: {what}", done, total)
        count = 1 if case.alone else self.settings.threads
        with machine.threads(count):
            found = case.measure(self.lab)
        return [self._row(number, case.targets.get(entry.measure), entry, count) for entry in found]

    def _row(self, number: int, target: Target | None, found: Found, threads: int) -> Row:
        return Row(
            date=self.date,
            commit=self.commit,
            device=self.device,
            torch=torch.__version__,
            threads=threads if found.threads is None else found.threads,
            preset=self.settings.preset if found.config != MarketConfig() else "default",
            markets=found.markets,
            traders=layout(found.config).owners,
            dtype=self.dtype,
            mode="compiled" if found.compiled else "eager",
            case=number,
            measure=found.measure,
            unit=found.unit,
            median=found.median,
            low=min(found.values),
            high=max(found.values),
            target="" if target is None else str(target),
            met=None if target is None else self._met(target, found),
            noise=found.noise,
            note=found.note,
            command=self.command,
        )

    def _met(self, target: Target, found: Found) -> bool | None:
        """Whether the target is met; None where this measurement cannot tell."""
        met = target.met(found.median)
        return None if not self.settings.standard or (met and not found.proves) else met
