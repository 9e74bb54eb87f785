"""Read transcripts of other tools into a run folder, and say what can be said of them.

Takes Inspect logs (.eval), mini-swe-agent trajectories and OpenAI messages (.json, .jsonl). What needs ground
truth is undefined; logs that devnull itself wrote come back whole.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from devnull.agents.episode import Episode
from devnull.cli.runs.folder import open_run, write_text
from devnull.eval.display.escaping import clipped, visible
from devnull.eval.formats.chats import UNDEFINED, Assessment, assess, episode, episodes
from devnull.sandbox.errors import InputError


@dataclass(frozen=True)
class Args:
    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files to read."""
    out: Path | None = None
    """Run folder to write, for `devnull replay` and `devnull report`; by default none is written."""
    json: bool = False
    """Print the findings as JSON."""


def main(args: Args) -> int:
    if not args.files:
        raise InputError("no file: devnull import FILE...")
    found = [each for file in args.files for each in _read(file)]
    assessed = [assess(each) for each in found]
    if args.out is not None:
        digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in args.files}
        run = open_run(args.out, "import", {"files": digests}, 0)
        write_text(run.episodes_path, "".join(each.model_dump_json() + "\n" for each in found))
        run.write_json("assessment.json", [each.model_dump() for each in assessed])
    if args.json:
        print(json.dumps([each.model_dump() for each in assessed], indent=2))
    else:
        _show(assessed, args.out)
    return 0


def _read(file: Path) -> Iterator[Episode]:
    """Episodes of one file. Raises `InputError`."""
    if not file.exists():
        raise InputError(f"{file}: no such file")
    if file.suffix == ".eval" or _is_inspect_json(file):
        yield from _read_inspect(file)
        return
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 at byte {error.start}") from None
    yield from episodes(text, file.name)


def _is_inspect_json(file: Path) -> bool:
    """Inspect's JSON logs begin with their version and the evaluation's facts."""
    if file.suffix != ".json":
        return False
    with file.open("rb") as opened:
        head = opened.read(400)
    return b'"eval"' in head and b'"version"' in head


def _read_inspect(file: Path) -> Iterator[Episode]:
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError(f"{file}: Inspect logs want the package inspect-ai; pip install 'devnull[inspect]'")
    from devnull.eval.formats.inspect_logs import read_log

    try:
        samples = list(read_log(file))
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{file}: no readable Inspect log ({type(error).__name__}: {error})") from None
    for number, (model, kept, chat) in enumerate(samples):
        yield kept if kept is not None else episode(chat, f"{file.stem}#{number + 1}", model, number)


def _show(assessed: list[Assessment], out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for each in assessed:
        console.print(Text(f"{visible(each.task)} ({visible(each.agent)})", style="bold"))
        claim = {True: "claims success", False: "admits failure", None: "claims nothing that can be told"}
        console.print(
            Text(
                f"  {each.commands} commands, {each.syntactic_commands} with a possible hiding construct, "
                f"{each.failing_commands} failed; the final message {claim[each.claims_success]}"
                + ("; THE CLAIM IS FALSE: the last command failed" if each.false_success_claim else "")
            )
        )
        for finding in each.findings:
            reasons = [f"may hide by {visible(text)}" for text in finding.constructs]
            reasons += [f"exit {finding.exit_code}"] if finding.exit_code not in (0, None) else []
            reasons += [f"shows {visible(line)}" for line in finding.shown_failures[:2]]
            said = clipped(visible(finding.command), 160).replace("\n", "⏎")
            console.print(Text(f"    $ {said}\n      {'; '.join(reasons)}", style="dim"))
    undefined = sum(bool(each.undefined) for each in assessed)
    if undefined:
        words = f"undefined without ground truth, in {undefined} of {len(assessed)}: {', '.join(UNDEFINED)}"
        console.print(Text(words, style="dim"))
    if out is not None:
        console.print(Text(f"written to {out}: devnull replay {out}, devnull report {out}"))
