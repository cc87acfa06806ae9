"""Every code block of every page runs, in a folder of its own, and what a session shows is what comes out."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import shell
from pages import PAGES, Block, blocks, name_of

from torchgym.config import FAMILIES
from torchgym.lab.policies import BASELINES
from torchgym.readout.features import FEATURE_SETS, FEATURES
from torchgym.readout.rewards import REWARDS
from torchgym.sim.actions import ACTIONS
from torchgym.sim.traders import TRADERS
from torchgym.training.ladder import TASKS

pytestmark = pytest.mark.kept

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = {"python", "pycon"}
NOT_CODE = {"text"}
SHELL = {"bash", "sh"}
TABLES = (ACTIONS, BASELINES, FAMILIES, FEATURES, FEATURE_SETS, REWARDS, TRADERS)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page writes lands in a temporary folder, and rows that it adds to tables are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)  # type: ignore[arg-type]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_no_block_is_left_out() -> None:
    assert [block.name for block in BLOCKS if block.language not in RUN | NOT_CODE | SHELL] == []
    fences = sum(page.read_text(encoding="utf-8").count("```") for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.name)
def test_python_runs(block: Block) -> None:
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
    exec(code, {"__name__": f"block of {block.page}"})


@pytest.mark.parametrize("page", sorted({block.page for block in of("pycon")}))
def test_sessions_show_what_comes_out(page: str) -> None:
    """All sessions of a page are one."""
    text = "\n".join(block.text for block in of("pycon") if block.page == page)
    session = doctest.DocTestParser().get_doctest(text, {"__name__": page}, page, page, 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session, out=told.append)
    assert result.failed == 0, "".join(told)
    assert result.attempted > 0


@pytest.mark.parametrize("page", sorted({block.page for block in of(*SHELL)}))
def test_commands_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page follow each other in one folder."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    small = {"num_envs": 4, "rollout": 4, "hidden": (4,)}
    monkeypatch.setitem(TASKS, "inventory", replace(TASKS["inventory"], market={"max_ticks": 20}, settings=small))
    for block in of(*SHELL):
        if block.page == page:
            shell.run(block.text)


@pytest.mark.parametrize(
    "command",
    [
        "torchgym train runs/x --no-such-option",
        "torchgym fly",
        "make fly",
        'pip install "torchgym[fly]"',
        "python examples/sb3_agents.py --algorithm fly",
        "python examples/fly.py",
        "fly",
    ],
)
def test_a_command_that_would_fail_is_noticed(command: str) -> None:
    with pytest.raises((AssertionError, SystemExit, KeyError, FileNotFoundError)):
        shell.run(command)


def test_the_readme_has_a_block_for_each_face() -> None:
    text = "\n".join(block.text for block in of("python") if block.page == "README.md")
    for face in ("MarketEnv", "gym.make(", "gym.make_vec(", "SB3VecEnv", "tg.Market(", "PyTradingEnv"):
        assert face in text


def test_extensions_fit_into_twenty_lines() -> None:
    """A reward, a feature and a family each: everything in their sections that is typed."""
    page = next(page for page in PAGES if name_of(page) == "docs/extending.md")
    sections = page.read_text(encoding="utf-8").split("\n## ")
    for title in ("A reward", "A feature", "A family of traders"):
        (section,) = [section for section in sections if section.startswith(f"{title}\n")]
        definition = section.split("config = tg.")[0].split("env = tg.")[0].split("market = tg.")[0]
        typed = [line for line in definition.splitlines() if line.startswith((">>> ", "... "))]
        assert 0 < len(typed) <= 20, title
