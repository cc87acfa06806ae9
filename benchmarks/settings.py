"""The options of the speed benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

from machine import cores
from scaling import largest, scaled

from torchgym.config import preset
from torchgym.config.validation import Within, check_fields

ALL_CASES = tuple(range(1, 14))

CaseNumber = Annotated[int, Within(ALL_CASES[0], ALL_CASES[-1])]
Size = Annotated[int, Within(1, 2**31)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which cases, how long, and of which size. The defaults are the sizes that the targets are meant for."""

    cases: tuple[CaseNumber, ...] = ALL_CASES
    """Numbers of the cases to measure, 1 to 13; see benchmarks/cases.py."""
    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    seconds: Annotated[float, Within(1e-6, 86_400.0)] = 0.7
    """Seconds of a timed window."""
    repeats: Size = 5
    """Windows; a figure is their median."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""
    threads: Annotated[int, Within(1, 1_024)] = field(default_factory=cores)
    """Threads of the cases that use several; the default is one per processor."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""
    markets: Size = 1_024
    """Markets of the large batch."""
    batches: tuple[Size, ...] = (64, 256, 1_024, 4_096, 16_384)
    """Markets of each batch, in the case where the batch grows; the memory of the largest is told."""
    traders: tuple[Size, ...] = (128, 1_024, 8_192)
    """Traders per market, in the case where they grow, in so many markets that the product is about 131,072."""
    crowd: Size = 100_000
    """Traders of the one market in the case of a crowd."""
    episode: Size = 256
    """Ticks of the staggered episodes."""
    soak_steps: Size = 2_000
    """Steps over which memory must not grow; 100,000 for a thorough test."""

    def check(self) -> None:
        """Nothing, where all of it can be measured.

        Raises:
            ValueError: for an impossible setting, naming it, or numbers of traders that no market can have.
        """
        check_fields(self, Settings)
        config = preset(self.preset)
        if 7 in self.cases:
            for size in self.traders:
                scaled(config, size)
        if 8 in self.cases:
            largest(config, self.crowd)

    @property
    def standard(self) -> bool:
        """Whether the sizes are those that the targets are meant for, compiled and on the processor."""
        kept = ("preset", "device", "compile", "markets", "batches", "traders", "crowd", "episode")
        defaults = {entry.name: entry.default for entry in fields(Settings)}
        return all(getattr(self, name) == defaults[name] for name in kept)
