"""PPO on markets: it learns what can be learned, and stopping anywhere changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict

import torchgym as tg
from torchgym.engine import read_content, write_content
from torchgym.lab.performance import evaluate
from torchgym.sim import actions
from torchgym.training import PPOSettings, Run, load_agent, read_checkpoint, resume, start
from torchgym.training.parallel import ALONE
from torchgym.training.ppo import Agent, _Moments
from torchgym.visual import plots
from torchgym.visual.report.figures import learning_figure

pytestmark = pytest.mark.kept

BOXES = [name for name, row in actions.ACTIONS.items() if isinstance(row.space, actions.Box)]
CONFIG = tg.preset("toy", max_ticks=30, ticks_per_action=3, scaling="relative")
SETTINGS = PPOSettings(total_frames=4 * 4 * 7, num_envs=4, rollout=7, epochs=2, minibatches=2, hidden=(8,))


def begun(**changes: object) -> Run:
    return start(CONFIG, SETTINGS, **{"validation_episodes": 4, **changes})  # type: ignore[arg-type]


def weights(run: Run) -> list[float]:
    return torch.cat([parameter.flatten() for parameter in run.trainer.agent.parameters()]).tolist()


def told(run: Run) -> list[dict[str, float]]:
    """The curve without the clock."""
    clock = ("seconds", "decisions_per_second")
    return [{name: value for name, value in row.items() if name not in clock} for row in run.curve]


@pytest.fixture(scope="module")
def whole() -> Run:
    run = begun()
    assert run.advance()
    return run


@pytest.mark.parametrize("updates", [1, 3])
def test_a_run_that_was_stopped_ends_in_the_same_bits(whole: Run, updates: int, tmp_path: Path) -> None:
    first = begun()
    assert not first.advance(updates)
    first.save(tmp_path)
    torch.manual_seed(99)  # what others draw must not matter
    torch.rand(3)
    second = resume(tmp_path)
    assert second.advance()
    assert weights(second) == weights(whole)
    assert told(second) == told(whole)


def test_the_seed_decides(whole: Run) -> None:
    again, other = begun(), begun(seed=1_000)
    again.advance()
    other.advance()
    assert weights(again) == weights(whole)
    assert weights(other) != weights(whole)


def test_an_update_is_told_in_figures() -> None:
    """Of one step on all decisions, with the networks that made them; then of many large steps."""
    run = start(CONFIG, replace(SETTINGS, epochs=1, minibatches=1), validations=0)
    ppo = run.trainer.ppo
    data = run.trainer._play()
    shown = data["observation"].flatten(0, 1), data["account"].flatten(0, 1)
    with torch.no_grad():
        logits = ppo.agent._logits(*shown)
        scored = ppo._advantage(data.clone())
    played = ppo.learn(data, done=0.0)
    assert played["entropy"] == pytest.approx(
        torch.distributions.Categorical(logits=logits).entropy().mean().item(), rel=1e-5
    )
    assert (abs(played["kl_approx"]) < 1e-6, played["clip_fraction"]) == (True, 0.0)
    assert list(played) == ["loss", "entropy", "kl_approx", "clip_fraction", "explained_variance"]
    assert scored["value_target"].var() > 0.0 and played["explained_variance"] < 1.0
    moved = start(CONFIG, replace(SETTINGS, learning_rate=0.1, epochs=8), validations=0)
    moved.advance(1)
    row = moved.curve[0]
    assert row["kl_approx"] > 0.01 and 0.1 < row["clip_fraction"] <= 1.0 and 0.0 < row["entropy"] < played["entropy"]
    assert row["decisions_per_second"] > 0.0


def test_decisions_are_those_of_whole_updates() -> None:
    assert (SETTINGS.frames, replace(SETTINGS, total_frames=111).frames, replace(SETTINGS, total_frames=5).frames) == (
        112,
        84,
        28,
    )


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    run = begun()
    run.advance(1)
    drawn = torch.rand(4)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(4))


def test_stop_is_asked_after_each_update() -> None:
    run = begun()
    answers = iter([False, True])
    assert not run.advance(stop=lambda: next(answers))
    assert run.trainer.update == 2


def test_a_tried_agent_is_not_changed(whole: Run) -> None:
    never = start(CONFIG, SETTINGS, validations=0)
    never.advance()
    assert weights(never) == weights(whole)
    assert [row for row in never.curve if "validation_return" in row] == []
    assert "validation_profit" in whole.curve[-1]
    assert whole.curve[-1]["validation_error"] > 0.0


def test_held_out_rewards_have_an_interval_where_there_are_several(whole: Run) -> None:
    """1.96 standard errors to either side, in the picture and on the page."""
    tried = [row for row in whole.curve if "validation_return" in row]
    (band,) = plots.learning_curve(whole.curve).axes[0].collections
    wanted = [tried[-1]["validation_return"] + sign * 1.96 * tried[-1]["validation_error"] for sign in (-1, 1)]
    ends = [y for x, y in band.get_paths()[0].vertices if x == tried[-1]["frames"]]
    assert (min(ends), max(ends)) == pytest.approx(tuple(wanted))
    page = learning_figure(whole.curve)
    bars = page.figure.data[1].error_y.array
    assert list(bars) == pytest.approx([1.96 * row["validation_error"] for row in tried])
    single = start(CONFIG, SETTINGS, validations=1, validation_episodes=1)
    single.advance()
    assert "validation_return" in single.curve[-1] and "validation_error" not in single.curve[-1]
    assert not plots.learning_curve(single.curve).axes[0].collections
    assert "95 %" in page.caption and "95 %" not in learning_figure(single.curve).caption


def test_a_checkpoint_holds_the_agent_its_settings_and_the_version(whole: Run, tmp_path: Path) -> None:
    path = whole.save(tmp_path)
    saved = read_checkpoint(path)
    assert saved["torchgym"] == tg.__version__
    agent = load_agent(tmp_path)
    assert (agent.config, agent.settings) == (CONFIG, SETTINGS)
    seen = tg.Market(CONFIG, 5, seed=3).reset()
    assert torch.equal(agent.policy(seen), whole.trainer.agent.policy(seen))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_numbers_of_numpy_and_folders_of_text_will_do(tmp_path: Path) -> None:
    run = begun(seed=np.int64(0), validations=np.int64(1))
    run.advance(1)
    run.save(str(tmp_path))
    assert weights(resume(str(tmp_path))) == weights(run)
    assert load_agent(str(tmp_path)).settings == SETTINGS
    for changes, message in (
        ({"seed": True}, "seed must be from 0 to 9999996, got True"),
        ({"validations": 1.5}, "validations must be an integer >= 0, got 1.5"),
        ({"validation_episodes": 0}, "validation_episodes must be an integer >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            begun(**changes)
    with pytest.raises(ValueError, match=r"config must be of the class torchgym.config.MarketConfig, got 'toy'"):
        start("toy", SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"settings must be of the class .*PPOSettings"):
        start(CONFIG, {"num_envs": 4})  # type: ignore[arg-type]


def test_nothing_is_learnt_beyond_the_end(whole: Run) -> None:
    before = weights(whole)
    with pytest.raises(RuntimeError, match="the training is complete after 4 updates"):
        whole.trainer.step()
    with pytest.raises(ValueError, match=r"done must be a finite number in \[0.0, 1.0\], got 50"):
        whole.trainer.ppo.learn(TensorDict({}), done=50)
    assert weights(whole) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling": "raw"}, "differs in scaling = 'raw', not 'relative': let it play in its own"),
        ({"features": "full55"}, "differs in f_"),
        ({"num_symbols": 2}, "differs in num_symbols = 2, not 1"),
        ({"action": "sized"}, "differs in action = 'sized', not 'discrete'"),
    ],
)
def test_an_agent_plays_in_no_other_kind_of_market(whole: Run, changes: dict[str, Any], message: str) -> None:
    agent = whole.trainer.agent
    with pytest.raises(ValueError, match=message):
        evaluate(CONFIG.replace(**changes), {"agent": agent.make_policy}, episodes=2)
    with pytest.raises(ValueError, match=r"policies\['agent'\] .* got an agent: give its make_policy"):
        evaluate(CONFIG, {"agent": agent}, episodes=2)  # type: ignore[dict-item]
    evaluate(CONFIG.replace(order_size=3, information="privileged"), {"agent": agent.make_policy}, episodes=2)


def test_bad_checkpoints_are_refused(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: `torchgym train` makes one"):
        resume(tmp_path)
    path = whole.save(tmp_path)
    content = read_content(path)
    write_content(path, content | {"torchgym": "0.0.1"})
    with pytest.raises(ValueError, match=r"written by torchgym 0\.0\.1, this is .* train anew"):
        resume(tmp_path)
    write_content(path, {"something": 1})
    with pytest.raises(ValueError, match="not a checkpoint of an agent"):
        resume(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        load_agent(tmp_path)


def test_a_checkpoint_that_lacks_something_is_refused(whole: Run, tmp_path: Path) -> None:
    """Every entry, of the whole and of the trainer, left out or of another kind; and parts that do not fit the settings."""
    path = whole.save(tmp_path)
    content = read_content(path)
    spoilt = [{name: value for name, value in content.items() if name != left_out} for left_out in content]
    spoilt += [content | {name: None} for name in content]
    trainer = content["trainer"]
    spoilt += [
        content | {"trainer": {name: value for name, value in trainer.items() if name != left_out}}
        for left_out in trainer
    ]
    spoilt += [
        content | {"settings": content["settings"] | {"hidden": (3,)}},
        content | {"settings": content["settings"] | {"speed": 3}},
        content | {"settings": {}, "trainer": trainer | {"agent": {}}},
        content | {"config": content["config"] | {"num_symbols": 5}},
    ]
    for wrong in spoilt:
        write_content(path, wrong)
        for read in (resume, load_agent):
            with pytest.raises(ValueError, match=r"checkpoint\.pt"):
                read(tmp_path)
    write_content(path, content)
    assert resume(tmp_path).trainer.update == whole.trainer.update


def test_held_out_episodes_are_not_trained_on() -> None:
    assert begun(seed=10_000_000 - 4).trainer.seed == 9_999_996
    for seed in (10_000_000 - 3, -1):
        with pytest.raises(ValueError, match="seed must be from 0 to 9999996"):
            begun(seed=seed)


def test_an_agent_trades_every_symbol_by_itself() -> None:
    config = CONFIG.replace(num_symbols=2)
    run = start(config, SETTINGS, validation_episodes=3)
    run.advance(1)
    seen = tg.Market(config, 6, seed=0).reset()
    action = run.trainer.agent.policy(seen)
    assert action.shape == (6, 2)
    assert set(action.flatten().tolist()) <= {0, 1, 2}


def test_inputs_are_all_that_an_agent_sees() -> None:
    torch.manual_seed(0)
    agent = Agent(CONFIG, PPOSettings(inputs=("f_fair_value_dev",), hidden=(4,)))
    seen = tg.Market(CONFIG, 3, seed=0).reset()
    names = tg.Market(CONFIG, 1, seed=0).feature_names
    before = agent._logits(seen.observation.float(), seen.account.float())
    blind = seen.observation.clone()
    blind[:, [at for at, name in enumerate(names) if name != "f_fair_value_dev"]] += 1.0
    assert torch.equal(agent._logits(blind.float(), seen.account.float()), before)
    assert not torch.equal(agent._logits((seen.observation + 1.0).float(), seen.account.float()), before)
    with pytest.raises(ValueError, match=r"unknown input 'f_nothing': features='full54' shows f_mid_price"):
        Agent(CONFIG, PPOSettings(inputs=("f_nothing",)))


def test_an_agent_may_see_its_account_alone_and_part_of_it() -> None:
    agent = Agent(CONFIG, PPOSettings(inputs=("position", "time_left"), hidden=(4,)))
    seen = tg.Market(CONFIG, 3, seed=0).reset()
    shown, account = seen.observation.float(), seen.account.float()
    before = agent._logits(shown, account)
    assert torch.equal(agent._logits(shown + 1.0, account + torch.tensor([0.0, 1.0, 1.0, 0.0])), before)
    for entry in (0, 3):
        changed = account.clone()
        changed[:, entry] += 1.0
        assert not torch.equal(agent._logits(shown, changed), before)


@pytest.mark.parametrize("scheme", ["discrete", "weights", "participation"])
def test_a_shared_network_sees_each_symbol_by_itself(scheme: str) -> None:
    """Exchange two symbols, and what is decided about them is exchanged; change one, and the others' decisions stay."""
    config = CONFIG.replace(action=scheme, num_symbols=3)
    agent = Agent(config, PPOSettings(shared=True, hidden=(8,)))
    for parameter in agent.parameters():
        torch.nn.init.normal_(parameter)
    market = tg.Market(config, 4, seed=0).reset()
    shown, account = market.observation.float(), market.account.float() + torch.randn(4, 6)
    cash = int(scheme == "weights")

    def decided(order: list[int], change: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        features, entries = shown.unflatten(1, (3, -1))[:, order].clone(), account.clone()
        features[:, 0] += change
        entries[:, :3] = entries[:, order]
        outputs = agent._logits(features.flatten(1), entries)
        common, own = outputs[:, :cash], outputs[:, cash:]
        return common, own

    common, own = decided([0, 1, 2])
    exchanged_common, exchanged = decided([2, 1, 0])
    assert torch.allclose(exchanged, own.flip(1), atol=1e-5) and torch.allclose(exchanged_common, common, atol=1e-5)
    changed = decided([0, 1, 2], change=1.0)[1]
    assert torch.equal(changed[:, 1:], own[:, 1:]) and not torch.allclose(changed[:, 0], own[:, 0])
    mirrored = account.clone()
    mirrored[:, :3] = account[:, [2, 1, 0]]
    value = agent.critic.module(shown, account)
    same = agent.critic.module(shown.unflatten(1, (3, -1)).flip(1).flatten(1), mirrored)
    assert value.shape == (4, 1) and torch.allclose(value, same, atol=1e-5)
    assert not torch.allclose(agent.critic.module(shown + 1.0, account), value)


def test_an_entry_of_each_symbol_is_named_for_all_or_for_one() -> None:
    config = CONFIG.replace(num_symbols=3)

    def seen(**settings: object) -> list[int]:
        return Agent(config, PPOSettings(**settings))._logits.account.tolist()  # type: ignore[arg-type]

    assert seen(inputs=("position", "time_left")) == seen(inputs=("position", "time_left"), shared=True) == [0, 1, 2, 5]
    assert seen(inputs=("position@1",)) == [1]
    assert seen(inputs=("f_fair_value_dev",)) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"inputs = \('position@1',\) names entries of some symbols"):
        seen(inputs=("position@1",), shared=True)
    quoting = config.replace(action="quotes", quotes=1)
    with pytest.raises(ValueError, match="names entries of some symbols"):
        Agent(quoting, PPOSettings(shared=True, inputs=("position@0", "bid_1_size@1", "ask_1_size@2")))
    Agent(quoting, PPOSettings(shared=True, inputs=("position", "bid_1_size")))


def test_copies_play_the_same_episode_and_are_compared_with_their_mean() -> None:
    settings = replace(SETTINGS, num_envs=6, copies=3)
    run = start(CONFIG, settings, seed=5, validations=0)
    learner, told = run.trainer.ppo, []
    learner._advantage.register_forward_hook(lambda module, given, made: told.append(made["advantage"].clone()))
    data = run.trainer._play()
    first = data["observation"][:, 0]
    assert torch.equal(first[0:3], first[[0, 0, 0]]) and torch.equal(first[3:6], first[[3, 3, 3]])
    assert not torch.equal(first[0], first[3])
    assert run.trainer.env.market.state.clock.seed.tolist() == [5, 5, 5, 6, 6, 6]
    used = []
    learner._loss.register_forward_pre_hook(lambda module, given: used.append(given[0]["advantage"].clone()))
    learner.learn(data, done=0.0)
    plain = told[0]
    centred = (plain - plain.unflatten(0, (2, 3)).mean(1).repeat_interleave(3, 0)).flatten()
    assert plain.flatten().abs().max() > 0.0
    assert sorted(centred.tolist()) == pytest.approx(sorted(torch.cat(used[: settings.minibatches]).flatten().tolist()))


def test_inputs_are_normalised_by_what_was_seen_so_far() -> None:
    moments, drawn = _Moments(3), torch.Generator().manual_seed(0)
    first, second = (spread * torch.randn(50, 3, generator=drawn) + 5.0 for spread in (1.0, 30.0))
    for rows in (first, second):
        rows[:, 2] = 7.0  # says nothing
        moments.add(rows, ALONE)
    both = torch.cat([first, second])
    wanted = (both - both.mean(0))[:, :2] / both.std(0, unbiased=False)[:2]
    assert torch.allclose(moments(both)[:, :2], wanted, atol=1e-4)
    assert not moments(both)[:, 2].any()


def test_a_normalised_run_goes_on_in_its_bits(tmp_path: Path) -> None:
    settings = replace(SETTINGS, normalise=True, shared=True, copies=2)
    config = CONFIG.replace(action="weights", num_symbols=2)
    whole, part = (start(config, settings, validations=0) for _ in range(2))
    whole.advance()
    part.advance(1)
    part.save(tmp_path)
    again = resume(tmp_path)
    again.advance()
    states = [run.trainer.agent.state_dict() for run in (whole, again)]
    assert states[0]["moments.count"] == settings.frames
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_a_finished_episode_would_have_brought_counts_only_if_wanted() -> None:
    """With a value network that says 1 everywhere and no rewards, the last advantage is gamma - 1, or -1."""
    config = CONFIG.replace(max_ticks=5, ticks_per_action=5)
    for bootstrap, last in ((True, SETTINGS.gamma - 1.0), (False, -1.0)):
        run = start(config, replace(SETTINGS, bootstrap=bootstrap), validations=0)
        learner = run.trainer.ppo
        head = learner.agent.critic.module.body[-1]
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.ones_(head.bias)
        data = run.trainer._play()
        data["next", "reward"].zero_()
        assert bool(data["next", "truncated"].all()) and not bool(data["next", "terminated"].any())
        told = []
        learner._advantage.register_forward_hook(
            lambda module, given, made, told=told: told.append(made["advantage"].clone())
        )
        learner.learn(data, done=0.0)
        assert told[0].flatten().tolist() == pytest.approx([last] * told[0].numel())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout": 0}, "rollout must be an integer >= 1, got 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be a finite number in \[1e-12, 1.0\], got 0.0"),
        ({"entropy": -0.1}, r"entropy must be a finite number in \[0.0, 1000000.0\]"),
        ({"gamma": 1.5}, r"gamma must be a finite number in \[0.0, 1.0\], got 1.5"),
        ({"hidden": ()}, "hidden must have at least one entry, got none"),
        ({"hidden": 8}, "hidden must be a tuple, got 8"),
        ({"num_envs": 8, "copies": 3}, "copies = 3 does not divide num_envs = 8"),
        ({"critic": 0.0}, r"critic must be a finite number in \[1e-12, 1000000000000.0\], got 0.0"),
        ({"hidden": (0,)}, r"hidden\[0\] must be an integer >= 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOSettings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("validations", "tried"), [(0, []), (1, [4]), (2, [2, 4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])])
def test_the_agent_is_tried_as_often_as_asked(validations: int, tried: list[int]) -> None:
    run = start(CONFIG, SETTINGS, validations=validations, validation_episodes=2)
    run.advance()
    assert [at + 1 for at, row in enumerate(run.curve) if "validation_return" in row] == tried


def test_what_is_carried_on_is_no_more_than_it_holds() -> None:
    run = begun()
    run.advance(1)
    carried = run.trainer.state_dict()["carried"]["observation"]
    assert carried.untyped_storage().nbytes() == carried.numel() * carried.element_size()


def test_it_learns_to_let_go_of_what_costs() -> None:
    config = CONFIG.replace(max_ticks=20, ticks_per_action=2, reward="inventory", starting_shares=50)
    settings = PPOSettings(
        total_frames=64 * 10 * 5,
        num_envs=64,
        rollout=10,
        hidden=(16,),
        inputs=("f_fair_value_dev",),
        learning_rate=3e-3,
        normalise=False,  # in so few updates a scale that changes would cost more than it gives
    )
    run = start(config, settings, validations=0)
    run.advance()
    returns = [row["training_return"] for row in run.curve]
    assert returns[0] < -13.0  # near random
    assert returns[-1] > -7.0


def test_it_learns_to_let_go_by_a_number() -> None:
    config = CONFIG.replace(max_ticks=20, ticks_per_action=2, reward="inventory", starting_shares=50, action="position")
    settings = PPOSettings(total_frames=64 * 10 * 6, num_envs=64, rollout=10, hidden=(16,), learning_rate=1e-2)
    run = start(config, replace(settings, inputs=("f_fair_value_dev",)), validations=1)
    run.advance()
    returns = [row["training_return"] for row in run.curve]
    assert returns[-1] > 0.7 * returns[0]
    assert run.curve[-1]["validation_return"] > -1.0  # -10 for holding


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("name", BOXES)
def test_numbers_are_drawn_and_chosen_in_their_box(name: str, symbols: int) -> None:
    config = CONFIG.replace(action=name, num_symbols=symbols, quotes=1 if actions.ACTIONS[name].rests else 0)
    run = start(config, SETTINGS, validations=0)
    low, high = actions.space(config).bounds(symbols)
    width = run.trainer.agent.get_parameter("_numbers.log_width")
    with torch.no_grad():
        width.fill_(3.0)  # so wide that nearly every draw would miss the box
    data = run.trainer._play()
    assert data["action"].shape == (4, 7, len(low)) and data["action"].dtype == torch.float32
    assert bool(((data["action"] >= low) & (data["action"] <= high)).all() & data["action_log_prob"].isfinite().all())
    told = run.trainer.ppo.learn(data, done=0.0)
    assert told["entropy"] == pytest.approx((high - low).log().sum().item(), abs=0.01)  # about that of even chances
    agent = run.trainer.agent
    with torch.no_grad():
        agent._logits.body[-1].weight.mul_(1e6)  # at the ends
    action = agent.policy(tg.Market(config, 3, seed=0).reset())
    assert action.shape == (3, len(low)) and action.dtype == torch.float64
    assert bool(((action >= low) & (action <= high)).all()) and bool(((action == low) | (action == high)).any())


@pytest.mark.parametrize("first", [0.1, 0.5, 0.75])
def test_an_untrained_agents_numbers_lie_where_they_are_put(first: float) -> None:
    config = CONFIG.replace(quotes=1, action="depths")
    low, high = actions.space(config).bounds(1)
    numbers = Agent(config, PPOSettings(first_numbers=first)).policy(tg.Market(config, 8, seed=0).reset())
    torch.testing.assert_close(numbers, (low + first * (high - low)).expand(8, -1), atol=0.3, rtol=0.0)


def test_a_run_of_numbers_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    config = CONFIG.replace(action="signed_weights")
    whole = start(config, SETTINGS, validations=2, validation_episodes=2)
    assert whole.advance()
    first = start(config, SETTINGS, validations=2, validation_episodes=2)
    assert not first.advance(2)
    first.save(tmp_path)
    second = resume(tmp_path)
    assert second.advance()
    assert weights(second) == weights(whole)
    assert told(second) == told(whole)
    second.save(tmp_path)
    seen = tg.Market(config, 5, seed=3).reset()
    assert torch.equal(load_agent(tmp_path).policy(seen), whole.trainer.agent.policy(seen))


@pytest.mark.slow
def test_numbers_learn_to_earn_from_the_exact_value() -> None:
    """Without commission, where it earns most: scripted rules reach about fifty in these episodes."""
    free = {"information": "privileged", "commission_bps": 0.0, "borrow_ppb": 0}
    config = tg.preset("default", action="position", scaling="relative", max_ticks=1_000, ticks_per_action=5, **free)
    settings = PPOSettings(total_frames=64 * 50 * 100, num_envs=64, hidden=(32,), inputs=("f_fair_value_dev",))
    run = start(config, settings, compile=True, validations=1, validation_episodes=256)
    run.advance()
    assert run.curve[-1]["validation_profit"] > 15.0  # holding earns nothing, and random numbers lose


def test_the_learning_rate_falls_to_what_is_left() -> None:
    run = begun()
    rates = []
    for _ in range(SETTINGS.updates):
        run.advance(1)
        rates.append(run.trainer.ppo._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([SETTINGS.learning_rate * share for share in (1.0, 0.75, 0.5, 0.25)])
