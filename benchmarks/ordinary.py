"""What the most ordinary lines of other libraries get: seconds to the first step, and steps a second at once and after a minute.

    python benchmarks/ordinary.py --python VENV/bin/python
    python benchmarks/ordinary.py --python VENV/bin/python --cleanrl FOLDER_OF_CLEANRL --cases cleanrl_ppo cleanrl_dqn

Each line runs in a process of its own, of an interpreter that has torchgym (its wheel, or a checkout) and the library. Nothing
is tuned, no option of torchgym or torch is set, and caches are empty unless --warm keeps those of before. Rows go to a CSV file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from rows import add, tell

RESULTS = Path(__file__).parent / "results" / "ordinary.csv"
COLUMNS = ("threads", "case", "programs", "cache", "first_step", "first_ten_seconds", "after", "command")

CLEANRL_FILES = Path(__file__).parents[1] / "examples" / "cleanrl_files.py"
# As they stand in the tutorials of these libraries, but for the number of steps, which is without end.
CASES = {
    "gymnasium": """
import gymnasium as gym, torchgym
env = gym.make("torchgym/Trading-v0")
env.reset(seed=0)
while True:
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    if terminated or truncated:
        env.reset()
""",
    "gymnasium_vector": """
import gymnasium as gym, torchgym
env = gym.make_vec("torchgym/Trading-v0", num_envs=64)
env.reset(seed=0)
while True:
    env.step(env.action_space.sample())
""",
    "torchrl": """
import torchgym as tg
env = tg.MarketEnv(num_envs=64)
while True:
    env.rollout(100, break_when_any_done=False)
""",
    "sb3_name": """
import torchgym
from stable_baselines3 import PPO
PPO("MlpPolicy", "torchgym/Trading-v0").learn(10**9)
""",
    "sb3_make_vec_env": """
import torchgym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
PPO("MlpPolicy", make_vec_env("torchgym/Trading-v0", n_envs=8)).learn(10**9)
""",
    "sb3_batch": """
import torchgym as tg
from stable_baselines3 import PPO
PPO("MlpPolicy", tg.SB3VecEnv(num_envs=64)).learn(10**9)
""",
    "rl_zoo3": """
import os, runpy, sys, tempfile
os.chdir(tempfile.mkdtemp())
open("ppo.yml", "w").write("torchgym/Trading-v0:\\n  n_timesteps: !!float 1e9\\n  policy: MlpPolicy\\n")
sys.argv = ["train", "--algo", "ppo", "--env", "torchgym/Trading-v0", "--gym-packages", "torchgym", "-conf", "ppo.yml"]
runpy.run_module("rl_zoo3.train", run_name="__main__")
""",
    **{
        f"cleanrl_{name}": f"""
import os, runpy, sys, tempfile
import torchgym
path = os.path.join(os.environ["CLEANRL"], "cleanrl", "{name}.py")
sys.path.insert(0, os.environ["CLEANRL"])
os.chdir(tempfile.mkdtemp())
sys.argv = [{before}path, "--env-id", "torchgym/Trading-v0", "--total-timesteps", "1000000000"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
        # These two are of the time of gymnasium 0.29.
        for name, before in (("ppo", ""), *((name, f"{str(CLEANRL_FILES.resolve())!r}, ") for name in ("dqn", "c51")))
    },
}

# Counts steps of markets as they happen, and ends the process when the minute is over.
WATCH = """
import json, os, sys, threading, time
begun, until, report = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
sys.argv = sys.argv[:1]
import torchgym.engine.market as module
times, counts = [], []
def counted(plain):
    def step(self, *given, **named):
        result = plain(self, *given, **named)
        times.append(time.time()), counts.append(self.num_envs)
        return result
    return step
for name in ("step", "advance"):
    setattr(module.Market, name, counted(getattr(module.Market, name)))
def watch():
    while not times or time.time() < times[0] + until:
        time.sleep(0.2)
    first = times[0]
    def rate(start):
        return sum(n for t, n in zip(times, counts) if 0 <= t - first - start < 10) / 10
    found = {"first_step": first - begun, "first_ten_seconds": rate(0), "after": rate(until - 10)}
    with open(report, "w") as file:
        json.dump(found, file)
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
exec(compile(sys.stdin.read(), "ordinary", "exec"), {"__name__": "__main__"})
"""


@dataclass
class Args:
    """What is asked."""

    python: Path = Path(sys.executable)
    """interpreter that has torchgym and the libraries"""
    cases: tuple[str, ...] = tuple(name for name in CASES if not name.startswith("cleanrl"))
    """which lines"""
    seconds: float = 70.0
    """from the first step on; the last ten of them are the speed after a minute"""
    programs: str = "none"
    """what the installed torchgym brings, for the table: none, or those of a wheel"""
    warm: bool = False
    """keep the programs of runs before"""
    cleanrl: Path | None = None
    """checkout of CleanRL, for the lines that are its files"""
    csv: Path = RESULTS


def main(args: Args) -> None:
    """Run each line, and tell."""
    for case in args.cases:
        with tempfile.TemporaryDirectory(prefix="torchgym-ordinary-") as folder:
            row = {
                "case": case,
                "programs": args.programs,
                "cache": "as before" if args.warm else "empty",
                **measure(args, case, Path(folder)),
            }
        add(args.csv, COLUMNS, {"threads": "default", "command": "python " + " ".join(sys.argv), **row})
        tell(
            f"{case}: first step after {row['first_step']:.1f} s; steps/s in the first ten seconds"
            f" {row['first_ten_seconds']:,.0f}, after a minute {row['after']:,.0f}"
        )


def measure(args: Args, case: str, folder: Path) -> dict[str, float]:
    """One line in a process of its own.

    Raises:
        ChildProcessError: when it ends by itself, with what it said last.
    """
    import time

    environment = dict(os.environ)
    if not args.warm:
        environment |= {
            "TORCHGYM_CACHE_DIR": str(folder / "programs"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
        }
    if args.cleanrl is not None:
        environment["CLEANRL"] = str(args.cleanrl.absolute())
    report = folder / "report.json"
    run = subprocess.run(
        [args.python, "-c", WATCH, str(time.time()), str(args.seconds), report],
        input=CASES[case],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    if not report.exists():
        raise ChildProcessError(f"{case} ended with status {run.returncode}: {run.stderr[-2000:]}")
    found: dict[str, float] = json.loads(report.read_text())
    return found


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
