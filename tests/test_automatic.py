"""compile="auto": uncompiled at once, compiled by another process, changed over between two steps, in the same bits."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from kernels import answers, started
from markets import differences, only, random_actions, seen, toy

import torchgym as tg
from torchgym import Market
from torchgym.engine import replay, stepper

COMPILING = (
    "torchgym: steps run uncompiled while another process compiles them, for half a minute to a minute; the numbers are the"
    " same. If this program ends sooner, nothing is kept; one with TORCHGYM_COMPILE=1 waits, and later ones start compiled"
)
CONFIG = only(toy(max_ticks=150), "noise", "maker")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of programs; compiling begins with the second step."""
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHGYM_COMPILE", "auto")
    monkeypatch.setattr(replay, "_known", {})
    monkeypatch.setattr(stepper, "SOON", 0.0)
    return tmp_path / "cache"


def automatic(market: Market) -> stepper.Automatic:
    own = market._stepper
    assert isinstance(own, stepper.Automatic)
    return own


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def test_a_processor_is_left_to_the_process_that_compiles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each operation on several threads would wait for the one whose processor it works on."""
    monkeypatch.setattr(stepper, "SOON", 1e9)  # no process is started here
    market = Market(CONFIG, 3, seed=4)
    market.reset()
    own, threads = automatic(market), []
    step = own._now.step

    def counting(*given: Any) -> Any:
        threads.append(torch.get_num_threads())
        return step(*given)

    monkeypatch.setattr(own._now, "step", counting)
    own._making = cast(Any, SimpleNamespace(done=False))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        market.step()
        assert (threads, torch.get_num_threads()) == ([2], 3)
    finally:
        torch.set_num_threads(before)


def test_a_story_across_the_change_is_that_of_uncompiled_steps(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """1,000 steps with resets, masks, forks, copies through pickle and disk, of which the first sixty are uncompiled."""
    auto, plain = Market(CONFIG, 3, seed=4), Market(CONFIG, 3, seed=4, compile=False)
    assert auto.compile == "auto" and plain.compile is False
    assert differences(seen(auto.reset()), seen(plain.reset())) == []
    for at, action in enumerate(random_actions(CONFIG, 1_000, 3)):
        if at == 60:
            making = automatic(auto)._making
            assert making is not None and auto._stepper.buffers is None
            wait_until(functools.partial(getattr, making, "done"), 400.0)
        mask = torch.tensor([at % 3 != 1, at % 5 != 2, True]) if at % 4 == 3 else None
        one, two = auto.step(action, mask=mask), plain.step(action, mask=mask)
        assert differences(seen(one), seen(two)) == [], at
        over = two.terminated | two.truncated | (torch.arange(3) == at % 40)
        if over.any():
            assert differences(seen(auto.reset(mask=over)), seen(plain.reset(mask=over))) == []
        if at % 400 == 20:
            auto = pickle.loads(pickle.dumps(auto))
        elif at % 400 in (40, 61):
            auto = auto.fork()
        elif at % 400 == 200:
            auto.save(tmp_path / "market")
            auto = Market.load(tmp_path / "market")
        if at % 100 == 0:
            assert differences(auto.state, plain.state) == []
    assert differences(auto.state, plain.state) == []
    assert auto._stepper.buffers is not None and auto.compile == "auto"
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == COMPILING and lines[1].startswith("torchgym: compiled in ") and len(lines) == 2
    for variable in ("auto", "cached"):
        monkeypatch.setenv("TORCHGYM_COMPILE", variable)
        other = Market(CONFIG, 2)
        other.reset()
        assert other._stepper.buffers is not None and automatic(other)._making is None  # at once, from disk or memory
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


BEGIN = """
import os, signal, sys
from torchgym import Market, preset
from torchgym.engine import stepper
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
    stepper.SOON = 0.0
    market = Market(preset("toy"), 2, seed=0)
    market.reset()
    market.step(), market.step()
    print(market._stepper._making.process.pid, flush=True)
    {end}
"""
ENDS = {
    "at its end": ("pass", 0),
    "by an exit": ("sys.exit(3)", 3),
    "by an error": ("raise SystemExit('torchgym: steps were enough')", 1),
    "by Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)", -2),
    "at once": ("os._exit(0)", 0),
    "by force": ("os.kill(os.getpid(), signal.SIGKILL)", -9),
}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("later", [0.0, 8.0], ids=["at the start", "in the midst"])
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_a_program_that_ends_early(end: str, later: float, cache: Path) -> None:
    if later and end not in ("at its end", "by force"):
        pytest.skip("two ways to end are enough here")
    line, code = ENDS[end]
    script = BEGIN.format(end=f"import time; time.sleep({later}); {line}")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    group = int(ended.stdout)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("torchgym")]
    assert lines[0] == COMPILING and (len(lines) == 1 or end == "by an error")
    assert ended.returncode == code

    def gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, 15.0)
    assert list(cache.iterdir()) == []


TOGETHER = f"""
import sys, time
from torchgym import Market, MarketConfig
from torchgym.engine import background, stepper
if __name__ == "__main__":
    stepper.SOON, background.LATEST = 0.0, 0.5
    market = Market(MarketConfig.from_dict({CONFIG.to_dict()}), 1, seed=0)
    market.reset()
    market.step(), market.step()
    print("makes" if market._stepper._making.process else "waits", flush=True)
    sys.stdin.readline()
    while market._stepper.buffers is None:
        time.sleep(0.1)  # the processor is for the one that compiles
        market.step()
    print("makes" if market._stepper._making.process else "waited", flush=True)
"""


def test_processes_that_start_together_start_one_that_compiles(cache: Path) -> None:
    """And when the one that started it is killed, another one takes over."""
    first = started(TOGETHER, cache)
    assert first.stdout is not None and first.stdout.readline() == "makes\n"
    others = [started(TOGETHER, cache) for _ in range(3)]
    for other in others:
        assert other.stdout is not None and other.stdout.readline() == "waits\n"
    first.kill()
    first.communicate()
    for other in others:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
    ends = answers(others)
    assert sorted(text for _, text, _ in ends) == ["makes\n", "waited\n", "waited\n"], ends
    for _, _, errors in ends:
        assert [line.split(" ")[1] for line in errors.splitlines()] == ["steps", "compiled"], errors
    assert len(list(cache.iterdir())) == 1, list(cache.iterdir())


def test_a_failure_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    markets = [Market(CONFIG, 2, seed=seed) for seed in range(2)]
    for market in markets:
        market.reset()
        market.step(), market.step()
    first, second = (automatic(market)._making for market in markets)
    assert first is second and first is not None  # one process for both
    wait_until(lambda: first.done, 300.0)
    for market in markets:
        assert market.step().observation.isfinite().all()
        assert market._stepper.buffers is None
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == COMPILING and len(lines) == 2
    assert (
        lines[1].startswith("torchgym: steps stay uncompiled, with the same numbers: ")
        and "no C++ compiler" in lines[1]
    )
    assert list(cache.iterdir()) == []


def test_without_a_folder_for_programs_steps_stay_uncompiled(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "file"))
    market = Market(CONFIG, 2, seed=0)
    market.reset()
    for _ in range(3):
        market.step()
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "is_compiled"), [("auto", "auto"), ("", "auto"), ("cached", "auto"), ("0", False), ("1", True)]
)
def test_the_environment_decides_what_is_left_open(
    variable: str, is_compiled: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHGYM_COMPILE", variable)
    assert Market(CONFIG).compile == tg.TradingEnv(CONFIG).market.compile == is_compiled
    assert Market(CONFIG, compile=False).compile is Market(CONFIG, debug=True).compile is False


def test_with_cached_nothing_is_compiled(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And a market whose program is kept steps by it, which the story above shows of one."""
    monkeypatch.setenv("TORCHGYM_COMPILE", "cached")
    market = Market(CONFIG, 2, seed=0)
    market.reset()
    for _ in range(3):
        market.step()
    assert automatic(market)._making is None and market._stepper.buffers is None and market._stepper.any_ticks
    assert capfd.readouterr().err == ""


def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"compile must be True, False or 'auto', got 'yes'"):
        Market(CONFIG, compile="yes")  # type: ignore[arg-type]
    monkeypatch.setenv("TORCHGYM_COMPILE", "2")
    with pytest.raises(ValueError, match=r"TORCHGYM_COMPILE must be auto, cached, 0 or 1, got '2'"):
        Market(CONFIG)
