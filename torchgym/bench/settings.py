"""What a run of the benchmark may be told."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torchgym.bench.machine import cores

ALL_CASES = tuple(range(1, 13))
SOAK_STEPS = 2_000
THOROUGH_SOAK_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which cases, how long, and of which size. The defaults are the sizes that the targets are meant for.

    Raises:
        ValueError: for an impossible setting, naming it.
    """

    cases: tuple[int, ...] = ALL_CASES
    preset: str = "default"
    seconds: float = 0.7  # of a timed window
    repeats: int = 5  # windows
    device: str = "cpu"
    threads: int = field(default_factory=cores)  # of the cases that use as many as there are
    compile: bool = True
    markets: int = 1_024  # of the cases with one large batch
    batches: tuple[int, ...] = (
        64,
        256,
        1_024,
        4_096,
        16_384,
    )  # markets; the largest is also the one whose memory is told
    traders: tuple[int, ...] = (128, 1_024, 8_192)  # per market, so many markets that the product is near 131,072
    crowd: int = 100_000  # traders in a single market
    episode: int = 256  # ticks of the staggered episodes
    soak_steps: int = SOAK_STEPS  # over which memory must not grow

    def __post_init__(self) -> None:
        unknown = [number for number in self.cases if number not in ALL_CASES]
        if unknown or not self.cases:
            raise ValueError(f"cases must be among 1 to {ALL_CASES[-1]}, got {', '.join(map(str, unknown)) or 'none'}")
        if not self.seconds > 0.0:
            raise ValueError(f"seconds must be positive, got {self.seconds!r}")
        for name in ("repeats", "threads", "markets", "crowd", "episode", "soak_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {getattr(self, name)!r}")
        for name in ("batches", "traders"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be integers >= 1, got {getattr(self, name)!r}")

    @property
    def standard(self) -> bool:
        """Whether the sizes are those that the targets are meant for, compiled and on the processor."""
        kept = ("preset", "device", "compile", "markets", "batches", "traders", "crowd", "episode")
        defaults = {entry.name: entry.default for entry in fields(self)}
        return all(getattr(self, name) == defaults[name] for name in kept)
