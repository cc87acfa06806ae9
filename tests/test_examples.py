"""Every example runs at toy size."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    tested = {"own_policy", "sb3_ppo", "sklearn_episodes"}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == tested


def test_own_policy():
    example = load("own_policy")
    result = example.main(example.Args(preset="toy", max_ticks=40, episodes=4, compile=False))
    assert list(result)[:2] == ["with the news", "hold"]
    assert result["hold"] == 0.0
    traded = example.main(example.Args(preset="toy", max_ticks=40, episodes=4, threshold=0.0, compile=False))
    assert traded["with the news"] != 0.0


def test_sb3_ppo():
    example = load("sb3_ppo")
    result = example.main(
        example.Args(preset="toy", total_steps=40, num_envs=4, max_ticks=50, test_episodes=3, threads=1)
    )
    assert result["standard_error"] > 0.0


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
