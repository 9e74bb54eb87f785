"""The commands that the pages show: listed, run in order as a reader would, and held against what stands below them.

A block ```sh is one shell script; in a block ```console each `$ ` begins a command, and what it prints follows, where a
line `...` stands for lines that are left out. A comment above a block says what is special about it:

    <!-- needs: gpu: 24 GB -->                    not run, and why: gpu, network, key, long, program
    <!-- small: --episodes 500 = --episodes 8; hf:M = honest -->    other words when it is tried
    <!-- status: 1 -->                            how its commands end, if not with 0
    <!-- one command -->                          later lines with `$ ` are what the first one prints

and anywhere on a page `<!-- after: PAGE -->` names one that must be played before it. Pages are played in the order of
the site's navigation, all in one folder.

    docs_commands.py            lists every command, and why some are not run
    docs_commands.py --write    plays all pages, writes what was printed below the commands (not where `...` stands)
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NEEDS = ("gpu", "network", "key", "long", "program")
_PROGRAMS = ("devnull ", "printf ")
"""What a command of a ```console block begins with: a line that something printed must never be run."""
_GENERATED = ("commands.md", "glossary.md", "claims.md")
_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_COMPARED = re.compile(r"^(rollouts: \d+ of \d|training: |no Docker daemon answers)")
_VARYING = (
    (re.compile(r"\b\d+(\.\d+)? s\b"), "0 s"),
    (re.compile(r"\b\d+\.\d/s"), "0/s"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(T[\d:]+Z)?"), "0000-00-00"),
)


@dataclass(frozen=True)
class Command:
    """One command of a page, with what the page says it prints (`None`: it does not say)."""

    script: str
    shown: str | None = None


@dataclass(frozen=True)
class Block:
    """A fenced block of commands. `needs`: why it is not run, empty where it is; `status`: how each command ends."""

    page: Path
    line: int
    commands: tuple[Command, ...]
    needs: str = ""
    status: int = 0

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md, then the site's pages in the order of its navigation; those that are generated apart."""
    names = _leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    return [ROOT / "README.md", *(ROOT / "docs" / name for name in names if name not in _GENERATED)]


def _leaves(nav: object) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from _leaves(entry)
        case dict():
            for entry in nav.values():
                yield from _leaves(entry)


def read_blocks(page: Path) -> list[Block]:
    """The blocks of commands on a page. Raises `ValueError` for a comment that is none of those above."""
    text = page.read_text()
    return [_read_block(page, text, match) for match in _BLOCK.finditer(text)]


def _read_block(page: Path, text: str, match: re.Match[str]) -> Block:
    comments, kind, body = match.groups()
    alone = "<!-- one command -->\n" in comments
    commands = tuple(_commands(kind, body, alone))
    block = Block(page, text.count("\n", 0, match.start(2)) + 1, commands)
    if bad := [each.script for each in commands if kind == "console" and not each.script.startswith(_PROGRAMS)]:
        raise ValueError(f"{block.place}: {bad[0]!r} begins with none of {', '.join(_PROGRAMS)}")
    for comment in comments.splitlines():
        key, _, value = comment.removeprefix("<!-- ").removesuffix(" -->").partition(": ")
        match key:
            case "needs" if re.match(rf"({'|'.join(NEEDS)}): \w", value):
                block = replace(block, needs=value)
            case "small":
                block = replace(block, commands=tuple(_smaller(each, value, block.place) for each in block.commands))
                if block.commands == commands:
                    raise ValueError(f"{block.place}: nothing to put in the place of: {value}")
            case "one command" if kind == "console":
                pass
            case "status":
                block = replace(block, status=int(value))
            case _:
                raise ValueError(f"{block.place}: {comment}: needs: REASON: WHY, small: A = B; C = D, or status: N")
    return block


def _commands(kind: str, body: str, alone: bool) -> Iterator[Command]:
    if kind == "sh":
        yield Command(body)
        return
    for part in re.split(r"^\$ ", body, maxsplit=alone, flags=re.MULTILINE)[1:]:
        typed = re.match(r"(?:.*\\\n)*.*\n", part)
        assert typed is not None
        yield Command(typed[0], part[typed.end() :])


def _smaller(command: Command, pairs: str, place: str) -> Command:
    script = command.script
    for pair in pairs.split("; "):
        there, found, instead = pair.partition(" = ")
        if not found:
            raise ValueError(f"{place}: {pair!r} is not A = B")
        script = script.replace(there, instead)
    return replace(command, script=script)


class Workplace:
    """A folder in which pages are played one after the other: a checkout's examples, `runs/demo`, and `devnull`."""

    def __init__(self, folder: Path) -> None:
        from scripts.stored_run import write_stored_run

        self.folder = folder
        self._played: set[Path] = set()
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "devnull"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m devnull "$@"\n')
        program.chmod(0o755)
        (folder / "examples").symlink_to(ROOT / "examples")
        shutil.copytree(ROOT / "claims", folder / "claims", ignore=shutil.ignore_patterns(".lock"))
        write_stored_run(folder / "runs" / "demo", instances=6)

    def play(self, page: Path) -> Iterator[tuple[Block, Command, int, str]]:
        """Plays the pages that come before one, then its own blocks: each command, its status, what it printed."""
        if page in self._played:
            return
        self._played.add(page)
        for name in re.findall(r"^<!-- after: (\S+) -->$", page.read_text(), re.MULTILINE):
            yield from self.play((page.parent / name).resolve())
        for block in read_blocks(page):
            for command in () if block.needs else block.commands:
                yield block, command, *self.run(command.script)

    def run(self, script: str) -> tuple[int, str]:
        """Runs a script in bash and returns its status, and what it printed on stdout and stderr."""
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "DOCKER_HOST": f"unix://{self.folder}/none.sock",  # so boxes are rootless everywhere
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return done.returncode, printed(done.stdout)


def printed(text: str) -> str:
    """What a page shows of an output: no progress, no blanks at the ends of lines, none of the last blank lines."""
    lines = [line.rstrip() for line in text.splitlines() if not _NOT_COMPARED.match(line)]
    return "".join(f"{line}\n" for line in lines).rstrip("\n") + "\n" if any(lines) else ""


def is_shown(shown: str, output: str) -> bool:
    """Whether a page's text is what was printed, but for seconds and dates; `...` stands for any lines."""
    shown, output = (_without_times(text) for text in (shown, output))
    pieces = [re.escape(piece) for piece in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?".join(pieces), output) is not None


def _without_times(text: str) -> str:
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text


def list_commands() -> str:
    """A line for each block: where it stands, whether it is run, its commands."""
    lines = []
    for page in pages():
        for block in read_blocks(page):
            lines.append(f"{block.place}  {f'not run, {block.needs}' if block.needs else 'run'}")
            lines += [f"    {line}" for command in block.commands for line in command.script.rstrip().splitlines()]
    return "\n".join(lines)


def write_outputs() -> int:
    """Writes below each command what it prints now. Returns how many blocks with `...` must be mended by hand."""
    by_hand = 0
    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder) / "work")
        for page in pages():
            for block, command, status, output in workplace.play(page):
                if status != block.status:
                    print(f"{block.place}: status {status}\n{command.script}{output}", file=sys.stderr)
                    by_hand += 1
                elif command.shown is None or is_shown(command.shown, output):
                    continue
                elif "...\n" in command.shown:
                    print(f"{block.place} leaves lines out; it printed:\n{output}", file=sys.stderr)
                    by_hand += 1
                else:
                    text = block.page.read_text()
                    block.page.write_text(text.replace(f"{command.script}{command.shown}", command.script + output, 1))
                    print(f"wrote {block.place}")
    return by_hand


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    if "--write" in sys.argv:
        sys.exit(write_outputs())
    print(list_commands())
