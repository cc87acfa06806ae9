"""Programs made by another process, while this one steps uncompiled.

One process serves all markets here that want the same program. It works at low priority, ends with this one, however that ends,
and leaves nothing behind but the program in the cache folder.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from torchgym.config import MarketConfig
from torchgym.engine import program as programs
from torchgym.engine.opening import example
from torchgym.engine.program import reason, say
from torchgym.engine.replay import make_programs

PATIENCE = 3.0  # seconds that a process which is told to end gets to clean up
SOONEST, LATEST = 0.5, 5.0  # seconds between looks at what another process makes
_running: dict[str, Making] = {}  # of this process, by the program's name
_of_parents: list[Making] = []  # of the processes that this one was forked from


class Making:
    """A program on its way: one process of all those that want it has another process make it; see `start`."""

    def __init__(self, config: MarketConfig, num_envs: int, name: str) -> None:
        self._begun = time.monotonic()
        self._request = json.dumps({"config": config.to_dict(), "num_envs": num_envs}) + "\n"
        self._name = name
        self._error: str | None = None
        self._folder: str | None = None
        self._ended = False
        self._turn = programs.turn(name)
        self._look_at, self._pause = self._begun, SOONEST
        self.process: subprocess.Popen[str] | None = None
        self._look()
        takes = "half a minute to a minute" if config.ticks_per_action == 1 else "one or two minutes"
        if self.process is not None:
            say(
                f"steps run uncompiled while another process compiles them, for {takes}; the numbers are the same. If this"
                " program ends sooner, nothing is kept; one with TORCHGYM_COMPILE=1 waits, and later ones start compiled"
            )
        elif not self._ended:
            say(
                f"steps run uncompiled until a process that compiles them is done, within {takes}; the numbers are the same"
            )

    @property
    def done(self) -> bool:
        """Whether it has ended; one that is not this process's own is looked at ever more rarely."""
        if self._ended:
            return True
        if self.process is None:
            if time.monotonic() >= self._look_at:
                self._look()
        elif self.process.poll() is not None:
            assert self.process.stdout is not None
            said = self.process.stdout.read().strip().splitlines()
            if self.process.returncode:
                self._error = said[-1] if said else f"the compiling process ended with {self.process.returncode}"
            self._end()
        return self._ended

    @property
    def error(self) -> str | None:
        """Why there is no program, in one line; None where there is one."""
        return self._error if self.done else None

    def _look(self) -> None:
        """See whether another process has made it, or is about to; where none is, begin."""
        # The turn first: who has it keeps the program before the turn is given back, so none is missed between the two.
        alone = self._turn.take()
        if programs.find(self._name) is not None:
            self._end()
        elif alone:
            self._spawn()  # gives the turn back where it fails
        else:
            self._look_at = time.monotonic() + self._pause
            self._pause = min(LATEST, 1.5 * self._pause)

    def _spawn(self) -> None:
        # Where the compiler works. In the cache folder and named as the store's temporary folders are: should both processes be
        # killed, a later one deletes it.
        try:
            self._folder = tempfile.mkdtemp(prefix=f".{self._name}.", dir=programs.private_folder())
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": self._folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"},
                start_new_session=True,  # one signal reaches the compilers that it starts; Ctrl-C does not
                text=True,
            )
            assert self.process.stdin is not None
            self.process.stdin.write(self._request)
            self.process.stdin.flush()
        except BaseException:
            self._clear()
            raise

    def _end(self) -> None:
        if self._error is None:
            say(f"compiled in {time.monotonic() - self._begun:.0f} s; steps are fast from now on")
        else:
            say(f"steps stay uncompiled, with the same numbers: {self._error}")
        self._clear()

    def stop(self) -> None:
        """End it, and wait for it."""
        if self.process is not None:
            with suppress(OSError):
                assert self.process.stdin is not None
                self.process.stdin.close()  # it ends by itself when its input does
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
            if self.process.poll() is None:
                _kill_group(self.process.pid)
                self.process.wait()
            programs.clear_lock(self._name)  # of one that had to be killed
        self._clear()

    def _clear(self) -> None:
        self._ended = True
        _running.pop(self._name, None)
        for pipe in (self.process.stdin, self.process.stdout) if self.process is not None else ():
            with suppress(OSError):
                assert pipe is not None
                pipe.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._turn.give_back()


def start(config: MarketConfig, num_envs: int, name: str) -> Making:
    """A process that makes the program of this name, or the one that does so already.

    Args:
        config: of markets that step by it.
        num_envs: how many, of as few as have that program.

    Raises:
        OSError: when no process can be started.
    """
    if name not in _running:
        _running[name] = Making(config, num_envs, name)
    return _running[name]


def _stop_all() -> None:
    for making in list(_running.values()):
        making.stop()


def _kill_group(pid: int) -> None:
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _end_with_parent() -> None:
    """In the process that compiles: end when the input does, by Ctrl-C's way out so that files are cleaned up, else by force."""
    sys.stdin.read()
    signal.raise_signal(signal.SIGINT)
    time.sleep(PATIENCE / 2)
    _kill_group(os.getpid())


def _main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        gc.disable()  # it would take a twentieth of the time, and all memory is given back soon
        if hasattr(os, "nice"):
            os.nice(10)
        make_programs(*example(MarketConfig.from_dict(request["config"]), request["num_envs"]))
    except KeyboardInterrupt:
        folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(Exception):
            turn = programs.turn(folder.name.split(".")[1])
            if turn.take():  # the other process was killed, and nobody has taken over yet
                turn.give_back()
        return 1
    except Exception as error:  # a compiler may fail in any way
        sys.stdout.write(f"{reason(error)}\n")
        return 1
    return 0


def _after_fork() -> None:
    """In a forked child: the processes, their folders and turns are the parent's. A market there makes a stepper of its own."""
    _of_parents.extend(_running.values())  # kept, since a lock that is thrown away is given back
    _running.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
if __name__ == "__main__":
    sys.exit(_main())
