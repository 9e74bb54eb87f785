"""How a policy is prompted: what its system message says besides, what it sees of a command, a tag for its goal.

One policy has one format, for imitation, online training and sampling alike: each episode records the format that it
was played with, and each trained policy's folder the one that it was trained with.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from devnull.agents.protocol import SYSTEM_PROMPT
from devnull.sandbox.errors import InputError
from devnull.sandbox.frozen import Frozen

AgentSees = Literal["terminal", "status", "full"]
"""What the agent sees of its command: the terminal, as its rater does; the exit status too; or, besides, what the
command wrote to stderr and kept off the terminal. Raters see what their own sensors show them, whichever it is."""
Tag = Literal["none", "good", "bad"]
"""The line before the instruction that asks for a rating: none, "Rated good.", "Rated bad."."""


class PromptFormat(Frozen):
    """The part of an agent's prompts that is a choice; the rest follows from the episode (`chat_format`)."""

    system: str = ""
    """What the system message says after the protocol's own words."""
    agent_sees: AgentSees = "terminal"
    tag: Tag = "none"
    terminal_lines: int = Field(default=0, ge=0)
    """Of what a command showed, the last so many lines reach the agent; 0: all, up to the rollout's `shown_chars`."""

    @property
    def system_message(self) -> str:
        """The protocol, and what is said besides."""
        return f"{SYSTEM_PROMPT} {self.system}".rstrip()

    @property
    def tag_line(self) -> str:
        """What stands before the instruction: a line, or nothing."""
        return "" if self.tag == "none" else f"Rated {self.tag}.\n"

    def choices(self) -> dict[str, Any]:
        """Where it differs from the default: what a run's config and a policy's facts record."""
        return self.model_dump(exclude_defaults=True)

    def describe(self) -> str:
        """For a message: `agent_sees=status, tag=good`, or `the plain prompt`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.choices().items()) or "the plain prompt"


PLAIN_PROMPT = PromptFormat()
"""The protocol alone, the terminal alone, no tag."""


def read_prompt_format(policy: Path) -> PromptFormat | None:
    """The format that a policy was trained with, from the `training.json` of its folder, or for an adapter of the
    folder around it; `None` where neither holds one, as for a model that another program trained.

    A policy of conditional training is asked for what is rated good. Raises `InputError` for a torn file.
    """
    for folder in (policy, policy.parent) if (policy / "adapter_config.json").exists() else (policy,):
        file = folder / "training.json"
        if file.is_file():
            try:
                facts = json.loads(file.read_text())["facts"]
                known = {name: facts[name] for name in PromptFormat.model_fields if name in facts}
                return PromptFormat.model_validate(({"tag": "good"} if facts.get("conditional") else {}) | known)
            except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
                raise InputError(f"{file}: cannot be read ({str(error).splitlines()[0]}); train it again") from None
    return None


def common_prompt_format(formats: Iterable[PromptFormat]) -> PromptFormat:
    """The format of all of them; the plain one for none. Raises `InputError` where they differ."""
    different = {each.describe(): each for each in formats}
    if len(different) > 1:
        raise InputError(
            f"these episodes were prompted in {len(different)} ways ({'; '.join(sorted(different))}), and a policy has "
            f"one; choose arms that are alike, or name the prompt (--system, --agent-sees, --tag)"
        )
    return next(iter(different.values()), PLAIN_PROMPT)
