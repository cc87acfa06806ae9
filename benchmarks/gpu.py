"""What a GPU must show, most valuable first: equal bits, no waiting, market-steps a second, a PPO on the device from end to end.

    benchmarks/gpu.sh                        # all of it, within 20 minutes
    benchmarks/gpu.sh bits                   # or a stage of it: bits, speed, ppo; each within 9 minutes
    PYTHON=/path/to/python benchmarks/gpu.sh speed --device cpu

Rows are added to a CSV file as they come. Each case runs in a process of its own, so one that fails, waits or runs out of
memory costs one line and its own rows. On a CPU the same cases run at small sizes, with rows in another file: these figures
mean nothing, but show that the benchmark runs.

Needs torch with CUDA and Triton, numpy, gymnasium and filelock; `ppo` needs tensordict, torchrl, tyro, rich and matplotlib, too.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import inspect
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import device_name
from rows import add, tell
from timing import Timing, noise, time_work
from torch import Tensor
from torch._inductor import config as inductor

from torchgym.config import TASKS, MarketConfig, task
from torchgym.config.tasks import task_presets
from torchgym.engine import Market, graph, stepper
from torchgym.numerics.trees import leaves, map_tensors
from torchgym.sim import actions

RESULTS = Path(__file__).parent / "results" / "gpu.csv"
COLUMNS = ("stage", "case", "markets", "mode", "measure", "unit", "value", "low", "high", "noise", "note", "command")
STAGES = {"bits": 300.0, "speed": 520.0, "ppo": 330.0}  # seconds that each may take

Row = dict[str, object]

# A decision has both kinds of tick, and episodes end while bits are compared.
MARKETS: Mapping[str, MarketConfig] = {
    "default": MarketConfig(max_ticks=1_000),
    "two symbols": MarketConfig(max_ticks=1_000, num_symbols=2),
    **{name: task(name) for name in TASKS},
}
SHORT = {"ticks_per_action": 2, "max_ticks": 12}
DECISIONS = 10
MODES = ("eager", "compiled", "captured")


@contextmanager
def stepping(mode: str) -> Iterator[bool]:
    """Step compiled markets in this mode inside the block. Yields whether to compile at all."""
    faster = ("cpu",) if mode == "compiled" else stepper.Compiled.replays
    with mock.patch.object(stepper.Compiled, "replays", faster):
        yield mode != "eager"


def bits(device: torch.device, case: str, markets: int, compile: bool) -> Iterator[Row]:
    """How many tensors of what is told, and of the state, differ in any bit from the CPU's uncompiled ones; over openings too.

    And whether a decision waits for the device.
    """
    config = MARKETS[case].replace(**SHORT)
    here = Market(config, markets, seed=0, compile=False)
    for mode in MODES if compile and device.type == "cuda" else MODES[:1] if not compile else MODES[:2]:
        about = {"case": case, "markets": markets, "mode": mode}
        with stepping(mode) as compiled:
            there = Market(config, markets, seed=0, device=device, compile=compiled)
            with stated(there, mode) as row:
                names = list(dict.fromkeys(_differing(here, there)))
                row |= {"measure": "tensors that differ", "value": len(names), "note": " ".join(names[:5])}
            yield about | row
            if device.type == "cuda" and row["measure"] != "failed":
                with stated(there, mode) as row:
                    row |= {"measure": "decisions that wait", "value": _waiting(there)}
                yield about | row


def _differing(here: Market, there: Market) -> Iterator[str]:
    """Names of what differs, as it comes."""

    def compare(first: Any, second: Any) -> Iterator[str]:
        named = dict(leaves(map_tensors(lambda leaf: leaf.cpu(), second)))
        for name, leaf in leaves(first):
            if leaf.contiguous().numpy().tobytes() != named[name].contiguous().numpy().tobytes():
                yield name

    seeds = range(here.num_envs)
    here.reset(seeds)
    there.reset(seeds)
    for at, action in enumerate(drawn(here, DECISIONS)):
        yield from compare(here.advance(action), there.advance(action.to(there.device)))
        yield from compare(here.live, there.live)
        clock = here.live.clock.tick
        ended = (clock >= clock.max()) & (torch.arange(here.num_envs) % 2 == at % 2)
        if at % 3 == 2:
            here.reset(mask=ended)
            there.reset(mask=ended.to(there.device))
            yield from compare(here.live, there.live)


def _waiting(market: Market) -> int:
    """How often some decisions wait for the device."""
    given = drawn(market, 4).to(market.device)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for action in given:
                market.advance(action)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


def speed(device: torch.device, case: str, markets: int, compile: bool, seconds: float = 1.0) -> Iterator[Row]:
    """Market-steps a second with features, account and reward, and the most memory that was in use."""
    market = Market(MARKETS[case], markets, seed=0, device=device, compile=False)
    modes = ("captured", "compiled", "eager") if device.type == "cuda" else ("compiled", "eager")
    for mode in modes if compile else ("eager",):
        market.compile = False
        with stepping(mode) as market.compile:
            for row in _speed(market, mode, seconds):
                yield {"case": case, "markets": markets, "mode": mode, **row}


def _speed(market: Market, mode: str, seconds: float) -> list[Row]:
    cuda = market.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    timings: list[Timing] = []
    with stated(market, mode) as failure:
        if not market.opened:
            market.reset()
        turn = itertools.cycle(drawn(market, 16).to(market.device))
        work: dict[str, Callable[[], object]] = {
            "steps": lambda: market.advance(next(turn)),
            "steps by Market.step, which checks actions": lambda: market.step(next(turn)),
        }
        for piece in work.values():
            piece()
        timings = time_work(list(work.values()), seconds=seconds, repeats=3)
    if failure:
        return [failure]
    steps = market.num_envs * market.structure.ticks_per_action
    rows: list[Row] = [
        {"measure": name, **_rates(one, steps, "market-steps/s")} for name, one in zip(work, timings, strict=True)
    ]
    return rows + [_memory(market.num_envs)] * cuda


def joined(device: torch.device, case: str, markets: int, compile: bool, seconds: float = 1.0) -> Iterator[Row]:
    """Bits and speed where torch's compiler joins kernels that do not need each other: half as many launches."""
    if not compile or device.type != "cuda":
        tell("skipped: kernels are joined on a GPU only")
        return
    with mock.patch.dict(graph.EXACT, {"combo_kernels": True}):
        for row in itertools.chain(bits(device, case, 64, True), speed(device, case, markets, True, seconds)):
            if row["mode"] != "eager":
                yield {**row, "mode": f"{row['mode']}, joined kernels"}


def collected(device: torch.device, case: str, markets: int, compile: bool, rollout: int = 32) -> Iterator[Row]:
    """PPO by TorchRL's collector on the device: decisions a second of playing, and of playing and learning."""
    from torchrl.collectors import Collector

    from torchgym.envs.torchrl import MarketEnv
    from torchgym.training import PPOSettings
    from torchgym.training.ppo import PPO

    mode = _fastest(device, compile)
    about: Row = {"case": case, "markets": markets, "mode": mode}
    env = MarketEnv(MARKETS[case], markets, device=device, seed=0)
    env.market.compile = compile
    ppo = PPO(MARKETS[case], PPOSettings(num_envs=markets, rollout=rollout), device=device)
    gatherer = Collector(
        env,
        ppo.agent.actor,
        frames_per_batch=markets * rollout,
        total_frames=-1,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    playing, all_of_it = [], []
    with stated(env.market, mode) as row:
        try:
            batches = iter(gatherer)
            for update in range(5):
                begin = _now(device)
                data = next(batches)
                played = _now(device)
                ppo.learn(data, done=0.0)
                if update:  # the first one compiles
                    playing.append(played - begin)
                    all_of_it.append(_now(device) - begin)
        finally:
            gatherer.shutdown()
    if row:
        yield about | row
        return
    for measure, costs in (("TorchRL's collector and PPO", all_of_it), ("TorchRL's collector", playing)):
        yield about | {"measure": measure, **_rates(Timing(tuple(costs), 1.0), markets * rollout, "decisions/s")}
    if device.type == "cuda":
        yield about | _memory(markets)


def trained(device: torch.device, case: str, markets: int, compile: bool, rollout: int = 32) -> Iterator[Row]:
    """`torchgym train`: decisions a second of playing and learning, by its learning curve."""
    for name in ("tensordict", "torchrl", "tyro", "rich", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
    updates = 5
    with tempfile.TemporaryDirectory(prefix="torchgym-gpu-") as folder:
        words = [
            *("train", str(Path(folder) / "run"), "--device", str(device), "--compile", "yes" if compile else "no"),
            *(
                "--preset",
                next(short for short, name in task_presets().items() if name == case),
                "--ppo.num-envs",
                str(markets),
                "--ppo.rollout",
                str(rollout),
            ),
            *("--ppo.total-frames", str(updates * markets * rollout), "--validations", "0", "--episodes", "0"),
            *("--logger", "none"),
        ]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "torchgym", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ChildProcessError(f"torchgym train ended with status {done.returncode}: {done.stderr[-500:]}")
        with (Path(folder) / "run" / "learning_curve.csv").open(encoding="utf-8", newline="") as file:
            speeds = [float(row["decisions_per_second"]) for row in csv.DictReader(file)][1:]
    slower = ("uncompiled from now on", "steps go through torch.compile")
    note = next((line for line in done.stderr.splitlines() if any(words in line for words in slower)), "")
    yield {
        **{"case": case, "markets": markets, "mode": _fastest(device, compile), "measure": "torchgym train"},
        **{"unit": "decisions/s", "value": statistics.median(speeds), "low": min(speeds), "high": max(speeds)},
        "note": note,
    }


def _fastest(device: torch.device, compile: bool) -> str:
    return "eager" if not compile else "captured" if device.type == "cuda" else "compiled"


@contextmanager
def stated(market: Market, mode: str) -> Iterator[dict[str, object]]:
    """A row to fill in. An error in the block fills it in, and so does a market that went on in a slower way."""
    row: dict[str, object] = {}
    try:
        yield row
    except Exception as error:  # of a compiler, a capture or a device; the next measurement goes on
        row |= {"measure": "failed", "note": _line(error)}
        return
    captured = market._stepper.buffers is not None and market._openings._shared
    slower = market.compile is not True or (mode == "captured" and not captured)
    if mode != "eager" and slower:
        row |= {"measure": "failed", "value": "", "note": f"it could not be {mode}: stderr says why"}


def drawn(market: Market, decisions: int) -> Tensor:
    """Actions of every market, [T, N, W], as `Market.advance` takes them, on the CPU; the same in every run."""
    space, generator = actions.space(market.config), torch.Generator().manual_seed(0)
    shape = (decisions, market.num_envs, space.width(market.config.num_symbols))
    if isinstance(space, actions.Choices):
        return torch.randint(0, space.count, shape, generator=generator)
    low, high = space.bounds(market.config.num_symbols)
    return low + torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low)


def _rates(timing: Timing, steps: int, unit: str) -> Row:
    rates = [steps * rate for rate in timing.rates]
    told = {"value": statistics.median(rates), "low": min(rates), "high": max(rates)}
    return {"unit": unit, **told, "noise": noise(Timing(timing.costs, 1.0))}


def _memory(markets: int) -> Row:
    return {"measure": "most memory", "unit": "bytes/market", "value": torch.cuda.max_memory_reserved() / markets}


def _now(device: torch.device) -> float:
    """Seconds, when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# --- the cases, each in a process of its own

KINDS: Mapping[str, Callable[..., Iterator[Row]]] = {
    "bits": bits,
    "speed": speed,
    "joined": joined,
    "collected": collected,
    "trained": trained,
}


def plan(stage: str, device: str, sizes: list[int] | None = None) -> list[tuple[str, str, int]]:
    """What a stage measures, as kind, case and markets; the most valuable first."""
    on_gpu = device != "cpu"
    names = ["default", "MarketMaking", "two symbols", *(name for name in TASKS if name != "MarketMaking")]
    if stage == "bits":
        return [("bits", name, 64 if on_gpu else 3) for name in names]
    some = sizes or ([16_384, 65_536, 1_024, 1] if on_gpu else [2, 1])
    if stage == "speed":
        others = [("speed", name, some[0]) for name in names[1:3]]
        return [*(("speed", "default", size) for size in some), *others, ("joined", "default", some[0])]
    return [
        *(("collected", "Trading", some[0]), ("trained", "Trading", some[0])),
        *(("collected", "Trading", size) for size in some[1:3]),
        *(("collected", name, some[0]) for name in ("MarketMaking",)),
    ]


def run(stage: str, given: argparse.Namespace) -> None:
    """Measure a stage, and write its rows as they come."""
    end = time.monotonic() + (given.seconds or STAGES[stage])
    path = given.csv or (RESULTS if given.device != "cpu" else RESULTS.with_name("gpu_on_a_cpu.csv"))
    for kind, case, markets in plan(stage, given.device, given.markets):
        left = end - time.monotonic()
        if left < 1.0:
            tell(f"{stage}: no time left for {kind} of {case}, {markets:,} markets")
            continue
        tell(f"{stage}: {kind} of {case}, {markets:,} markets, at most {left:.0f} s")
        words = ["--child", kind, case, str(markets), "--device", given.device]
        words += ["--compile" if given.compile else "--no-compile"]
        for row in _lines([sys.executable, "-W", "ignore", __file__, *words], left):
            told = {"device": row["device"], "stage": stage, "command": f"benchmarks/gpu.sh {stage}", **row}
            add(path, COLUMNS, told)
            value = f"{row['value']:,.0f}" if isinstance(row.get("value"), float) else row.get("value", "")
            print(*(row.get(name, "") for name in ("case", "markets", "mode", "measure")), value, end=" ")
            print(row.get("unit", ""), row.get("note", ""), flush=True)


def _lines(command: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The rows that a process tells, as it tells them; after so many seconds it is ended."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        clock = threading.Timer(seconds, process.kill)
        clock.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("ROW "):
                    yield json.loads(line.removeprefix("ROW "))
            if process.wait() < 0:
                tell("its time was over, or it was killed: the rest of its rows is missing")
        finally:
            clock.cancel()
            process.kill()


def suit_torch() -> list[str]:
    """Ask this torch's compiler for no more than it knows; what it does not know. Bits may differ without."""
    known = inductor.get_config_copy()
    unknown = [name for name in graph.EXACT if name not in known]
    for name in unknown:
        del graph.EXACT[name]
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        unknown.append("isolate_recompiles")
        graph.compile_graph = _compile_alone
    return unknown


def _compile_alone(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """As `graph.compile_graph`, where one market a process recompiles nothing."""
    return torch.compile(function, fullgraph=True, dynamic=False, options=graph.options(device))


def child(kind: str, case: str, markets: int, given: argparse.Namespace) -> None:
    """Measure one case, and tell its rows on stdout."""
    device = torch.device(given.device)
    name = device_name(device)
    unknown = suit_torch()
    try:
        for row in KINDS[kind](device, case, markets, given.compile):
            if unknown and row["mode"] != "eager":
                row = {**row, "note": f"{row.get('note', '')} torch lacks {', '.join(unknown)}".strip()}
            print("ROW " + json.dumps({"device": name, **row}), flush=True)
    except ModuleNotFoundError as error:
        tell(f"skipped: {_line(error)}")
    except Exception as error:  # the other cases may do better
        about = {"device": name, "case": case, "markets": markets, "mode": kind}
        print("ROW " + json.dumps({**about, "measure": "failed", "note": _line(error)}), flush=True)


def main(words: list[str] | None = None) -> int:
    """0; or 2, with one line, where nothing can be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="bits, speed, ppo; the default is all of them")
    parser.add_argument("--device", default=os.environ.get("DEVICE", "cuda"), help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--markets", type=int, nargs="+", help="other sizes of the batches of speed and ppo")
    parser.add_argument("--seconds", type=float, help="that each stage may take")
    parser.add_argument("--csv", type=Path, help="table to add rows to")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "CASE", "MARKETS"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    unknown = [stage for stage in given.stages if stage not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]!r}: choose from {', '.join(STAGES)}")
    if given.device != "cpu" and not torch.cuda.is_available():
        print(
            f"gpu.py: error: torch {torch.__version__} sees no CUDA device: --device cpu tries it out", file=sys.stderr
        )
        return 2
    if given.child:
        kind, case, markets = given.child
        child(kind, case, int(markets), given)
        return 0
    for stage in given.stages or STAGES:
        run(stage, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
