"""Where the time of a decision goes: each phase of the tick compiled alone, and all of them as one program.

    python benchmarks/phases.py                             # about three minutes on one core, most of it to compile
    python benchmarks/phases.py --preset toy --markets 1

A phase is a function that the step or the tick calls and that gives tensors. They are found by watching one decision, which also
gives the arguments they are measured with. A phase's program (`torchgym.engine.program`) then runs again and again on the same
memory, on one thread, so the figures are those of the kernels and of their launches, and of nothing around them.

    operations    that torch dispatches when the phase runs as it is written, views among them
    kernels       launched by the program: C++ functions with several loops in each
    loops         pointwise loops and reductions that are left when the compiler has fused what it can; loops that only share
                  an outer loop, as only a CPU's do, are counted one by one. A GPU would launch a kernel for each, or for fewer,
                  as its compiler has further ways to fuse
    µs            processor time per market and tick, median of the windows
    read, written, scratch    bytes per market: inputs that some kernel uses, results, and what is kept in between
    traffic       bytes per market and tick: the sum over the loops of all that each of them reads and writes. On a CPU mostly
                  caches see it; it is what a GPU would move

A phase that is nothing but views has no kernels, hence no program, and costs nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import machine
import torch
import tyro
from lab import drawn_actions
from rich.table import Table
from rows import append, tell
from timing import SPREAD, Timing, time_work
from torch import Tensor
from torch._inductor import config as compiler
from torch._inductor.scheduler import NopKernelSchedulerNode
from torch.utils._python_dispatch import TorchDispatchMode

from torchgym import Market
from torchgym.cli.output import make_console
from torchgym.config import MarketConfig, preset, structure
from torchgym.engine import program
from torchgym.engine.program import NotRecordable, Program, Traced
from torchgym.engine.program.program import Span
from torchgym.engine.replay import CHUNK
from torchgym.numerics.trees import leaves
from torchgym.readout import step
from torchgym.readout.step import Static
from torchgym.sim import tick
from torchgym.sim.state import MarketState

WHOLE, COPY = "whole decision", "copy of the state"
WARM_STEPS = 10
COLUMNS = (
    *("date", "commit", "device", "torch", "threads", "preset", "markets", "traders", "phase", "calls"),
    *("operations", "kernels", "loops", "graph_breaks", "micros", "low", "high"),
    *("read", "written", "scratch", "traffic", "times_copy", "note", "command"),
)

Row = dict[str, Any]  # by column; what does not apply is missing


@dataclass
class Args:
    preset: str = "default"
    markets: tuple[int, ...] = (CHUNK, 1)
    """in a program; the first is what large batches are cut into"""
    seconds: float = 0.04
    """length of a timed window"""
    repeats: int = 5
    csv: Path = Path(__file__).parent / "results" / "phases.csv"
    """table to add rows to"""


@dataclass(frozen=True)
class Phase:
    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    calls: int = 1  # in a decision


@dataclass
class Piece:
    """What is timed, if it can be run, and what is known of it beforehand."""

    phase: str
    run: Callable[[], object] | None
    facts: Row = field(default_factory=dict)


LISTS = (step.step, tick.tick, tick.quoted)  # what these call is a phase


def opened(config: MarketConfig, count: int) -> Phase:
    """The whole decision of markets in which there was some trading."""
    market = Market(config, count, seed=0, compile=False)
    market.reset()
    *before, action = drawn_actions(config, count)[: WARM_STEPS + 1]
    for earlier in before:
        market.step(earlier)
    arguments = {
        "static": Static.of(market.structure, market.device),
        "params": market.params,
        "state": market.state,
        "action": action[:, None].expand(count, config.num_symbols),
    }
    return Phase(WHOLE, step.step, contiguous(arguments))


def phases_of(whole: Phase) -> list[Phase]:
    """What the lists call during one decision, in order, with the arguments of the first call."""
    lists = codes(LISTS)
    calls: Counter[Callable[..., Any]] = Counter()
    given: dict[Callable[..., Any], dict[str, Any]] = {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame.f_code in lists or frame.f_back is None or frame.f_back.f_code not in lists:
            return
        called = function_of(frame)
        if called is not None:
            calls[called] += 1
            if called not in given:
                names, _, others, seen = inspect.getargvalues(frame)
                arguments = {name: seen[name] for name in names}
                given[called] = contiguous(arguments | (seen[others] if others else {}))

    sys.setprofile(watch)
    try:
        whole.function(**whole.arguments)
    finally:
        sys.setprofile(None)
    found = [Phase(name_of(called), called, given[called], calls[called]) for called in given]
    return [phase for phase in found if tensors(phase.function(**phase.arguments))]


def codes(functions: Iterable[Callable[..., Any]]) -> set[CodeType]:
    """Their code, and that of functions and comprehensions within them."""
    found = [function.__code__ for function in functions]
    for code in found:
        found += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return set(found)


def function_of(frame: FrameType) -> Callable[..., Any] | None:
    """The function or method of torchgym that a frame runs; None for others, and for those that Python itself calls."""
    owner, name = frame.f_locals.get("self"), frame.f_code.co_name
    if name.startswith("__") or not frame.f_globals["__name__"].startswith("torchgym."):
        return None
    found = (frame.f_globals if owner is None else vars(type(owner))).get(name)
    return found if getattr(found, "__code__", None) is frame.f_code else None


def name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}".removeprefix("torchgym.")


def mapped(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same nest of dataclasses, dicts and sequences with the function applied to each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: mapped(function, child) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(function, child) for child in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type) and tensors(tree):
        return dataclasses.replace(tree, **mapped(function, fields_of(tree)))
    return tree


def fields_of(tree: Any) -> dict[str, Any]:
    """The fields of a dataclass alone; parameters remember views of themselves beside them."""
    return {entry.name: getattr(tree, entry.name) for entry in dataclasses.fields(tree)}


def tensors(tree: Any) -> list[Tensor]:
    """The different tensors in such a nest, always in the same order."""
    if isinstance(tree, Tensor):
        return [tree]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = fields_of(tree)
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return list({id(tensor): tensor for child in children for tensor in tensors(child)}.values())


def contiguous(tree: Any) -> Any:
    """A copy in which what was one tensor is one tensor."""
    copies = {id(tensor): tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors(tree)}
    return mapped(lambda tensor: copies[id(tensor)], tree)


class Dispatched(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return operation(*args, **(kwargs or {}))


def traced(phase: Phase) -> Traced:
    """A phase as a function of all tensors that it reads."""
    inputs = tensors(phase.arguments)

    def function(*given: Tensor) -> list[Tensor]:
        new = {id(old): tensor for old, tensor in zip(inputs, given, strict=True)}
        return tensors(phase.function(**mapped(lambda tensor: new[id(tensor)], phase.arguments)))

    return program.trace(function, inputs)


def compiled(phase: Phase, markets: int, ticks: int) -> Piece:
    """A phase as a program on memory of its own, and what that is made of."""
    counts: Counter[str] = Counter()

    def look(fused: list[Any]) -> list[Any]:
        loops = [
            loop for node in fused for loop in (node.get_outer_nodes() if hasattr(node, "get_outer_nodes") else [node])
        ]
        loops = [loop for loop in loops if not isinstance(loop, NopKernelSchedulerNode)]
        counts.update(loops=len(loops), traffic=sum(loop.get_read_write_buffers_sizes() for loop in loops))
        return fused

    with Dispatched() as dispatched:
        phase.function(**phase.arguments)
    facts: Row = {"calls": phase.calls, "operations": dispatched.count}
    if not dispatched.count:
        return Piece(phase.name, None, facts | {"note": "passes on what it is given"})
    try:
        with compiler.patch(_post_fusion_custom_pass=look, fx_graph_cache=False):  # what is cached is not looked at
            built = program.build(traced(phase))
    except NotRecordable as reason:
        return Piece(phase.name, None, facts | {"note": f"no program: {reason}"})
    facts |= {"kernels": len(built.calls), "loops": counts["loops"]}
    facts |= {name: size / markets for name, size in memory(built).items()}
    facts["traffic"] = counts["traffic"] * phase.calls / (markets * ticks)
    alone = dataclasses.replace(built, outputs=())  # results stay where the kernels put them
    return Piece(phase.name, alone.bind(tensors(phase.arguments), [], alone.scratch()), facts)


def memory(built: Program) -> dict[str, int]:
    """Bytes of the inputs that its kernels use, of its results, and of what is neither."""
    spans = [argument for call in built.calls for argument in call.arguments if isinstance(argument, Span)]
    used = {span.memory for span in spans}
    results = {place.memory for place in built.outputs}
    found = dict.fromkeys(("read", "written", "scratch"), 0)
    for index, (shape, dtype) in enumerate(built.inputs):
        found["read"] += math.prod(shape) * dtype.itemsize * (index in used)
    for index, size in enumerate(built.sizes, len(built.inputs)):
        found["written" if index in results else "scratch"] += size.fixed
    return found


def copying(state: MarketState) -> Piece:
    """The floor: no tick gets by without reading the state and writing it, here in one piece."""
    size = sum(leaf.numel() * leaf.element_size() for _, leaf in leaves(state))
    source, target = torch.zeros((2, size), dtype=torch.uint8)
    per_market = size / state.clock.tick.shape[0]
    return Piece(COPY, lambda: target.copy_(source), {"read": per_market, "written": per_market})


def pieces_of(config: MarketConfig, markets: int) -> list[Piece]:
    """Everything that is timed at one size: the phases, the whole, the copy."""
    tell(f"batch of {markets}: open")
    whole = opened(config, markets)
    phases = [*phases_of(whole), whole]
    pieces = []
    for number, phase in enumerate(phases, 1):
        tell(f"batch of {markets}: compile {number} of {len(phases)}, {phase.name}")
        pieces.append(compiled(phase, markets, config.ticks_per_action))
    tell(f"batch of {markets}: look for graph breaks")
    step_graph = traced(whole)
    explained = torch._dynamo.explain(step_graph.graph)(*step_graph.example)
    pieces[-1].facts["graph_breaks"] = explained.graph_break_count
    return [*pieces, copying(whole.arguments["state"])]


def measure(args: Args, markets: int) -> list[Row]:
    config = preset(args.preset)
    common = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": machine.commit(),
        "device": machine.device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "preset": args.preset,
        "markets": markets,
        "traders": structure(config).owners,
        "command": shlex.join(["python", "benchmarks/phases.py", *sys.argv[1:]]),
    }
    pieces = pieces_of(config, markets)
    running = [piece for piece in pieces if piece.run]
    tell(f"batch of {markets}: time")
    work = [piece.run for piece in running if piece.run]
    timings = time_work(work, seconds=args.seconds, repeats=args.repeats, clock=time.process_time)
    for piece, timing in zip(running, timings, strict=True):
        ticks = 1 if piece.phase == COPY else config.ticks_per_action
        piece.facts |= micros(timing, piece.facts.get("calls", 1) / (markets * ticks))
    floor = running[-1].facts["micros"]
    for piece in running:
        piece.facts["times_copy"] = piece.facts["micros"] / floor
    return [common | {"phase": piece.phase} | piece.facts for piece in pieces]


def micros(timing: Timing, scale: float) -> Row:
    costs = [1e6 * scale * seconds for seconds in timing.costs]
    return {"micros": statistics.median(costs), "low": min(costs), "high": max(costs)}


def report(rows: Sequence[Row]) -> None:
    """One size, for the eye."""
    *phases, whole, copy = rows
    console = make_console()
    console.print(table(phases, whole, copy))
    for row in rows:
        if "note" in row:
            console.print(f"{row['phase']}: {row['note']}", soft_wrap=True)
    if "times_copy" in whole:
        console.print(
            f"a decision: {whole['kernels']} kernels, {whole['loops']} loops, {whole['graph_breaks']} graph breaks;"
            f" {copy['read']:,.0f} bytes of state per market, whose copy is the floor: {whole['times_copy']:.1f} times that",
            soft_wrap=True,
        )
    noisy = sum(row["high"] - row["low"] > SPREAD * row["micros"] for row in rows if "micros" in row)
    if noisy:
        console.print(f"[bold red]{noisy} of {len(rows)} figures are noisy: measure again while nothing else runs[/]")


def table(phases: Sequence[Row], whole: Row, copy: Row) -> Table:
    size = f"batch of {whole['markets']}, {whole['traders']} traders each, {whole['preset']}, {whole['threads']} thread"
    drawn = Table(title=f"{size}: {whole['device']}, torch {whole['torch']}, {whole['commit']}", title_justify="left")
    counted, sizes = ("calls", "operations", "kernels", "loops"), ("read", "written", "scratch", "traffic")
    drawn.add_column("phase")
    for heading in (*counted, "µs", "share", *sizes):
        drawn.add_column(heading, justify="right")
    sums = {name: sum(row.get(name, 0) for row in phases) for name in (*counted, "micros")}

    def add(row: Row, share: str = "") -> None:
        cost = f"{row['micros']:.3g}" if "micros" in row else ""
        counts, bytes_ = ([f"{row[k]:,.0f}" if k in row else "" for k in names] for names in (counted, sizes))
        drawn.add_row(row["phase"], *counts, cost, share, *bytes_)

    for row in phases:
        add(row, f"{100.0 * row['micros'] / sums['micros']:.1f} %" if "micros" in row else "")
    drawn.add_section()
    add({"phase": "sum of the phases"} | sums)
    add(whole)
    add(copy)
    return drawn


def main(args: Args) -> None:
    if args.csv.exists() and args.csv.read_text().splitlines()[:1] != [",".join(COLUMNS)]:
        raise SystemExit(f"{args.csv} has other columns: move it away, or name another with --csv")
    for markets in args.markets:
        with machine.threads(1), torch.no_grad():
            rows = measure(args, markets)
        append(args.csv, COLUMNS, rows)
        report(rows)
        print(f"{args.csv}: {len(rows)} rows added")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
