"""Every example runs at toy size."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pyarrow import parquet

pytestmark = pytest.mark.kept

ROOT = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    tested = {
        *("cleanrl_files", "cleanrl_ppo", "own_policy", "ray_collector"),
        *("rllib_ppo", "sb3_agents", "skrl_ppo", "sklearn_episodes"),
    }
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == tested


def test_own_policy():
    example = load("own_policy")
    result = example.main(example.Args(preset="toy", max_ticks=40, episodes=4))
    assert list(result)[:2] == ["with the news", "hold"]
    assert result["hold"] == 0.0
    traded = example.main(example.Args(preset="toy", max_ticks=40, episodes=4, threshold=0.0))
    assert traded["with the news"] != 0.0


TOY = {"preset": "toy", "num_envs": 4, "max_ticks": 50, "ticks_per_action": 5, "test_episodes": 3}


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_sb3_agents(algorithm):
    example = load("sb3_agents")
    result = example.main(example.Args(algorithm=algorithm, total_steps=120, **TOY))
    assert list(result) == ["agent", "value_follower"]
    again = example.main(example.Args(algorithm=algorithm, total_steps=120, **TOY))
    assert again == result


def test_skrl_ppo():
    example = load("skrl_ppo")
    result = example.main(example.Args(total_steps=160, rollout=10, **TOY))
    assert example.main(example.Args(total_steps=160, rollout=10, **TOY)) == result


def test_skrl_values_the_last_observation_of_an_episode():
    """skrl's own PPO adds the value of the next episode's first observation to the reward where time runs out."""
    example = load("skrl_ppo")
    told = {}

    class Recorder(example.PPO):
        def record_transition(self, *, next_observations, **rest):
            told["next"] = next_observations

    agent = object.__new__(type("Agent", (example.Bootstrapping, Recorder), {}))
    opened, last = torch.zeros(2, 3), torch.ones(2, 3)
    agent.record_transition(next_observations=opened, infos={"final_observation": last})
    assert told["next"] is last
    agent.record_transition(next_observations=opened, infos={})
    assert told["next"] is opened


def test_cleanrl_ppo(tmp_path):
    example = load("cleanrl_ppo")
    options = {"total_steps": 200, "num_steps": 10, **TOY}
    result = example.main(example.Args(**options, log=tmp_path / "curve.csv"))
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "frames,seconds,episode_return" and len(rows) == 1 + 5
    assert example.main(example.Args(**options)) == result


def test_cleanrl_ppo_learns():
    """To let go of what costs."""
    example = load("cleanrl_ppo")
    plain = example.tg.preset

    def costly(name, **settings):
        return plain(name, **settings | {"reward": "inventory", "starting_shares": 50})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example.tg, "preset", costly)
        curves = []
        patch.setattr(example.csv.DictWriter, "writerows", lambda self, rows: curves.append(rows))
        options = {"total_steps": 64 * 10 * 12, "num_steps": 10, "max_ticks": 20, "ticks_per_action": 2, "num_envs": 64}
        example.main(example.Args(preset="toy", **options, learning_rate=3e-3, test_episodes=2, log=Path(os.devnull)))
    (curve,) = curves
    assert curve[0]["episode_return"] < -12.0  # near random
    assert curve[-1]["episode_return"] > -8.0


def test_cleanrl_files(tmp_path):
    """What CleanRL's dqn.py and c51.py read of a step: the last observation in the step that ends an episode."""
    file = tmp_path / "cleanrl" / "dqn.py"
    file.parent.mkdir()
    (tmp_path / "cleanrl_utils.py").write_text("ID = '--env-id'\n")
    file.write_text("""
import sys
import gymnasium as gym
import numpy as np
from cleanrl_utils import ID

assert __name__ == "__main__" and sys.argv[1] == ID, sys.argv

def make_env():
    return gym.wrappers.RecordEpisodeStatistics(gym.make(sys.argv[2], preset="toy", max_ticks=5, compile=False))

envs, alone = gym.vector.SyncVectorEnv([make_env]), make_env()
obs, _ = envs.reset(seed=1)
assert np.array_equal(obs[0], alone.reset(seed=1)[0])
for step in range(1, 16):
    next_obs, rewards, terminations, truncations, infos = envs.step(np.array([2]))
    last, reward, _, truncated, _ = alone.step(2)
    assert truncations[0] == truncated == ("final_observation" in infos) == (step % 5 == 0)
    assert np.isclose(rewards[0], reward)
    if "final_info" in infos:
        for info in infos["final_info"]:
            print(f"{step=}, length={info['episode']['l']}")
    real_next_obs = next_obs.copy()
    for idx, trunc in enumerate(truncations):
        if trunc:
            real_next_obs[idx] = infos["final_observation"][idx]
    assert np.array_equal(real_next_obs[0], last)
    if truncated:
        last, _ = alone.reset()
    assert np.array_equal(next_obs[0], last)
""")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "cleanrl_files.py"), str(file), "--env-id", "torchgym/Trading-v0"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [f"{step=}, length=5" for step in (5, 10, 15)], done.stderr


def ran(name: str, *options: str) -> str:
    """What an example prints in a process of its own, at toy size."""
    toy = ["--preset", "toy", "--max-ticks", "50", "--num-envs", "4", "--rollout", "5", "--test-episodes", "3"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *toy, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ray_collector(tmp_path):
    """Two workers, and the same agent in every run: an update waits for both, in their order."""
    first = ran("ray_collector", "--no-compile", "--total-steps", "120", "--log", str(tmp_path / "curve.csv"))
    second = ran("ray_collector", "--no-compile", "--total-steps", "120")
    assert re.findall(r"([\d,]+) decisions", first) == ["40", "80", "120"]
    without_times = [re.sub(r"in +\d+ s", "", told) for told in (first, second)]
    assert without_times[0] == without_times[1]
    assert "value_follower" in first
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "frames,seconds,training_return" and len(rows) == 1 + 3


def test_rllib_ppo():
    told = ran("rllib_ppo", "--total-steps", "200", "--num-env-runners", "2")
    assert 0 < int(re.findall(r"([\d,]+) decisions", told)[-1]) <= 200
    assert "value_follower" in told


def test_sklearn_episodes(tmp_path):
    example = load("sklearn_episodes")
    toy = {"episodes": 8, "max_ticks": 60, "horizon": 10, "stride": 2}
    result = example.main(example.Args(**toy))
    path = tmp_path / "episodes.parquet"
    assert example.main(example.Args(**toy, output=path)) == result
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.parquet"]

    # Prices that look random, and a feature that gives away where they go.
    table = parquet.read_table(path)
    episode, tick = np.divmod(np.arange(len(table)), toy["max_ticks"] + 1)
    price = 100.0 + 0.01 * ((7 * tick**2 + 5 * episode) % 31)
    hint = np.sign(np.roll(price, -toy["horizon"]) - price)
    for name, values in (("f_mid_price", price), ("f_log_return_1", hint)):
        index = table.column_names.index(name)
        table = table.set_column(index, table.schema.field(index), [values])
    parquet.write_table(table, path)
    found = example.learn(example.Args(**toy), path)
    assert found["majority"] < 0.7
    assert found["accuracy"] > 0.8
