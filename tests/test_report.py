"""The page of an evaluation: what stands in it, that it needs nothing else, and how it looks and works in a browser."""

from __future__ import annotations

import builtins
import copy
import io
import itertools
import json
import re
import shutil
import statistics
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import tyro
from markets import toy
from rich.console import Console
from torch import Tensor

from torchgym import MarketConfig, StepResult
from torchgym import task as named_task
from torchgym.cli.agents import Report, _print_table
from torchgym.files import write_json
from torchgym.lab.performance import Evaluation, Interval, evaluate
from torchgym.lab.performance.trace import Trace, trace
from torchgym.lab.policies import BASELINES, baselines
from torchgym.lab.policy import Policy
from torchgym.training import PPOSettings, start
from torchgym.visual.palette import LIGHT
from torchgym.visual.report import median_episode, page, write_report
from torchgym.visual.report.page import _ENTRIES

pytestmark = pytest.mark.kept

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "</script><img src=x onerror=alert(1)> & 'quotes' \"too\""
CONFIG = toy(num_symbols=2, max_ticks=80, ticks_per_action=2)
EPISODES = 7
CURVE = [
    {"frames": 100.0, "seconds": 1.0, "training_return": -5.0, "validation_return": None},
    {"frames": 200.0, "seconds": 2.0, "training_return": 3.0, "validation_return": 1.0},
]
FIGURES = {"leads", "price", "book", "account", "attribution", "distribution", "learning"}


def swinging(config: MarketConfig, seeds: Tensor) -> Policy:
    """Buys and sells in turn, differently in every episode."""

    def act(seen: StepResult) -> Tensor:
        turn = seen.info["tick"] // 10 + seeds
        return (2 * (turn % 2)).unsqueeze(-1).expand(-1, config.num_symbols).contiguous()

    return act


@pytest.fixture(scope="module")
def measured() -> Evaluation:
    """Of two policies that trade and one that does not; one has a name that nobody should choose."""
    policies = {"hold": BASELINES["hold"].make, HOSTILE: BASELINES["buy_and_hold"].make, "agent": swinging}
    return evaluate(CONFIG, policies, agent="agent", descriptions={"agent": HOSTILE}, episodes=EPISODES)


@pytest.fixture(scope="module")
def evaluation(measured: Evaluation) -> dict[str, Any]:
    return dict(json.loads(json.dumps(measured.to_dict(f"torchgym evaluate '{HOSTILE}'"), allow_nan=False)))


@pytest.fixture(scope="module")
def episode(evaluation: dict[str, Any]) -> Trace:
    seed = evaluation["seed"] + median_episode(evaluation, "agent")
    return trace(CONFIG, swinging(CONFIG, torch.tensor([seed])), seed)


@pytest.fixture(scope="module")
def text(evaluation: dict[str, Any], episode: Trace) -> str:
    return page(evaluation, episode, curve=CURVE)


class Elements(HTMLParser):
    """Every element that opens, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.silent = False

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    return Elements(text)


# --- what stands in it


def test_nothing_is_loaded_from_anywhere(elements: Elements, text: str) -> None:
    links = [value for _, attributes in elements.found for name, value in attributes.items() if name in ("src", "href")]
    assert links == ["data:,"]
    assert not {"img", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements.found}
    style = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
    assert "url(" not in style and "@import" not in style
    policies = [one["content"] for one in elements.named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and (policies[0] or "").startswith("default-src 'none';")


def test_the_document_is_made_as_readers_and_screens_need_it(elements: Elements) -> None:
    assert elements.found[0] == ("html", {"lang": "en"})
    assert len(elements.named("title")) == 1
    metas = {one.get("name"): one.get("content") for one in elements.named("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    headings = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    for figure in elements.named("figure"):
        assert figure["aria-labelledby"] in names
    plots = [one for one in elements.named("div") if one.get("role") == "img"]
    assert {(one["id"] or "").removesuffix("-plot") for one in plots} == FIGURES
    assert all(len(one["aria-label"] or "") > 40 for one in plots)


def test_what_comes_from_data_is_only_text(elements: Elements, text: str) -> None:
    assert "<img" not in text.split("/**\n* plotly.js")[0]
    assert HOSTILE in " ".join(elements.words)
    assert not any("onerror" in attributes for _, attributes in elements.found)
    for script in re.findall(r'<script type="application/json" data-plot[^>]*>(.*?)</script>', text, re.DOTALL):
        assert set(json.loads(script)) == {"data", "layout"}


def test_the_numbers_are_the_evaluations(evaluation: dict[str, Any], elements: Elements) -> None:
    words = " ".join(" ".join(elements.words).split())
    mean = evaluation["policies"]["agent"]["metrics"]["profit"]["mean"]
    assert f"Agent makes {mean:+.1f} per episode".replace("-", "−") in words
    lead = {row["baseline"]: row for row in evaluation["comparisons"]}["hold"]
    assert f"Lead over hold {lead['lead']:+.1f}".replace("-", "−") in words
    assert f"{evaluation['seed']} to {evaluation['seed'] + EPISODES - 1}" in words
    assert '"max_ticks": 80' in words
    assert "number 4 of 7 from the lowest profit" in words
    assert "The evaluation recorded" not in words


def test_an_episode_that_came_out_otherwise_is_told(evaluation: dict[str, Any], episode: Trace) -> None:
    other = copy.deepcopy(evaluation)
    other["policies"]["agent"]["profit"][episode.seed - evaluation["seed"]] += 0.01
    assert "The evaluation recorded" in page(other, episode)


def figure(text: str, name: str) -> dict[str, Any]:
    """What Plotly is given for it."""
    found = re.search(rf'data-plot="{name}-plot"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_episode_is_told_as_the_market_has_it(text: str, elements: Elements) -> None:
    words = " ".join(" ".join(elements.words).split())
    assert "The policy never sees the value, only a noisy public estimate of it." in words
    assert re.search(r"stands for [\d,]+ shares or more", words)
    assert "An order meets the book of the tick before" in words
    lines = [line["name"] for line in figure(text, "account")["data"]]
    assert lines == ["symbol 0", "symbol 1", "equity", "drawdown"]
    assert figure(text, "account")["layout"]["yaxis3"]["ticksuffix"] == "\u00a0%"


def test_a_price_that_is_not_known_is_not_told(evaluation: dict[str, Any], episode: Trace) -> None:
    def tips(episode: Trace) -> list[str]:
        return [tip for one in figure(page(evaluation, episode), "price")["data"] for tip in one.get("text", [])]

    alone = replace(episode, fill_price=episode.mid)
    assert tips(alone) and all(re.fullmatch(r"(buy|sell) \d+ at [\d.]+, then holds −?\d+", tip) for tip in tips(alone))
    together = replace(episode, fill_price=torch.full_like(episode.mid, torch.nan))
    assert all(re.fullmatch(r"(buy|sell) \d+, then holds −?\d+", tip) for tip in tips(together))
    assert len(tips(together)) == len(tips(alone))


def test_a_significant_lead_is_told_in_words_and_shapes(evaluation: dict[str, Any], episode: Trace) -> None:
    other = copy.deepcopy(evaluation)
    first, second = other["comparisons"]
    first.update(p_adjusted=0.01, lead=5.0)
    second.update(p_adjusted=0.5)
    told = page(other, episode)
    words = " ".join(" ".join(Elements(told).words).split())
    name = first["baseline"].replace("_", " ")
    rest = second["baseline"].replace("_", " ")
    assert f"It is significantly ahead of {name}. It is not significantly different from {rest}." in words
    assert " P " not in words and "p adjusted" in words
    inside, edge = (figure(told, "leads")["data"][-1]["marker"][part] for part in ("color", "line"))
    assert inside[0] == edge["color"][0] != LIGHT.background
    assert inside[1] == LIGHT.background != edge["color"][1]


def test_intervals_and_p_values_say_how_they_are_corrected(evaluation: dict[str, Any], episode: Trace) -> None:
    words = " ".join(" ".join(Elements(page(evaluation, episode)).words).split())
    assert "not corrected for the number of comparisons; p-values are, by Holm's method" in words
    assert "95 % interval uncorrected p uncorrected p adjusted Holm" in words
    alone = " ".join(Elements(page({**evaluation, "comparisons": []}, episode)).words)
    assert "Holm" not in alone


@pytest.mark.parametrize(
    ("config", "market"),
    [
        (CONFIG, "the toy market of 2 symbols"),
        (MarketConfig(commission_bps=9.0), "the default market"),
        (
            MarketConfig().replace(fundamentals=replace(MarketConfig().fundamentals, volatility=9e-4)),
            "a market of its own",
        ),
    ],
)
def test_the_title_names_policy_and_market(
    config: MarketConfig, market: str, evaluation: dict[str, Any], episode: Trace
) -> None:
    found = page({**evaluation, "config": config.to_dict()}, episode)
    for element in ("title", "h1"):
        assert re.search(rf"<{element}>Agent on {market}.*</{element}>", found)


def test_an_episode_with_a_trade_is_shown_and_one_without_told(evaluation: dict[str, Any], episode: Trace) -> None:
    def told(trades: list[int], filled: Tensor) -> str:
        other = copy.deepcopy(evaluation)
        other["policies"]["agent"].update(trades=trades)
        found = page(other, replace(episode, filled=filled))
        return " ".join(" ".join(Elements(found).words).split())

    still, second = torch.zeros_like(episode.filled), episode.filled.clone()
    second[:, 0] = 0
    assert episode.filled[:, 0].any() and second.any()
    always, seldom, never = [1] * EPISODES, [0, 0, 3, *[0] * (EPISODES - 3)], [0] * EPISODES
    assert "not trade" not in told(always, episode.filled)
    assert "Agent does not trade in this episode. It does not trade in 6 of the 7 episodes." in told(seldom, still)
    assert "Agent trades in this episode, but not the first symbol, whose price is shown." in told(always, second)
    words = told(never, still)
    assert "after all costs. It never trades." in words
    assert "Agent does not trade in any of the 7 episodes." in words
    row = {"profit": [5.0, -5.0, 1.0, 0.0], "trades": [1, 2, 1, 0]}
    assert median_episode({"policies": {"agent": row}}, "agent") == 2
    assert median_episode({"policies": {"agent": {**row, "trades": [0] * 4}}}, "agent") == 3


def test_what_a_pointer_would_show_can_be_read_without_one(elements: Elements, evaluation: dict[str, Any]) -> None:
    hidden = {attributes["title"] for _, attributes in elements.found if attributes.get("title")} - {"undefined"}
    words = " ".join(" ".join(elements.words).split())
    assert "Standard deviation of the returns, scaled to a year." in hidden
    missing = {meaning for meaning in hidden if meaning.rstrip(".").lower() not in words.lower()}
    assert missing == set()


def test_episodes_are_held_out_from_an_agent_only(evaluation: dict[str, Any], episode: Trace, text: str) -> None:
    assert "7 held-out episodes" in text
    assert "held-out" not in page({**evaluation, "agent": None, "comparisons": []}, episode).split("<script")[0]


def test_the_training_is_told(evaluation: dict[str, Any], episode: Trace, text: str) -> None:
    training = {"torchgym": "0.0.9", "command": f"torchgym train {HOSTILE}", "seed": 41, "settings": {"gamma": 0.5}}
    words = " ".join(" ".join(Elements(page(evaluation, episode, training=training)).words).split())
    told = f"Training torchgym train {HOSTILE} (into a new folder) Seed of training 41 Trained with torchgym 0.0.9"
    assert told in words
    assert 'The settings of training { "gamma": 0.5 }' in words
    assert "Seed of training" not in text


def test_the_same_arguments_give_the_same_page(evaluation: dict[str, Any], episode: Trace, text: str) -> None:
    assert page(evaluation, episode, curve=CURVE) == text


def test_a_bare_evaluation_has_a_page_too(evaluation: dict[str, Any]) -> None:
    """No agent, nothing compared, metrics without a value or without ends, one of them unknown; one policy that never trades."""
    bare = copy.deepcopy(evaluation)
    still = bare["policies"]["hold"]
    half = {"mean": 0.5, "low": None, "high": None}
    still["metrics"] = {"profit": None, "sharpe": None, "max_drawdown": half, "luck": None}
    still["attribution"]["weather"] = 1.0
    bare.update(agent=None, comparisons=[], policies={"hold": still})
    single = CONFIG.replace(num_symbols=1, max_ticks=10)
    found = page(bare, trace(single, BASELINES["hold"].make(single, torch.tensor([3])), 3))
    words = " ".join(" ".join(Elements(found).words).split())
    assert "Hold makes 0 per episode after all costs." in words
    assert "Max drawdown, % 50.0" in words
    assert "Luck" in words and "Weather" in words
    assert 'id="learning"' not in found and 'id="leads"' not in found


def test_an_unknown_policy_is_refused(evaluation: dict[str, Any], episode: Trace) -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'momentum': choose from agent, hold"):
        page(evaluation, episode, policy="momentum")


# --- from folder to file


@pytest.fixture
def folder(tmp_path: Path, evaluation: dict[str, Any]) -> Path:
    write_json(tmp_path / "evaluation.json", evaluation)
    run = start(CONFIG, PPOSettings(total_frames=16, num_envs=2, rollout=4), validations=0)
    run.advance()
    run.save(tmp_path)
    return tmp_path


def test_a_run_becomes_a_page(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write_report(folder, swinging, progress=lambda done, total: told.append((done, total)))
    assert path == folder / "report.html"
    assert told[-1] == (80, 80)
    assert sorted(one.name for one in folder.iterdir()) == ["checkpoint.pt", "evaluation.json", "report.html"]
    written = path.read_text(encoding="utf-8")
    assert 'id="learning"' in written
    assert "number 4 of 7" in written and "The evaluation recorded" not in written


def test_the_training_of_a_run_is_on_its_page(folder: Path) -> None:
    training = {"torchgym": "0.1.0", "command": "torchgym train here", "seed": 7, "settings": {}, "preset": "toy"}
    write_json(folder / "run.json", training)
    assert "<code>torchgym train here</code>" in write_report(folder, swinging).read_text(encoding="utf-8")


def before_baselines(folder: Path) -> None:
    """As an older torchgym wrote it."""
    path = folder / "evaluation.json"
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    del evaluation["sha256"]
    write_json(path, {**evaluation, "comparisons": [{"policy": "hold", "against": "agent"}]})


def test_episode_and_file_can_be_chosen(folder: Path) -> None:
    path = write_report(folder, swinging, episode=2, output=folder / "new" / "page.html")
    assert path.parent == folder / "new"
    assert "Episode 2, seed 20000002, played by agent" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), r"does not exist: `torchgym evaluate .*` makes it"),
        (lambda folder: (folder / "evaluation.json").write_text("{"), r"evaluation.json is damaged.*torchgym evaluate"),
        (
            lambda folder: (folder / "evaluation.json").write_text("[]"),
            r"evaluation.json is damaged.*torchgym evaluate",
        ),
        (
            lambda folder: write_json(
                folder / "evaluation.json", {**dict.fromkeys(_ENTRIES), "policies": {"agent": {"profit": [1.0]}}}
            ),
            r"has no trades; `torchgym evaluate .*` makes it anew",
        ),
        (before_baselines, r"has no baselines in its comparisons; `torchgym evaluate .* --overwrite` makes it anew"),
        (lambda folder: write_json(folder / "evaluation.json", {}), r"lacks torchgym, config, .*torchgym evaluate"),
        (lambda folder: (folder / "checkpoint.pt").write_text("frames\nmany\n"), r"checkpoint.pt is damaged"),
        (lambda folder: (folder / "run.json").write_text("{"), r"run.json is damaged"),
        (lambda folder: write_json(folder / "run.json", {"seed": 1}), r"run.json lacks torchgym, command, settings"),
    ],
)
def test_what_is_missing_or_broken_is_named_and_nothing_written(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=message):
        write_report(folder, swinging)
    assert sorted(folder.iterdir()) == before


def test_an_episode_that_was_not_played_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"episode must be 0 to 6, got 7"):
        write_report(folder, swinging, episode=7)


def test_the_command_plays_a_baseline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    options = tyro.cli(Report, args=[str(folder), "--policy", "hold", "--episode", "1", "--open"])
    assert options.execute() == 0
    assert "report.html" in capsys.readouterr().out
    again = f"<code>torchgym report {folder} --policy hold --episode 1</code>"
    assert again in (folder / "report.html").read_text(encoding="utf-8")
    assert shown == [(folder / "report.html").as_uri()]
    assert "Episode 1, seed 20000001, played by hold: 0" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_command_cannot_play_a_policy_it_does_not_know(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be played again: choose from hold"):
        Report(folder=folder, policy=HOSTILE).execute()
    (folder / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"checkpoint\.pt does not exist: `torchgym train` makes one"):
        Report(folder=folder).execute()


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_without_a_package_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("torchgym.visual.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf'^a report needs {package}: pip install "torchgym\[report\]"$'):
        __import__("torchgym.visual.report")


# --- in a terminal


@pytest.mark.parametrize("reward", [0.0, 0.0123])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("columns", [200, 80, 70])
def test_the_table_fits_the_terminal_and_80_columns(columns: int, scale: float, reward: float) -> None:
    names = ["agent", *baselines(MarketConfig())]
    profits, rewards = torch.zeros(256), torch.full((256,), reward)
    played = types.SimpleNamespace(traded=torch.zeros(256, 200), profit=profits, reward=rewards)
    episodes = dict.fromkeys(names, played)
    leads = [
        types.SimpleNamespace(
            baseline=name, lead=-110.6 * scale, low=-130.2 * scale, high=91.3 * scale, p_adjusted=6e-4
        )
        for name in names[1:]
    ]
    profit = Interval(40.6 * scale, 24.1 * scale, 57.1 * scale)
    intervals = {"profit": profit, "reward": Interval(reward, 0.5 * reward, 2.0 * reward)}
    made: Any = types.SimpleNamespace(
        episodes=episodes, comparisons=leads, seed=20_000_000, interval=lambda policy, metric: intervals[metric]
    )
    shown = io.StringIO()
    _print_table(Console(file=shown, width=columns), made)
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert max(map(len, lines)) <= min(columns, 80)
    assert "…" not in [line.strip() for line in lines]
    words = " ".join(shown.getvalue().split())
    for told in (*names, *(["+40.6", "-110.6"] if scale == 1.0 else ["+406,000", "-1,106,000"]), "0.0006", "Holm"):
        assert told in words
    assert ("reward" in words) == ("+0.0123" in words) == (reward > 0.0 and columns >= 80)
    if (columns, scale, reward) == (80, 1.0, 0.0):
        assert all(any(name in line and "+40.6 (+24.1 … +57.1)" in line for line in lines) for name in names)


def test_the_table_has_profit_and_lead_of_the_evaluation(measured: Evaluation) -> None:
    shown = io.StringIO()
    _print_table(Console(file=shown, width=80), measured)
    lead = next(one for one in measured.comparisons if one.baseline == "hold")
    line = next(line for line in shown.getvalue().splitlines() if line.split()[:1] == ["hold"])
    assert line.split() == ["hold", "+0.0", f"{lead.lead:+,.1f}", f"{lead.p_adjusted:.2g}"]  # the intervals are beneath


# --- in a browser

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
MODES: dict[str, dict[str, Any]] = {
    "light": DESKTOP,
    "dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH: the page cannot be opened")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


class Tabs:
    """The page, opened once in each mode; every test leaves it as it was."""

    def __init__(self, browser: Browser, file: Path) -> None:
        self.browser, self.file = browser, file
        self.opened: dict[str, Page] = {}
        self.wrong: list[str] = []

    def __getitem__(self, mode: str) -> Page:
        if mode not in self.opened:
            self.opened[mode] = self.open(mode)
        return self.opened[mode]

    def open(self, mode: str) -> Page:
        tab, own = self.browser.new_context(**MODES[mode]).new_page(), self.file.as_uri()
        tab.on("console", lambda message: self.wrong.append(f"console {message.type}: {message.text}"))
        tab.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        tab.on("requestfailed", lambda failed: self.wrong.append(f"failed: {failed.url}"))
        tab.on("request", lambda asked: None if asked.url == own else self.wrong.append(f"asks for {asked.url}"))
        tab.goto(own)
        drawn = "document.querySelectorAll('.plot:has(.main-svg)').length"
        tab.wait_for_function(f"{drawn} === document.querySelectorAll('.plot').length")
        tab.wait_for_timeout(200)
        return tab


@pytest.fixture(scope="module")
def tabs(browser: Browser, file: Path) -> Tabs:
    return Tabs(browser, file)


@pytest.fixture
def tab(request: pytest.FixtureRequest, tabs: Tabs) -> Iterator[Page]:
    """The page, drawn; up to the end of the test nothing may have gone wrong in it."""
    yield tabs[request.param]
    assert tabs.wrong == []


def in_modes(*modes: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tab", modes, indirect=True)


def brightness(colour: str) -> float:
    """0 of black to 1 of white."""
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255.0


def styled(tab: Page, place: str, attribute: str) -> str:
    return str(tab.evaluate("([p, a]) => getComputedStyle(document.querySelector(p))[a]", [place, attribute]))


# What must be drawn in each figure, beside its axes.
MARKS = {
    "leads": ".scatterlayer .point",
    "price": ".scatterlayer .js-line",
    "book": ".heatmaplayer image",
    "account": ".scatterlayer .js-fill",
    "attribution": ".barlayer .point path",
    "distribution": ".boxlayer path.box",
    "learning": ".scatterlayer .js-line",
}


@in_modes(*MODES)
def test_every_figure_is_drawn_and_the_page_fits(tab: Page) -> None:
    for name, mark in MARKS.items():
        plot = tab.locator(f"#{name}-plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert plot.is_visible() and box is not None
        assert box["width"] > 300 and box["height"] >= 200
        assert box["x"] >= 0 and box["x"] + box["width"] <= tab.evaluate("innerWidth")
        drawn = plot.locator(mark).first.bounding_box()
        assert drawn is not None and drawn["width"] > 2, name
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("innerWidth")
    assert tab.evaluate("document.body.scrollWidth") <= tab.evaluate("innerWidth")


@in_modes(*MODES)
def test_axis_labels_stay_inside_their_figure(tab: Page) -> None:
    outside = tab.evaluate(
        """() => [...document.querySelectorAll('.plot')].flatMap((plot) => {
          const frame = plot.getBoundingClientRect();
          return [...plot.querySelectorAll('[class$=tick] text, .annotation-text, .legendtext')]
            .filter((text) => {
              const box = text.getBoundingClientRect();
              return box.left < frame.left - 1 || box.right > frame.right + 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
            })
            .map((text) => `${plot.id}: ${text.textContent}`);
        })"""
    )
    assert outside == []


@in_modes("light", "dark")
def test_page_and_figures_are_light_or_dark(tab: Page, request: pytest.FixtureRequest) -> None:
    dark = "[dark]" in request.node.name
    ground, letters = styled(tab, "body", "backgroundColor"), styled(tab, "body", "color")
    assert (brightness(ground) < 0.15) == dark and (brightness(letters) > 0.8) == dark
    for name in MARKS:
        paper = styled(tab, f"#{name}-plot .main-svg", "backgroundColor")
        tick = styled(tab, f"#{name}-plot [class$=tick] text", "fill")
        assert paper == ground
        assert abs(brightness(tick) - brightness(ground)) > 0.4


@in_modes("light")
def test_figures_follow_when_the_theme_changes(tab: Page) -> None:
    places = [(f"#{name}-plot [class$=tick] text", "fill") for name in MARKS]
    places += [
        ("#price-plot .js-line", "stroke"),
        (".legendtext", "fill"),
        ("#attribution-plot .barlayer path", "fill"),
    ]
    places += [("#price-plot .js-fill", "fill"), ("#distribution-plot .boxlayer path.box", "fill")]
    light = [styled(tab, *place) for place in places]
    images = "[...document.querySelectorAll('#book-plot image')].map((one) => one.getAttribute('href').length + one.outerHTML)"
    book = tab.evaluate(images)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_timeout(300)
    dark = [styled(tab, *place) for place in places]
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert tab.evaluate(images) != book
    tab.emulate_media(color_scheme="light")
    tab.wait_for_timeout(300)
    assert [styled(tab, *place) for place in places] == light


def ranges(tab: Page) -> list[list[float]]:
    names = ["price", "book", "account"]
    return [tab.evaluate(f"document.getElementById('{name}-plot').layout.xaxis.range.map(Number)") for name in names]


@in_modes("light")
def test_figures_over_time_zoom_together(tab: Page) -> None:
    assert ranges(tab) == [[0, 80]] * 3
    plot = tab.locator("#book-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 300, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 600, middle, steps=5)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    first, *others = ranges(tab)
    assert 0 < first[0] < first[1] < 80
    assert others == [first] * 2
    for _ in range(5):  # on a busy machine a browser may see two clicks in place of a double one
        tab.mouse.dblclick(box["x"] + 400, middle)
        tab.wait_for_timeout(500)
        if ranges(tab) == [[0, 80]] * 3:
            return
    assert ranges(tab) == [[0, 80]] * 3


@in_modes("light")
def test_names_in_a_legend_show_and_hide(tab: Page) -> None:
    name = tab.locator("#price-plot .legend .traces").filter(has_text="mid price").locator(".legendtoggle")
    lines = "document.querySelectorAll('#price-plot .js-line').length"
    before = tab.evaluate(lines)
    name.click()
    tab.wait_for_timeout(600)  # the second click of a double one would come until then
    assert tab.evaluate(lines) == before - 1
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_timeout(300)
    assert tab.evaluate(lines) == before - 1  # a change of the theme leaves it hidden
    tab.emulate_media(color_scheme="light")
    tab.wait_for_timeout(300)
    name.click()
    tab.wait_for_timeout(600)
    assert tab.evaluate(lines) == before


@in_modes("light", "dark")
def test_a_shadow_tells_of_more_columns(tab: Page) -> None:
    image = pytest.importorskip("PIL.Image")
    table = tab.locator(".wide[aria-label^=Metrics]")

    def contrast() -> float:
        """Between the right end of the table and what lies left of it, 0 to 255, at heights without a line or a letter."""
        shot = image.open(io.BytesIO(table.screenshot())).convert("L")
        ends = ([shot.getpixel((shot.width - place, y)) for y in range(shot.height)] for place in (2, 24))
        right, inner = (statistics.median(end) for end in ends)
        return abs(right - inner)

    assert contrast() > 20
    table.evaluate("table => { table.scrollLeft = table.scrollWidth }")
    for _ in range(20):  # a busy browser draws it later
        if contrast() <= 2:
            break
        tab.wait_for_timeout(100)
    assert contrast() <= 2
    table.evaluate("table => { table.scrollLeft = 0 }")


@in_modes("phone")
def test_a_finger_on_a_figure_scrolls_the_page(tab: Page) -> None:
    session = tab.context.new_cdp_session(tab)
    for name in MARKS:
        tab.evaluate("name => document.getElementById(name).scrollIntoView({block: 'center'})", f"{name}-plot")
        before = tab.evaluate("scrollY")
        touches = [{"x": 200, "y": 380 - 20 * step} for step in range(9)]
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": touches[:1]})
        for touch in touches[1:]:
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [touch]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        tab.wait_for_timeout(150)
        assert tab.evaluate("scrollY") > before + 50, name


@in_modes("light", "phone")
def test_words_are_those_of_the_readers_pointer(tab: Page, request: pytest.FixtureRequest) -> None:
    words = tab.evaluate("document.body.innerText").lower()
    mouse = set(re.findall(r"\b(drag|click|double-click|mouse|hover)\b", words))
    assert bool(mouse) == ("[light]" in request.node.name)
    assert ("touch a figure" in words) == ("[phone]" in request.node.name)


@in_modes("phone")
def test_a_finger_finds_its_targets_and_nothing_is_cut_off(tab: Page) -> None:
    """Targets are 24 pixels high at least (WCAG 2.2, 2.5.8), those of folded parts 44; only tables and code scroll sideways."""
    heights = "place => [...document.querySelectorAll(place)].map((one) => one.getBoundingClientRect().height)"
    for place, least in ((".legendtoggle", 24), ("summary", 44)):
        found = tab.evaluate(heights, place)
        assert found and min(found) >= least, place
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    cut = tab.evaluate(
        """() => [...document.querySelectorAll('main *')]
          .filter((one) => one instanceof HTMLElement && !one.closest('.wide, pre, .plot'))
          .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline')
          .map((one) => `${one.tagName} ${one.textContent.slice(0, 40)}`)"""
    )
    assert cut == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false })")


@in_modes("phone")
def test_a_touch_reads_the_values(tab: Page) -> None:
    for name, tip in (("price", ".hoverlayer .legend"), ("leads", ".hoverlayer .hovertext")):
        point = tab.locator(f"#{name}-plot .scatterlayer .point").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        assert box is not None
        tab.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.wait_for_selector(f"#{name}-plot {tip}", timeout=5_000)


@pytest.mark.parametrize("task", ["MarketMaking", "Execution", "Portfolio"])
def test_figures_of_a_task_are_drawn(task: str, browser: Browser, tmp_path: Path) -> None:
    """Only those that its action scheme makes meaningful, and none wider than the screen."""
    config = named_task(task, "toy", max_ticks=20, ticks_per_action=2)
    name = {"MarketMaking": "symmetric_quotes", "Execution": "twap_liquidator", "Portfolio": "value_follower"}[task]
    own = {"MarketMaking": {"quotes", "fills"}, "Execution": {"execution"}, "Portfolio": {"weights"}}[task]
    make = BASELINES[name].make
    evaluation = evaluate(config, {name: make}, episodes=2).to_dict()
    found = page(evaluation, trace(config, make(config, torch.tensor([evaluation["seed"]])), evaluation["seed"]))
    file = tmp_path / "page.html"
    file.write_text(found, encoding="utf-8")
    tabs = Tabs(browser, file)
    for tab in (tabs[mode] for mode in MODES):
        shown = {figure.get_attribute("id") for figure in tab.locator("figure").all()}
        assert shown == FIGURES - {"leads", "learning"} | own
        for each in own:
            box = tab.locator(f"#{each}-plot .main-svg").first.bounding_box()
            assert box is not None and box["width"] > 300
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("innerWidth")
    assert tabs.wrong == []
