"""`TradingEnv(render_mode=...)`: text, frames and a window show what the market says."""

import copy
import importlib
import itertools
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from markets import opened, toy

import torchgym
from torchgym.engine import levels
from torchgym.envs.gymnasium import TradingEnv
from torchgym.envs.vector import TradingVectorEnv
from torchgym.readout.depth import own_orders
from torchgym.visual.rendering import MODES, History, Screen, text
from torchgym.visual.rendering.history import newcomers
from torchgym.visual.rendering.text import WIDTH

pytestmark = pytest.mark.kept


def env(mode: str | None = None, **settings: Any) -> TradingEnv:
    return TradingEnv(**{"preset": "toy", "max_ticks": 30, "seed": 3, "render_mode": mode, **settings})


def played(mode: str | None, actions: Any = (2, 2, 1, 0), **settings: Any) -> TradingEnv:
    made = env(mode, **settings)
    made.reset()
    for action in actions:
        made.step(action)
    return made


@pytest.fixture
def plt() -> Any:
    return pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def screen(plt: Any) -> Iterator[Any]:
    """matplotlib with windows that need no display."""
    before = plt.get_backend()
    plt.switch_backend("module://screenless")
    yield plt
    plt.close("all")
    plt.switch_backend(before)


def row(shown: str, name: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith(name)).removeprefix(name).strip()


def test_the_text_is_the_market() -> None:
    made = played("ansi")
    shown = made.render()
    assert isinstance(shown, str)
    state, config = made.market.state, made.config
    bids, asks = levels(state, count=5)
    for line, (price, size), (ask, ask_size) in zip(shown.splitlines()[2:7], bids, asks, strict=True):
        left, right = line.split("│")
        assert left.split()[-2:] == [str(size), f"{price * config.point_size:.2f}"]
        assert right.split()[:2] == [f"{ask * config.point_size:.2f}", str(ask_size)]
    *_, told = made.step(0)
    shown = made.render()
    assert shown.startswith("tick 5, seed 3\n")
    assert row(shown, "position") == f"{told['position'][0]:+} of at most 50 shares, sold 10 last"
    assert row(shown, "cash") == f"{told['cash']:,.2f}"
    assert row(shown, "equity") == f"{told['equity']:,.2f}"
    assert row(shown, "profit").startswith(f"{told['equity'] - 100_000.0:+,.2f} (")
    assert row(shown, "time left") == "25 of 30 ticks"
    assert row(shown, "value").endswith("hidden from the learner")


def test_bars_are_as_long_as_sizes() -> None:
    lines = played("ansi").render().splitlines()[2:7]
    bars = [(line.split("│")[1].count("█"), int(line.split("│")[1].split()[1])) for line in lines]
    bars += [(line.split("│")[0].count("█"), int(line.split("│")[0].split()[-2])) for line in lines]
    longest = max(size for _, size in bars)
    assert {length for length, size in bars if size == longest} == {24}
    assert all(length == max(1, round(24 * size / longest)) for length, size in bars)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_symbols": 3, "render_symbol": 2, "information": "privileged"},
        {"preset": "volatile", "ticks_per_action": 3},
        {"point_size": 1e-6},
        {"point_size": 1000.0, "list_price": 200_000, "starting_cash": 2**47 - 1},
        {"execution": "auction", "mark": "liquidation", "order_size": 1000, "starting_cash": 2**40},
    ],
    ids=str,
)
def test_the_text_is_small_and_plain(settings: dict[str, Any]) -> None:
    action = [2] * settings.get("num_symbols", 1) if settings.get("num_symbols") else 2
    shown = played("ansi", [action] * 4, **settings).render()
    lines = shown.splitlines()
    assert len(lines) == 16
    assert max(len(line) for line in lines) <= WIDTH
    assert all(line.isprintable() for line in lines)
    assert ("seen by the learner" in shown) == (settings.get("information") == "privileged")
    assert row(shown, "time left").endswith("of 30 ticks")


def test_a_thin_book_leaves_gaps() -> None:
    config = toy()
    market = opened(config, 1)
    state = market.state
    state.book.size[:] = 0
    state.book.size[0, 0, 0], state.book.price[0, 0, 0] = 7, 9_990
    history = History(config)
    history.begin(state)
    lines = text(history, state).splitlines()
    assert lines[2].split() == ["█" * 24, "7", "99.90", "│"]
    assert [line.strip() for line in lines[3:7]] == ["│"] * 4


def quoting(mode: str) -> Any:
    """An environment whose learner lets ten shares rest three points on either side of the mid, beside everybody else's."""
    made = played(mode, [[3.0, 3.0]] * 4, action="depths", quotes=1)
    assert own_orders(made.config, made.market.state)
    return made


def test_own_orders_are_marked() -> None:
    made = quoting("ansi")
    lines = made.render().splitlines()
    own = own_orders(made.config, made.market.state)
    bids, asks = levels(made.market.state, count=5)
    assert lines[1].endswith("* with own orders")
    marked = [line.count("*") for line in lines[2:7]]
    assert sum(marked) == sum(price in own for price, _ in (*bids, *asks)) > 0
    for line, (bid, _), (ask, _) in zip(lines[2:7], bids, asks, strict=True):
        left, right = line.split("│")
        assert ("*" in left, "*" in right) == (bid in own, ask in own)
    assert sum(own.values()) == made.market.state.book.size[0, 0, -2:].sum()
    assert own_orders(toy(), opened(toy(), 1).state) == {}


def test_own_orders_are_marked_in_the_picture(plt: Any) -> None:
    made = quoting("rgb_array")
    made.render()
    mid = made._screen.history.rows[-1].mid / made.config.point_size
    heights = made._screen._picture._own.get_ydata() + mid
    np.testing.assert_allclose(sorted(heights), sorted(own_orders(made.config, made.market.state)))
    assert "orders of the learner" in made._screen._picture._book.get_xlabel()


def test_how_an_episode_ended_is_told() -> None:
    assert played("ansi", [1] * 3, max_ticks=3).render().splitlines()[0] == "tick 3, seed 3: time is up"
    assert played("ansi", [2], maintenance=9_999_999).render().splitlines()[0] == "tick 1, seed 3: ruined"


def test_ruin_in_any_tick_of_a_decision_is_told() -> None:
    """A decision takes ten ticks; later ones may lift equity over the margin again."""
    told: list[tuple[bool, bool]] = []
    made = env("ansi", max_ticks=100, ticks_per_action=10, maintenance=9_999_000)
    for seed in range(1, 8):
        made.reset(seed=seed)
        ended = terminated = False
        while not ended:
            assert "ruined" not in made.render()
            *_, terminated, truncated, info = made.step(2)
            ended = terminated or truncated
        assert ("ruined" in made.render().splitlines()[0]) == terminated
        told.append((terminated, info["equity"] > 99_990.0))
    assert {(True, True), (True, False), (False, True)} == set(told)


def test_the_history_is_the_recorded_path() -> None:
    made = env("ansi", render_symbol=1, max_ticks=60, ticks_per_action=2, num_symbols=2)
    made.reset(seed=1)
    market = opened(made.config, 1, seed=1)
    for _ in range(15):
        made.step([2, 0])
    path = market.run(30, lambda seen: torch.tensor([[2, 0]]), record=["mid", "value", "position", "equity", "close"])
    rows = list(made._screen.history.rows)
    assert [row.tick for row in rows] == list(range(0, 31, 2))
    for name, entry in (("mid", "mid"), ("value", "value"), ("position", "position"), ("last", "close")):
        np.testing.assert_allclose([getattr(m, name) for m in rows[1:]], path[entry][0, :, 1].numpy(), rtol=1e-12)
    equity = path["equity"][0].numpy()
    np.testing.assert_allclose([m.equity for m in rows[1:]], equity, rtol=1e-12)
    np.testing.assert_allclose([m.peak for m in rows], np.maximum.accumulate([m.equity for m in rows]))
    assert sum(m.filled for m in rows) == rows[-1].position != 0


def test_headlines_are_counted_once() -> None:
    kinds = toy().fundamentals
    often = replace(kinds, guidance=replace(kinds.guidance, probability=0.3, duration=3))
    config = toy(fundamentals=often)
    slow, market = opened(config.replace(ticks_per_action=4), 1, seed=5), opened(config, 1, seed=5)
    history, told = History(config), []
    history.begin(slow.live)
    for _ in range(12):
        slow.step()
        history.add(slow.live)
        now = []
        for _ in range(4):
            market.step()
            value = market.live.value
            if value.arrived.item():
                now.append((value.sentiment[0, 0, -1] * value.magnitude[0, 0, -1]).item())
        told.append(now)
    assert max(len(now) for now in told) > 1
    assert [row.headlines for row in history.rows] == [0, *(len(now) for now in told)]
    assert [row.news for row in history.rows] == [0, *(sum(now) for now in told)]


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 0.0], [0.0, 0.4], 1),
        ([0.1, 0.2], [0.3, 0.4], 2),
        ([0.1, 0.2], [0.2, 0.2], 1),
    ],
)
def test_newcomers_push_the_oldest_out(before: list[float], after: list[float], count: int) -> None:
    assert newcomers(before, after) == count


def test_memory_is_bounded_and_a_reset_forgets() -> None:
    config = toy()
    market = opened(config, 1)
    history = History(config, keep=4)
    history.begin(market.live)
    for _ in range(6):
        market.step(torch.tensor([2]))
        history.add(market.live)
    assert [row.tick for row in history.rows] == [3, 4, 5, 6]
    assert history.opening_equity == 100_000.0
    assert max(row.peak for row in history.rows) >= 100_000.0
    market.reset()
    history.begin(market.live)
    assert [(row.tick, row.headlines, row.filled) for row in history.rows] == [(0, 0, 0)]


def test_a_frame_is_the_callers_own_and_follows_the_market(plt: Any) -> None:
    made = env("rgb_array")
    made.reset()
    first = made.render()
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((720, 960, 3), np.uint8, True)
    again = made.render()
    np.testing.assert_array_equal(first, again)
    first[:] = 0
    made.step(2)
    then = made.render()
    assert not np.array_equal(then, again)
    np.testing.assert_array_equal(then, played("rgb_array", [2]).render())  # nothing of the frames before is left
    assert plt.get_fignums() == []
    made.close()
    made.close()
    np.testing.assert_array_equal(made.render(), then)


def test_a_frame_depends_on_no_earlier_frame(plt: Any) -> None:
    """Axes are drawn again only when their limits change, which here they do."""
    followed, fresh = env("rgb_array", max_ticks=120), env("rgb_array", max_ticks=120)
    limits = set()
    for made in (followed, fresh):
        made.reset()
    for tick in range(60):
        for made in (followed, fresh):
            made.step(2 * (tick % 2))
        frame = followed.render()
        limits.add(followed._screen._picture._ground[0])
    assert 1 < len(limits) < 30
    np.testing.assert_array_equal(frame, fresh.render())


def test_the_picture_shows_the_numbers(plt: Any) -> None:
    made = played("rgb_array", [2, 2, 0, 1, 0, 0, 0, 2])
    made.render()
    picture, rows = made._screen._picture, list(made._screen.history.rows)
    ticks = [row.tick for row in rows]
    assert picture._mid.get_xydata().tolist() == [[m.tick, m.mid] for m in rows]
    assert picture._value.get_ydata().tolist() == [m.value for m in rows]
    assert picture._buys.get_xdata().tolist() == [m.tick for m in rows if m.filled > 0]
    assert picture._sells.get_xdata().tolist() == [m.tick for m in rows if m.filled < 0] != []
    assert picture._gain.get_ydata().tolist() == [m.equity - 100_000.0 for m in rows]
    for patch, side in ((picture._long, 1), (picture._short, -1)):  # what a decision led to, all over the decision
        values, edges, _ = patch.get_data()
        assert values.tolist() == [side * max(side * m.position, 0) for m in rows[1:]]
        assert edges.tolist() == ticks
    assert rows[-1].position < 0
    mid, bids = rows[-1].mid / made.config.point_size, levels(made.market.state)[0][:2]
    lengths, offsets = np.array([segment[1] for segment in picture._bids.get_segments()]).T[:, ::-1][:, :2]
    np.testing.assert_allclose(offsets + mid, [price for price, _ in bids])
    largest = int(picture._largest.get_text().removeprefix("max "))
    np.testing.assert_allclose(lengths * largest, [size for _, size in bids])
    assert picture._title.get_text() == "Tick 8 of 30"
    assert f"{rows[-1].equity:,.2f}" in picture._account.get_text()


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("font", [{"size": 8, "family": "monospace"}, {"size": 12, "weight": "bold"}], ids=str)
def test_characters_look_like_matplotlibs_text(font: dict[str, Any], right: bool, plt: Any) -> None:
    """As much ink, in the same place, up to a pixel for every few characters: there is no kerning."""
    kind = importlib.import_module("torchgym.visual.rendering.characters").Characters
    boxes, inks = [], []
    for own in (True, False):
        figure = plt.Figure(figsize=(3, 1), dpi=100)
        canvas = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
        if own:
            lines = kind(0.5, 0.8, colour="#102030", right=right, **font)
            figure.add_artist(lines)
            lines.set_text("Tick −1,234.5 %")
        else:
            side = "right" if right else "left"
            figure.text(0.5, 0.8, "Tick −1,234.5 %", color="#102030", ha=side, va="top", fontdict=font)
        canvas.draw()
        ink = 255 - np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
        rows, columns = np.nonzero(ink.sum(-1))
        boxes.append((rows.min(), rows.max(), columns.min(), columns.max()))
        inks.append(ink.sum((0, 1)))
    np.testing.assert_allclose(*boxes, atol=3)
    np.testing.assert_allclose(*inks, rtol=0.05)


@pytest.mark.parametrize(("max_ticks", "shown"), [(30, 30), (300, 150)])
def test_the_time_axis_is_not_longer_than_the_episode(max_ticks: int, shown: int, plt: Any) -> None:
    made = played("rgb_array", [1, 2], max_ticks=max_ticks, ticks_per_action=3)
    made.render()
    assert made._screen._picture._price.get_xlim() == pytest.approx((0.0, 1.02 * shown))


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "volatile"},
        {"point_size": 1e-6},
        {"point_size": 1e3, "list_price": 200_000, "starting_cash": 2**46},
        {"quotes": 1},
    ],
    ids=["volatile", "small points", "large amounts", "resting orders"],
)
def test_no_words_of_the_picture_overlap(settings: dict[str, Any], plt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = played("rgb_array", [2, 0] * 4, max_ticks=8, **settings)
    drawn: list[Any] = []

    def remembering(kind: Any) -> None:
        draw = kind.draw

        def remember(words: Any, renderer: Any) -> None:
            if words.get_visible() and words.get_text().strip():
                drawn.append(words)
            draw(words, renderer)

        monkeypatch.setattr(kind, "draw", remember)

    picture = importlib.import_module("torchgym.visual.rendering.picture").Picture(made.config)
    picture.update(made._screen.history, made.market.live)
    for kind in (plt.Text, type(picture._account)):
        remembering(kind)
    picture.frame()
    boxes = {words: words.get_window_extent() for words in drawn}
    assert {"asks", "price", "mid", "drawdown", "Tick 8 of 8: time is up"} <= {words.get_text() for words in drawn}
    outside = [w.get_text() for w, box in boxes.items() if min(box.x0, box.y0, 960 - box.x1, 720 - box.y1) < 0]
    pairs = itertools.combinations(boxes, 2)
    assert outside == []
    assert not any(boxes[picture._account].overlaps(axes.bbox) for axes in picture.figure.axes)
    assert [(a.get_text(), b.get_text()) for a, b in pairs if boxes[a].overlaps(boxes[b])] == []


@pytest.mark.parametrize("mode", MODES)
def test_rendering_changes_no_number(mode: str, screen: Any) -> None:
    plain, shown = env(), env(mode)
    first, _ = plain.reset(seed=2)
    np.testing.assert_array_equal(first, shown.reset(seed=2)[0])
    for action in (2, 0, 0):
        expected, told = plain.step(action), shown.step(action)
        shown.render()
        np.testing.assert_array_equal(expected[0], told[0])
        assert expected[1:4] == told[1:4]
    shown.close()


def test_nothing_of_a_state_is_kept() -> None:
    """A compiled market's state lies in memory that later steps overwrite."""
    made, other = env("ansi"), env("ansi")
    made.reset(seed=2)
    other.reset(seed=2)
    for action in (2, 0, 1):
        other.step(action)
        before = made.market.live
        made.step(action)
        for leaf in (before.market_data.bid, before.value.sentiment, before.ledger.shares[..., 0]):
            leaf.zero_()
    assert made.render() == other.render()
    assert made._screen.history.rows == other._screen.history.rows


def test_a_window_follows_every_step(screen: Any) -> None:
    made = env("human")
    assert screen.get_fignums() == []
    made.reset()
    (number,) = screen.get_fignums()
    manager = screen.figure(number).canvas.manager
    assert (manager.shown, manager.title) == (1, "torchgym")
    made.step(2)
    assert made.render() is None
    canvas = manager.canvas
    assert (manager.shown, canvas.draws, canvas.flushed) == (1, 2, 2)
    screen.close(number)  # by hand
    made.step(2)
    assert made._screen._window._title.get_text() == "Tick 1 of 30"
    assert screen.get_fignums() == []
    made.close()
    made.close()
    made.reset()
    assert len(screen.get_fignums()) == 1
    made.close()
    assert screen.get_fignums() == []


def test_a_window_needs_a_display(plt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = env("human")
    with pytest.raises(
        RuntimeError, match=r"cannot open a window with the backend '[Aa]gg': choose .*MPLBACKEND.*rgb_array"
    ):
        made.reset()
    assert plt.get_fignums() == []
    assert not made.market.opened

    def refuse(**how: Any) -> None:
        raise ImportError("no display found")

    monkeypatch.setattr(plt, "figure", refuse)
    with pytest.raises(RuntimeError, match=r"cannot open a window \(no display found\): choose .*MPLBACKEND"):
        made.reset()


def test_a_window_that_cannot_be_opened_again_stops_no_step_half_way(screen: Any) -> None:
    made, other = env("human"), env()
    made.reset()
    made.close()
    screen.switch_backend("Agg")
    for again in (lambda: made.step(2), made.reset):
        with pytest.raises(RuntimeError, match="cannot open a window"):
            again()
    assert made.market.live.clock.tick.tolist() == [0]
    screen.switch_backend("module://screenless")
    other.reset()
    np.testing.assert_array_equal(made.step(2)[0], other.step(2)[0])
    np.testing.assert_array_equal(made.reset()[0], other.reset()[0])
    made.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"render_mode": "svg"}, "unknown render_mode 'svg': choose one of human, rgb_array, ansi, or None"),
        ({"render_mode": "ansi", "render_symbol": 2}, "render_symbol must be an integer from 0 to 1, got 2"),
        ({"render_mode": "ansi", "render_symbol": "0"}, "render_symbol must be an integer from 0 to 1, got '0'"),
        ({"render_mode": "ansi", "render_symbol": True}, "render_symbol must be an integer from 0 to 1, got True"),
    ],
)
def test_bad_arguments_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TradingEnv(preset="toy", num_symbols=2, **settings)


def test_rendering_needs_a_mode_and_a_reset() -> None:
    with pytest.warns(UserWarning, match=r"render\(\) draws nothing without a render_mode"):
        assert env().render() is None
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before render\(\)"):
        env("ansi").render()
    with pytest.raises(ResetNeeded):
        gymnasium.make("torchgym/Trading-v0", preset="toy", render_mode="ansi").render()


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_gymnasium_collects_what_is_rendered(mode: str) -> None:
    if mode == "rgb_array":
        pytest.importorskip("matplotlib")
    made = gymnasium.make("torchgym/Trading-v0", preset="toy", max_ticks=3, render_mode=mode)
    assert made.render_mode == mode
    collected = gymnasium.wrappers.RenderCollection(made)
    collected.reset(seed=1)
    collected.step(2)
    first, second = collected.render()
    assert not np.array_equal(first, second)
    collected.close()
    listed = gymnasium.make("torchgym/Trading-v0", preset="toy", max_ticks=3, render_mode=f"{mode}_list")
    listed.reset(seed=1)
    assert np.array_equal(listed.render()[0], first)


# What the checkers say of any feature without bounds.
@pytest.mark.filterwarnings(r"ignore:.*A Box observation space minimum value is -infinity")
@pytest.mark.filterwarnings(r"ignore:.*A Box observation space maximum value is infinity")
def test_gymnasium_finds_nothing_wrong_in_any_mode(screen: Any) -> None:
    """Its checker makes the environment anew in every mode."""
    made = gymnasium.make("torchgym/Trading-v0", preset="toy", max_ticks=8, num_symbols=2, render_mode="rgb_array")
    check_env(made.unwrapped)
    made.close()


@pytest.mark.parametrize("mode", MODES)
def test_stable_baselines3_finds_nothing_wrong_in_any_mode(mode: str, screen: Any) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    made = env(mode)
    made.reset()
    checker._check_render(made)  # the part of its check_env that depends on the mode


def test_matplotlib_is_missed_where_something_is_drawn_and_named() -> None:
    """At a frame or at the first reset of a window; until then, and for texts, nobody needs it."""
    code = """
        import sys
        sys.modules["matplotlib"] = None  # as if it were not installed
        import torchgym
        env = torchgym.TradingEnv(preset="toy", render_mode="ansi")
        env.reset(seed=1)
        print(env.render().splitlines()[0])
        env = torchgym.TradingEnv(preset="toy", render_mode="rgb_array")
        env.reset(seed=1)
        print(env.step(2)[-1]["tick"])
        window = torchgym.TradingEnv(preset="toy", render_mode="human")
        for draw in (env.render, window.reset):
            try:
                draw()
            except ImportError as error:
                print(error)
        print(env.step(2)[-1]["tick"], window.market.opened)
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text_line, tick, *complaints, after = done.stdout.splitlines()
    assert (text_line, tick, after) == ("tick 0, seed 1", "1", "2 False")
    assert len(complaints) == 2
    assert all('needs matplotlib: pip install "torchgym[plots]"' in line for line in complaints)


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("moment", ["new", "open", "stepped"])
@pytest.mark.parametrize("mode", MODES)
def test_a_copy_shows_what_happens_to_itself(mode: str, moment: str, way: Any, screen: Any) -> None:
    """It has the same past, and a picture or window of its own."""
    made = env(mode)
    if moment != "new":
        made.reset()
        made.render()
    if moment == "stepped":
        made.step(2)
        made.render()
    before = len(screen.get_fignums())
    twin = way(made)
    assert len(screen.get_fignums()) == before
    shown = []
    for one in (twin, made):
        if moment == "new":
            one.reset()
        one.step(0)
        one.step(1)
        shown.append((one.render(), list(one._screen.history.rows)))
    np.testing.assert_array_equal(shown[0][0], shown[1][0])
    assert shown[0][1] == shown[1][1]
    windows = {one._screen._window._manager for one in (twin, made)} if mode == "human" else set()
    assert len(windows) == len(screen.get_fignums()) == (2 if mode == "human" else 0)
    twin.close()
    assert len(screen.get_fignums()) == (1 if mode == "human" else 0)
    made.close()


class Clip:
    """Takes what a recorder would have moviepy encode."""

    made: list["Clip"] = []

    def __init__(self, frames: list[Any], fps: int) -> None:
        self.frames, self.fps = list(frames), fps
        self.made.append(self)

    def write_videofile(self, path: str, **how: Any) -> None:
        self.path = path


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """The videos that the recorders make, with a stand-in for moviepy, which brings an encoder of many megabytes."""
    module: Any = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    module.ImageSequenceClip = Clip
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Clip, "made", [])
    return Clip.made


def film(single: TradingEnv, seeds: dict[int, int | None], steps: int) -> list[Any]:
    """Frames of a single market that buys; it is reset after so many steps, with such seeds."""
    frames = []
    for step in range(steps + 1):
        if step in seeds:
            single.reset(seed=seeds[step])
        else:
            single.step(2)
        frames.append(single.render())
    return frames


@pytest.mark.parametrize(("first_only", "width"), [(True, 960), (False, 1920)])
def test_gymnasiums_recorder_films_a_batch(first_only: bool, width: int, plt: Any, clips: Any, tmp_path: Any) -> None:
    if not hasattr(gymnasium.wrappers.vector, "RecordVideo"):
        pytest.skip("this gymnasium has no recorder of batches")
    made = gymnasium.make_vec(
        "torchgym/Trading-v0",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        **{"preset": "toy", "max_ticks": 3, "render_mode": "rgb_array"},
    )
    recorder = gymnasium.wrappers.vector.RecordVideo(
        made, str(tmp_path / "new"), record_first_only=first_only, step_trigger=lambda step: False, video_length=5
    )
    recorder.start_recording("whole")
    recorder.reset(seed=3)
    for _ in range(5):
        recorder.step(np.array([2, 1]))
    recorder.close()
    (clip,) = clips
    assert (clip.fps, len(clip.frames)) == (20, 6)
    expected = film(env("rgb_array", max_ticks=3), {0: 3, 4: None}, 5)
    for frame, alone in zip(clip.frames, expected, strict=True):
        assert frame.shape == (720, width, 3)
        np.testing.assert_array_equal(frame[:, :960], alone)
        assert not frame[:, 960:].any()  # the other market is not drawn


def test_stable_baselines3s_recorder_films_a_batch(plt: Any, clips: Any, tmp_path: Any) -> None:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    how: Any = {"preset": "toy", "seed": 3, "max_ticks": 3, "render_mode": "rgb_array"}
    made, alone = torchgym.SB3VecEnv(num_envs=2, **how), torchgym.SB3VecEnv(num_envs=1, **how)
    recorder = vec_env.VecVideoRecorder(made, str(tmp_path), lambda step: step == 0, video_length=4)
    recorder.reset()
    alone.reset()
    expected = [alone.render()]
    for _ in range(4):  # the third ends the first episode and opens the second
        recorder.step(np.array([2, 1]))
        alone.step(np.array([2]))
        expected.append(alone.render())
    (clip,) = clips
    assert (clip.fps, len(clip.frames)) == (20, 5)
    np.testing.assert_array_equal(clip.frames[:3], film(env("rgb_array", max_ticks=3), {0: 3}, 2))
    for frame, other in zip(clip.frames, expected, strict=True):
        np.testing.assert_array_equal(frame, other)
    for way in (made.render, lambda: made.render("rgb_array"), lambda: made.env_method("render")[1]):
        np.testing.assert_array_equal(way(), frame)
    with pytest.warns(UserWarning, match="has to be the same as the environment render mode"):
        assert made.render("ansi") is None
    recorder.close()


def test_a_batch_of_stable_baselines3_is_drawn_as_it_was_made_to_be(screen: Any) -> None:
    pytest.importorskip("stable_baselines3")
    how: Any = {"preset": "toy", "num_envs": 2, "num_symbols": 2}
    with pytest.warns(UserWarning, match="no `render_mode` was passed"):
        assert torchgym.SB3VecEnv(**how).render() is None
    made = torchgym.SB3VecEnv(**how, render_mode="ansi", render_symbol=1)
    with pytest.raises(RuntimeError, match="reset"):
        made.render()
    made.reset()
    assert "symbol 1 of 0 to 1" in made.render()
    made = torchgym.SB3VecEnv(**how, render_mode="human")
    made.reset()
    (number,) = screen.get_fignums()
    made.step(np.array([[2, 1], [1, 1]]))
    assert made.render() is None and made.render("human") is None
    assert screen.figure(number).canvas.draws == 2
    made.close()
    assert screen.get_fignums() == []


def test_a_batch_of_gymnasium_is_drawn_as_it_was_made_to_be(screen: Any) -> None:
    how: Any = {"preset": "toy", "num_envs": 3}
    with pytest.warns(UserWarning, match=r"render\(\) draws nothing without a render_mode"):
        assert TradingVectorEnv(**how).render() is None
    made = TradingVectorEnv(**how, render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before render\(\)"):
        made.render()
    made.reset(seed=4)
    assert made.render() == made.call("render") == (made.render()[0], "", "")
    made = TradingVectorEnv(**how, render_mode="human")
    made.reset()
    made.step([2, 1, 1])
    made.reset(options={"reset_mask": np.array([False, True, False])})  # the first market stands where it stood
    assert made.render() is None and made.call("render") == (None,) * 3
    assert [row.tick for row in made._screen.history.rows] == [0, 1]
    assert len(screen.get_fignums()) == 1
    made.close()
    assert screen.get_fignums() == []


def test_without_a_mode_nothing_is_kept() -> None:
    assert not played(None)._screen.history.rows
    with pytest.raises(ValueError, match="unknown render_mode 'loud'"):
        Screen(toy(), "loud")
