"""The written pages keep to the code: settings and their defaults, what can be drawn, links.

docs/market.md lists settings in tables whose first column is called "parameter". The heading above a table ends in the name
of the part, `MarketConfig` or a path such as `population.value`; a column headed `default` holds the part's own defaults, one
headed by another name in backticks holds those of a part within it.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pages import PAGES, ROOT, name_of, prose

from torchgym.config import MarketConfig
from torchgym.config.numbers import find

MARKET = ROOT / "docs" / "market.md"


@dataclasses.dataclass(frozen=True)
class Table:
    heading: str
    columns: list[str]
    rows: list[dict[str, str]]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[Table]:
    """Every table of a page, with the heading above it."""
    found: list[Table] = []
    heading, inside = "", False
    for line in prose(text):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            inside = False
        elif not inside:
            found.append(Table(heading, cells(line), []))
            inside = True
        elif not set(line) <= set("|-: "):
            columns = found[-1].columns
            assert len(cells(line)) == len(columns), f"a cell too many or too few in: {line}"
            found[-1].rows.append(dict(zip(columns, cells(line), strict=True)))
    return found


def plain(cell: str) -> str:
    """The name or value in a cell that is nothing but one."""
    assert re.fullmatch(r"`[^`]+`", cell), f"expected one entry in backticks, got {cell!r}"
    return cell[1:-1]


def documented(text: str) -> list[tuple[str, Any]]:
    """Path and default of every setting in the page's tables."""
    found = []
    for table in tables(text):
        if table.columns[0] != "parameter":
            continue
        owner = re.search(r": `([\w.]+)`$", table.heading)
        assert owner, f"the heading {table.heading!r} does not say whose settings the table lists"
        part = [] if owner[1] == "MarketConfig" else [owner[1]]
        for row in table.rows:
            for column, cell in row.items():
                if column == "default" or column.startswith("`"):
                    within = [] if column == "default" else [plain(column)]
                    found.append((".".join([*part, *within, plain(row["parameter"])]), ast.literal_eval(plain(cell))))
    return found


def declared(owner: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and default of every setting, of parts within parts too; of what follows from other settings as it is declared."""
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        if dataclasses.is_dataclass(value):
            yield from declared(value, f"{path}{field.name}.")
        else:
            yield path + field.name, None if field.default is None else value


def complaints(text: str) -> list[str]:
    """What is wrong with a page's tables of settings."""
    written, real = documented(text), dict(declared(MarketConfig()))
    names = [name for name, _ in written]
    return [
        *(f"{name} has more than one row" for name in sorted(set(names)) if names.count(name) > 1),
        *(f"{name} has no row" for name in sorted(set(real) - set(names))),
        *(f"{name} is no setting" for name in sorted(set(names) - set(real))),
        *(f"{name} is {real[name]}, not {value}" for name, value in written if name in real and value != real[name]),
    ]


def test_every_setting_stands_in_the_tables_with_its_default() -> None:
    wrong = complaints(MARKET.read_text(encoding="utf-8"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("| `max_ticks` | `200` | ends | design |", ["max_ticks has more than one row", "max_ticks is 10000, not 200"]),
        ("| `tick_size` | `0.01` | none such | design |", ["tick_size is no setting"]),
    ],
)
def test_a_wrong_row_is_noticed(line: str, complaint: list[str]) -> None:
    table = "\n## More: `MarketConfig`\n\n| parameter | default | what it does | source |\n|---|---|---|---|\n"
    page = MARKET.read_text(encoding="utf-8")
    assert set(complaints(page + table + line + "\n")) - set(complaints(page)) == set(complaint)


def test_missing_rows_are_noticed() -> None:
    page = MARKET.read_text(encoding="utf-8")
    shorter = re.sub(r"^\| `collar` \|.*\n", "", page, flags=re.MULTILINE)
    assert set(complaints(shorter)) - set(complaints(page)) == {"collar has no row"}


def test_every_row_explains_and_names_its_source() -> None:
    rows = [row for table in tables(MARKET.read_text(encoding="utf-8")) for row in table.rows if "parameter" in row]
    assert [row["parameter"] for row in rows if not row["what it does"] or not row["source"]] == []


def test_what_can_be_drawn_is_told_as_it_is() -> None:
    (table,) = [table for table in tables(MARKET.read_text(encoding="utf-8")) if table.columns[:2] == ["path", "drawn"]]
    assert len(table.rows) > 5
    for row in table.rows:
        setting, _ = find(MarketConfig(), plain(row["path"]))
        assert row["drawn"] == ("uniform" if setting.bounds.even else "log-uniform"), row
        assert float(plain(row["at most"])) == setting.bounds.high, row


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(page.read_text(encoding="utf-8"))))
    files = [unquote(link.split("#")[0]) for link in links if not re.match(r"[a-z][a-z+.-]*:|#", link)]
    assert [file for file in files if not (page.parent / file).exists()] == []
