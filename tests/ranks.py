"""What each of several processes does in tests/test_parallel.py; started by torchrun, with a folder to write to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import torchgym as tg
from torchgym.training import PPOSettings, Ranks, Run, join_ranks, resume, start
from torchgym.training.parallel import launcher

CONFIG = tg.preset("toy", max_ticks=20, ticks_per_action=2, scaling="relative")
SETTINGS = PPOSettings(total_frames=4 * 6 * 4, num_envs=4, rollout=6, epochs=2, minibatches=2, hidden=(8,))


def weights(run: Run) -> list[float]:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in run.trainer.agent.parameters()]).tolist()


def begun(ranks: Ranks, device: str = "cpu") -> Run:
    options = {"seed": 5, "compile": False, "validations": 1, "validation_episodes": 2}
    return start(CONFIG, SETTINGS, device=device, ranks=ranks, **options)  # type: ignore[arg-type]


def messages(ranks: Ranks, device: str) -> dict[str, Any]:
    """What the processes tell each other."""
    own = [torch.full((2,), float(ranks.rank), device=device), torch.tensor([[3.0 + ranks.rank]], device=device)]
    ranks.average(own)
    copied = torch.tensor([float(ranks.rank + 7)], device=device)
    ranks.copy_from_first([copied])
    rows = ranks.gather({"a": torch.tensor([ranks.rank, 10 * ranks.rank], device=device)})
    told = {
        "average": [tensor.tolist() for tensor in own],
        "mean": ranks.mean(float(ranks.rank)),
        "any": [ranks.any(False), ranks.any(ranks.rank == 1)],
        "copied": copied.tolist(),
        "given": ranks.given_by_first({"first": ranks.rank} if ranks.first else None),
        "gathered": rows["a"].tolist(),
        "launcher": list(launcher(ranks)),
    }
    ranks.check_alike([torch.tensor([1.0, 2.0], device=device)])
    try:
        ranks.check_alike([torch.tensor([1.0, 2.0 + 5e-7 * ranks.rank], device=device)])
    except RuntimeError as error:
        told["differ"] = str(error)
    return told


def main(folder: Path, wanted: str) -> None:
    torch.set_num_threads(1)
    with join_ranks(wanted) as (ranks, device):
        told = {"wanted": wanted, "device": device, "rank": ranks.rank, "count": ranks.count, **messages(ranks, device)}
        whole = begun(ranks, device)
        actions: list[Any] = []
        plain = whole.trainer.env.market.step
        whole.trainer.env.market.step = lambda action, mask=None: (  # type: ignore[method-assign]
            actions.append(action.flatten().tolist()) or plain(action, mask)  # type: ignore[func-returns-value]
        )
        whole.advance()
        told |= {"seeds": whole.trainer.env.market.live.clock.seed.tolist(), "actions": actions}
        told |= {"weights": weights(whole), "curve": whole.curve, "frames": whole.trainer.frames}

        first = begun(ranks, device)
        first.advance(2, stop=lambda: ranks.rank == 1)  # one process asks for the end: all stop after the first update
        told["stopped_at"] = first.trainer.update
        first.advance(1)
        first.save(folder)
        second = resume(folder, device=device, compile=False, ranks=ranks)
        second.advance()
        told["resumed"] = weights(second)
        (folder / f"rank{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
