"""How an agent is prompted: as flags say, else as its policy was trained, else as the run's episodes were played."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devnull.agents.episode import Episode
from devnull.agents.prompt_format import (
    AgentSees,
    PromptFormat,
    Tag,
    common_prompt_format,
    read_prompt_format,
)
from devnull.cli.terminal.progress import print_progress
from devnull.sandbox.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PromptFlags:
    """What a command line says of the prompt; what is `None` follows from the policy or the run."""

    system: str | None = None
    """What the system message says after the protocol ("You are watched."); @FILE: the text of a file. Unset: as the
    policy was trained."""
    agent_sees: AgentSees | None = None
    """What the agent sees of its commands: the terminal, the exit status too, or also what it kept off the terminal;
    its rater sees no more for it. Unset: as the policy was trained, else the terminal."""
    tag: Tag | None = None
    """The line before the instruction: "Rated good.", "Rated bad." or none. Unset: as the policy was trained; good
    after conditional training."""
    terminal_lines: int | None = None
    """Of what a command showed, the last so many lines reach the agent, and no more to be read by a model; 0: all.
    Raters see it all. Unset: as the policy was trained."""


def choose_prompt(flags: PromptFlags, policy: str | Path | None, episodes: Sequence[Episode] = ()) -> PromptFormat:
    """The prompt of an agent. Where flags differ from what the policy was trained with, a line says so.

    Args:
        policy: Folder or name of the model, if it is one.
        episodes: Those that are learnt from.

    Raises `InputError` for a file that cannot be read, and for episodes that were prompted in several ways.
    """
    trained = read_prompt_format(Path(policy)) if policy is not None else None
    asked = _asked(flags)
    if trained is not None:
        found = trained.model_copy(update=asked)
        if found != trained:
            print_progress(f"{policy} was trained with {trained.describe()}; here it gets {found.describe()}")
        return found
    if len(asked) == len(PromptFormat.model_fields):
        return PromptFormat(**asked)
    return common_prompt_format(each.prompt.model_copy(update=asked) for each in episodes).model_copy(update=asked)


def _asked(flags: PromptFlags) -> dict[str, Any]:
    """The flags that are set, by field of the format."""
    asked = {name: getattr(flags, name) for name in PromptFormat.model_fields if getattr(flags, name) is not None}
    if asked.get("terminal_lines", 0) < 0:
        raise InputError(f"--terminal-lines is {asked['terminal_lines']}; it must be at least 0 (all)")
    if (text := asked.get("system", "")).startswith("@"):
        try:
            asked["system"] = Path(text[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"--system {text}: the file cannot be read ({error}); @ comes before a file's name"
            ) from None
    return asked


def check_same_prompt(policy: str | Path, episodes: Sequence[Episode]) -> PromptFormat:
    """The prompt that feedback was given under, for trainers that learn from conversations as they were written down;
    a line says where the policy to start from was trained with another.

    Raises `InputError` for episodes that were prompted in several ways.
    """
    written = common_prompt_format(episode.prompt for episode in episodes)
    trained = read_prompt_format(Path(policy))
    if trained is not None and trained != written:
        print_progress(
            f"{policy} was trained with {trained.describe()}; the episodes to learn from had {written.describe()}, "
            f"which it gets from now on"
        )
    return written


def check_rater_sees(prompt: PromptFormat) -> None:
    """Raises `InputError` where a reward model would read more of the conversation than the raters it stands for."""
    if prompt.agent_sees != "terminal":
        raise InputError(
            f"a reward model reads the conversation as the agent had it, and this one (agent_sees={prompt.agent_sees}) "
            f"holds more than its raters see; let the evaluator itself give the reward (--reward believed), or let the "
            f"agent see the terminal"
        )
