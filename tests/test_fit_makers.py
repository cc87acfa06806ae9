"""The fit of what makers expect, on flows whose memory is known."""

from __future__ import annotations

import pytest
import torch
from fit_makers import correction

HALF_LIVES = (1.0, 8.0, 64.0)


def market(weights: torch.Tensor, *, ticks: int = 5_000, markets: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Mids and means where makers follow a flow less what they expect of it; 0.5 of its mean over eight ticks comes again."""
    generator = torch.Generator().manual_seed(5)
    news = 1.0 - 2.0 ** (-1.0 / torch.tensor(HALF_LIVES, dtype=torch.float64))
    mean = torch.zeros(markets, len(HALF_LIVES), dtype=torch.float64)
    mid = torch.full((markets,), 10_000.0, dtype=torch.float64)
    mids, means = [mid], [mean]
    for _ in range(ticks):
        flow = 0.5 * mean[:, 1] + torch.randn(markets, generator=generator, dtype=torch.float64)
        mid = mid + 0.8 * (flow - mean @ weights)
        mean = mean + news * (flow[:, None] - mean)
        mids.append(mid)
        means.append(mean)
    return torch.stack(mids, 1), torch.stack(means, 1)


def test_the_weights_go_where_the_flow_is_expected_and_stay_there() -> None:
    weights = torch.zeros(3, dtype=torch.float64)
    for _ in range(6):
        weights = weights + correction(*market(weights), HALF_LIVES) / 0.8
    assert weights.tolist() == pytest.approx([0.0, 0.5, 0.0], abs=0.06)


def test_what_is_expected_rightly_is_not_corrected() -> None:
    right = torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64)
    # Three standard errors: the mean over 64 ticks moves least, and so tells least.
    assert (correction(*market(right), HALF_LIVES).abs() < torch.tensor([0.02, 0.03, 0.08])).all()
    assert correction(*market(0.0 * right), HALF_LIVES).sum() > 0.2
