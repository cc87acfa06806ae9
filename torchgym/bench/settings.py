"""What a run of the benchmark may be told."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

from torchgym.bench.machine import cores
from torchgym.config import preset
from torchgym.config.validation import Within, check_fields

ALL_CASES = tuple(range(1, 13))
SOAK_STEPS = 2_000
THOROUGH_SOAK_STEPS = 100_000

Case = Annotated[int, Within(ALL_CASES[0], ALL_CASES[-1])]
Size = Annotated[int, Within(1, 2**31)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which cases, how long, and of which size. The defaults are the sizes that the targets are meant for.

    Raises:
        ValueError: for an impossible setting, naming it.
    """

    cases: tuple[Case, ...] = ALL_CASES
    preset: str = "default"
    seconds: Annotated[float, Within(1e-6, 86_400.0)] = 0.7  # of a timed window
    repeats: Size = 5  # windows
    device: str = "cpu"
    threads: Size = field(default_factory=cores)  # of the cases that use as many as there are
    compile: bool = True
    markets: Size = 1_024  # of the cases with one large batch
    batches: tuple[Size, ...] = (
        64,
        256,
        1_024,
        4_096,
        16_384,
    )  # markets; the largest is also the one whose memory is told
    traders: tuple[Size, ...] = (128, 1_024, 8_192)  # per market, so many markets that the product is near 131,072
    crowd: Size = 100_000  # traders in a single market
    episode: Size = 256  # ticks of the staggered episodes
    soak_steps: Size = SOAK_STEPS  # over which memory must not grow

    def __post_init__(self) -> None:
        check_fields(self, Settings)
        preset(self.preset)

    @property
    def standard(self) -> bool:
        """Whether the sizes are those that the targets are meant for, compiled and on the processor."""
        kept = ("preset", "device", "compile", "markets", "batches", "traders", "crowd", "episode")
        defaults = {entry.name: entry.default for entry in fields(self)}
        return all(getattr(self, name) == defaults[name] for name in kept)
