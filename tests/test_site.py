"""The documentation as a site: it builds without a warning, fetches nothing from elsewhere, and its tables are the code's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT, name_of

from torchgym.readout.features import FEATURES

TOOLS = ROOT / "docs" / "tools"


def build(to: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Not quietly: what is not shown is not counted as a warning either."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(to)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")
        self.found += [given[name] or "" for name in ("src", "data") if name in given]


def test_every_page_of_the_site_fetches_from_itself_alone(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found
        if page.name == "404.html":
            continue
        for target in parser.found:
            assert not re.match(r"(https?:)?//", target), f"{page.name} fetches {target}"
            assert (page.parent / target.split("?")[0]).exists(), f"{page.name} fetches {target}, which is not there"


def test_the_site_knows_every_public_name(site: Path) -> None:
    import torchgym

    shown = "\n".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    for name in torchgym.__all__:
        thing = getattr(torchgym, name)
        home = f"{thing.__module__}." if hasattr(thing, "__module__") else "torchgym."
        assert re.search(rf'id="torchgym\.(\w+\.)*{name}"', shown), f"{home}{name} has no place in the API"


def test_shapes_and_units_of_tensors_are_shown(site: Path) -> None:
    """They stand in comments behind the fields."""
    text = re.sub(r"<[^>]+>", "", (site / "api" / "state.html").read_text(encoding="utf-8"))
    assert "[N, S, K] int32 shares, positive bids, negative asks" in text


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[here](index.md)\n")
    config = re.sub(r"^nav:.*?^theme:", "theme:", config, flags=re.DOTALL | re.MULTILINE)
    config = re.sub(r"^hooks:.*\n|^exclude_docs:.*\n", "", config, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(config.replace("docs/tools", str(TOOLS)))
    assert build(tmp_path / "site", tmp_path / "mkdocs.yml").returncode == 0
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nothing.md)\n")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "nothing.md" in done.stderr


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", TOOLS / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_tables_are_the_codes(tables: ModuleType) -> None:
    marked = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert tables.written(text) == text, f"{name_of(page)} is behind: python docs/tools/tables.py"
        marked |= dict.fromkeys(re.findall(r"<!-- table: (\w+) -->", text), page.name)
    assert set(marked) == set(tables.TABLES)


def test_a_changed_row_is_noticed(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    without = {name: row for name, row in FEATURES.items() if name != "f_atr_8"}
    monkeypatch.setattr(tables, "FEATURES", without)
    assert tables.written(page) != page
    assert "| `f_atr_8` |" in page and "| `f_atr_8` |" not in tables.written(page)
