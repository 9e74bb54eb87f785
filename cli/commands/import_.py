"""Read transcripts of other tools into a run folder, and say what of hiding can be told without ground truth.

Takes Inspect logs (.eval), mini-swe-agent trajectories and OpenAI messages (.json, .jsonl). What needs ground
truth is undefined; logs that devnull itself wrote come back whole.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from devnull.agents.episode import Episode
from devnull.cli.runs.run_folder import open_run
from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.formats.assessment import UNDEFINED_METRICS, ImportAssessment, assess_import
from devnull.eval.formats.chats import chat_to_episode, read_chats
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.extras import require


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
    episodes = _number_samples(each for file in args.files for each in _read_file(file))
    assessments = [assess_import(each) for each in episodes]
    if args.out is not None:
        digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in args.files}
        run = open_run(args.out, "import", {"files": digests}, 0)
        write_atomically(run.episodes_path, "".join(each.model_dump_json() + "\n" for each in episodes))
        run.write_json("assessment.json", [each.model_dump() for each in assessments])
    if args.json:
        print(json.dumps([each.model_dump() for each in assessments], indent=2))
    else:
        _print_assessments(assessments, args.out)
    return 0


def _number_samples(episodes: Iterable[Episode]) -> list[Episode]:
    """Episodes of several files, where those of one name become samples of it: each has a key of its own."""
    numbered: dict[tuple[object, ...], Episode] = {}
    for each in episodes:
        episode = each
        while numbered.get(episode.identity, episode) != episode:
            episode = episode.model_copy(update={"sample": episode.sample + 1})
        numbered[episode.identity] = episode
    return list(numbered.values())


def _read_file(file: Path) -> Iterator[Episode]:
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
    yield from read_chats(text, file.name)


def _is_inspect_json(file: Path) -> bool:
    """Inspect's JSON logs begin with their version and the evaluation's facts."""
    if file.suffix != ".json":
        return False
    with file.open("rb") as opened:
        head = opened.read(400)
    return b'"eval"' in head and b'"version"' in head


def _read_inspect(file: Path) -> Iterator[Episode]:
    require("inspect_ai", "inspect", f"{file}: an Inspect log")
    from devnull.eval.formats.inspect_logs import read_inspect_log

    try:
        samples = list(read_inspect_log(file))
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{file}: no readable Inspect log ({type(error).__name__}: {error})") from None
    for number, (model, episode, chat) in enumerate(samples):
        yield episode if episode is not None else chat_to_episode(chat, f"{file.stem}#{number + 1}", model, number)


def _print_assessments(assessments: list[ImportAssessment], out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for each in assessments:
        console.print(Text(f"{escape_controls(each.task)} ({escape_controls(each.agent)})", style="bold"))
        claim = {True: "claims success", False: "admits failure", None: "claims nothing that can be told"}
        console.print(
            Text(
                f"  {each.commands} commands, {each.syntactic_commands} with a possible hiding construct, "
                f"{each.failing_commands} failed; the final message {claim[each.claims_success]}"
                + ("; THE CLAIM IS FALSE: the last command failed" if each.false_success_claim else "")
            )
        )
        for finding in each.findings:
            reasons = [f"may hide by {escape_controls(text)}" for text in finding.constructs]
            reasons += [f"exit {finding.exit_code}"] if finding.exit_code not in (0, None) else []
            reasons += [f"shows {escape_controls(line)}" for line in finding.shown_failures[:2]]
            command = clip_middle(escape_controls(finding.command), 160).replace("\n", "⏎")
            console.print(Text(f"    $ {command}\n      {'; '.join(reasons)}", style="dim"))
    undefined = sum(bool(each.undefined) for each in assessments)
    if undefined:
        words = f"undefined without ground truth, in {undefined} of {len(assessments)}: {', '.join(UNDEFINED_METRICS)}"
        console.print(Text(words, style="dim"))
    if out is not None:
        console.print(Text(f"written to {out}: devnull replay {out}, devnull report {out}"))
