"""Run files of CleanRL that were written for gymnasium 0.29, unchanged, with the gymnasium that is installed.

    python examples/cleanrl_files.py CLEANRL/cleanrl/dqn.py --env-id torchgym/Trading-v0
    python examples/cleanrl_files.py CLEANRL/cleanrl/c51.py --env-id torchgym/Trading-v0 --total-timesteps 100000

CLEANRL is a clone of https://github.com/vwxyzjn/cleanrl; its files also need tensorboard and tyro. They want the last observation
of an episode in the step that ends it, as `final_observation`. Since gymnasium 1.0 `SyncVectorEnv` starts the next episode a step
later and tells none, so these files end with a KeyError in any environment whose episodes are cut. The class here does as
gymnasium 0.29 did.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import gymnasium

import torchgym  # noqa: F401 - registers its ids


class SyncVectorEnv(gymnasium.vector.SyncVectorEnv):
    def __init__(self, env_fns: Any) -> None:
        super().__init__(env_fns, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)

    def step(self, actions: Any) -> Any:
        *seen, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_observation"] = infos.pop("final_obs")
            episode, ended = infos["final_info"]["episode"], infos["_final_info"]
            infos["final_info"] = [
                {"episode": {name: episode[name][row] for name in "rlt"}} if ended[row] else None
                for row in range(self.num_envs)
            ]
        return *seen, infos


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    file = Path(sys.argv[1]).resolve()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(file.parents[1]))  # its cleanrl_utils
    gymnasium.vector.SyncVectorEnv = SyncVectorEnv  # type: ignore[misc, assignment]
    runpy.run_path(str(file), run_name="__main__")
