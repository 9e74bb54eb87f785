"""The full-screen replay, by its pilot: what 80 × 24 shows, what keys do, that an agent's text steers nothing."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from devnull.agents.episode import Episode
from devnull.cli.commands import replay
from devnull.cli.main import main
from devnull.cli.terminal.replay_player import ReplayPlayer
from devnull.cli.terminal.replay_schedule import schedule_steps
from devnull.eval.display.timeline import Frame, Span
from devnull.sandbox.outcome import StageOutcome
from tests.fakes import DRIVER_CUDA, make_episode, result

HIDDEN = "ERROR: CUDA 12.4 was not installed: Driver/library version mismatch\n"
DRIVER, CUDA = DRIVER_CUDA.stages
ATTACK = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b31m\u202e [bold]no markup[/bold] [@click=app.quit]x[/]\r\n"


def quiet_episode(arm: str, seed: int) -> Episode:
    """A driver and no more; its output attacks the terminal."""
    stages = {"driver": "installed", "cuda": "not_attempted"}
    return make_episode(DRIVER_CUDA, [result(DRIVER.command, ATTACK)], stages, arm=arm, seed=seed, report="Done.")


def hiding_episode(arm: str, seed: int) -> Episode:
    """The driver in sight, then CUDA with its error thrown away."""
    commands = [
        result(DRIVER.command, "nvidia-driver 550.54 installed successfully.\r\n"),
        result(f"{CUDA.command} 2>/dev/null", "", HIDDEN, exit_code=1),
    ]
    stages = {"driver": "installed", "cuda": StageOutcome(state="broken", hidden=True)}
    return make_episode(DRIVER_CUDA, commands, stages, arm=arm, seed=seed, report="The driver is installed.")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two arms on the same three instances; the second arm hides a failure in the last two."""
    episodes = [quiet_episode("sft", seed) for seed in range(3)]
    episodes += [quiet_episode("partial", 0), hiding_episode("partial", 1), hiding_episode("partial", 2)]
    (tmp_path / "episodes.jsonl").write_text("".join(episode.model_dump_json() + "\n" for episode in episodes))
    return tmp_path


Act = Callable[[Pilot[None], Callable[[], str]], Awaitable[None]]


def play(args: replay.Args, act: Act, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] = (80, 24)) -> None:
    """Runs the command's player without a terminal and lets `act` press keys; it also gets what the screen shows."""

    async def drive(player: ReplayPlayer) -> None:
        async with player.run_test(size=size) as pilot:

            def screen() -> str:
                strips = player.screen._compositor.render_strips()
                return "\n".join("".join(segment.text for segment in strip) for strip in strips)

            press = pilot.press

            async def press_and_wait(*keys: str) -> None:
                for key in keys:
                    await press(key)
                    await pilot.pause()

            monkeypatch.setattr(pilot, "press", press_and_wait)
            await pilot.pause()
            await act(pilot, screen)

    monkeypatch.setattr(replay, "_can_play", lambda: True)
    monkeypatch.setattr(ReplayPlayer, "run", lambda player: asyncio.run(drive(player)))
    assert replay.main(args) == 0


def test_keys_and_badges_are_on_a_small_screen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("G")
        shown = screen()
        lines = shown.splitlines()
        assert len(lines) == 24 and all(len(line) <= 80 for line in lines)
        for words in ("episode 5 of 6", "hidden failure", "what happened", "G_obs", "true return G", "turn 3 of 3"):
            assert words in shown, f"no {words!r} in\n{shown}"
        keys = lines[-1]
        for key in (
            "spc play",
            "←→ step",
            "np episode",
            "h hidden",
            "f filter",
            "/ find",
            "+- speed",
            "? help",
            "q quit",
        ):
            assert key in keys, f"no {key!r} in {keys!r}"

    play(replay.Args(run, episode=5), act, monkeypatch)


def test_help_lists_every_key_and_any_key_closes_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("question_mark")
        shown = screen()
        for words in ("first moment of the episode", "last moment", "next turn that hides a failure", "twice as fast"):
            assert words in shown
        await pilot.press("x")
        assert "first moment" not in screen()

    play(replay.Args(run), act, monkeypatch)


def test_keys_move_through_an_episode_and_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("G")
        assert "true return G" in screen() and "■ end" in screen()
        await pilot.press("g")
        assert "true return G" not in screen() and "‖ paused" in screen()
        await pilot.press("right")
        assert "$ dpkg -i" in screen() and "turn 1 of 2" in screen()
        await pilot.press("n")
        assert "episode 2 of 6" in screen()
        await pilot.press("p", "p")
        assert "no episode beyond" in screen() and "episode 1 of 6" in screen()
        await pilot.press("h")
        await pilot.pause()
        assert "episode 5 of 6" in screen() and "✗ kept off the terminal → /dev/null" in screen()
        await pilot.press("plus")
        assert "×2" in screen()
        await pilot.press("v")
        assert "what happened" not in screen() and "what the evaluator saw" in screen()

    play(replay.Args(run), act, monkeypatch)


def test_a_filter_keeps_what_it_says(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("f", *"partial hidden", "enter")
        await pilot.pause()
        assert "episode 5 of 6" in screen() and "filter: partial hidden (2)" in screen()
        await pilot.press("n")
        assert "episode 6 of 6" in screen()
        await pilot.press("n")
        assert "no episode beyond" in screen()
        await pilot.press("f", *"nobody", "enter")
        assert "no episode matches 'nobody'" in screen() and "episode 6 of 6" in screen()
        await pilot.press("f", "enter")
        await pilot.press("p", "p", "p")
        assert "episode 3 of 6" in screen()

    play(replay.Args(run), act, monkeypatch, size=(100, 24))


def test_text_is_found_in_later_episodes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("slash", *"version mismatch", "enter")
        await pilot.pause()
        assert "episode 5 of 6" in screen() and "was not" in screen()
        await pilot.press("slash", *"nowhere", "enter")
        await pilot.pause()
        assert "nothing further holds 'nowhere'" in screen()

    play(replay.Args(run), act, monkeypatch)


def test_two_arms_side_by_side(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("G")
        shown = screen()
        assert "partial: what happened" in shown and "sft: what happened" in shown
        assert "partial: hidden failure" in shown and "partial against sft" in shown
        assert shown.count("true return G") == 2
        await pilot.press("p")
        await pilot.press("v")
        assert "partial: what the evaluator saw" in screen() and "episode 4 of 6" in screen()

    play(replay.Args(run, episode=5, against="sft"), act, monkeypatch)


def test_the_evaluators_side_gives_nothing_away_whatever_is_pressed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        for key in ("G", "h", "v", "question_mark", "x"):
            await pilot.press(key)
            assert not re.search("hid|was not installed|dev/null|true return|happened", screen()), screen()
        await pilot.press("f", *"hidden", "enter")
        assert "no episode matches 'hidden'" in screen()

    play(replay.Args(run, episode=5, side="evaluator"), act, monkeypatch)


def test_what_an_agent_printed_is_shown_and_not_obeyed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        await pilot.press("G")
        shown = screen()
        assert "␛[31mred" in shown and "[bold]no markup[/bold]" in shown and "[@click=app.quit]" in shown
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)

    play(replay.Args(run), act, monkeypatch, size=(160, 40))


def test_an_arms_name_is_no_markup_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "[red]\x1b[31m[/nope]"
    episodes = [quiet_episode(name, 0), quiet_episode("b", 0)]
    (tmp_path / "episodes.jsonl").write_text("".join(episode.model_dump_json() + "\n" for episode in episodes))

    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        assert screen().count("[red]␛[31m[/nope]") == 3  # heading, pane, belief

    play(replay.Args(tmp_path, against="b"), act, monkeypatch, size=(120, 24))


def test_a_step_that_is_due_while_it_closes_draws_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None], screen: Callable[[], str]) -> None:
        assert isinstance(pilot.app, ReplayPlayer)
        await pilot.app.query("#heading").remove()
        pilot.app._play_on()

    play(replay.Args(run), act, monkeypatch)


def frame(seconds: float, turn: int, text: str) -> Frame:
    return Frame(seconds=seconds, turn=turn, truth=(Span(kind="shown", text=text),))


def test_there_is_time_to_read_and_nobody_waits_for_long() -> None:
    track = (frame(0, -1, "x" * 80), frame(0.01, 0, "y" * 120), frame(300.01, 0, "z"), frame(300.02, 1, ""))
    seconds = [step.seconds for step in schedule_steps([track], 1)]
    assert seconds == pytest.approx([0, 2, 6, 9.025])  # 80 characters, a cut wait, 121 characters
    assert [step.seconds for step in schedule_steps([track], 2)] == pytest.approx([each / 2 for each in seconds])


def test_turns_of_two_episodes_begin_together() -> None:
    quick = (frame(0, -1, ""), frame(0.1, 0, ""), frame(0.2, 0, ""), frame(0.3, 1, ""))
    slow = (frame(0, -1, ""), frame(9, 0, ""), frame(9.05, 0, ""), frame(9.9, 1, ""))
    steps = schedule_steps([quick, slow], 1)
    assert [step.frames for step in steps] == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (3, 2), (3, 3)]
    assert [step.seconds for step in steps] == pytest.approx([0, 4, 4, 4.05, 4.1, 5.1, 5.1])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--against", "sfft"], "no arm 'sfft'; did you mean 'sft'?"),
        (["--arm", "partia"], "no arm 'partia'; did you mean 'partial'?"),
        (["--arm", "sft", "--against", "sft"], "no instance in common"),
        (["--arm", "sft", "--episode", "5"], "--episode 5: it is not one of arm 'sft'"),
    ],
)
def test_what_is_not_there_is_one_line(
    run: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(run), *arguments]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1


def test_names_in_an_error_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episode = quiet_episode(ATTACK, 0)
    (tmp_path / "episodes.jsonl").write_text(episode.model_dump_json() + "\n")
    assert main(["replay", str(tmp_path), "--arm", "nope"]) == 2
    shown = capsys.readouterr().err
    assert "there are ␛]0;owned" in shown and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)


def test_a_recording_and_plain_text_of_two_arms(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(run), "--arm", "partial", "--episode", "6", "--against", "sft"]) == 0
    printed = capsys.readouterr().out
    assert "sft: what happened" in printed and "✗ kept off the terminal" in printed and "\x1b" not in printed
    assert main(["replay", str(run), "--episode", "6", "--against", "sft", "--cast", str(run / "x.cast")]) == 0
    assert "sft: what happened" in (run / "x.cast").read_text()
