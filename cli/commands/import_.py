"""Read transcripts of other tools into a run folder, and say what of hiding can be told without ground truth.

Takes files, folders and patterns; docs/transcripts.md lists the formats. What needs ground truth is undefined, unless
`--replay` finds it out. Where no command could be read, that is said, and the exit status is 1.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from devnull.agents.episode import Episode
from devnull.cli.runs.import_files import find_files
from devnull.cli.runs.import_replay import play_imports
from devnull.cli.runs.rollouts import SEEDS_PER_RUN
from devnull.cli.runs.run_folder import open_run
from devnull.cli.terminal.console import print_error
from devnull.cli.terminal.import_summary import print_assessments
from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.eval.display.counting import count_noun
from devnull.eval.formats.document import Document
from devnull.eval.formats.registry import find_format, is_something_else, read_transcripts
from devnull.eval.scoring.import_assessment import assess_import
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtimes.by_name import open_runtime
from devnull.sandbox.tasks import find_task, load_tasks


@dataclass(frozen=True)
class Args:
    files: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders (every file in them that can be a transcript) or patterns ('logs/**/*.jsonl')."""
    out: Path | None = None
    """Run folder to write, for `devnull replay`, `report`, `eval`, `compare` and `export`; by default none."""
    format: str | None = None
    """The files' format, where it should not be told from them: `claude-code`, `codex`, `atif`, ...
    (docs/transcripts.md)."""
    replay: str | None = None
    """Name of a task in whose boxes the transcripts' commands are run again: then the truth is known. Needs --out."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes for `--replay`."""
    seed: int = 0
    """Draws the builds in the boxes of `--replay`, one a transcript."""
    json: bool = False
    """Print the findings as JSON."""


def main(args: Args) -> int:
    if not args.files:
        raise InputError("no file: devnull import FILE...")
    if args.replay is not None and args.out is None:
        raise InputError("--replay writes a run: pass --out FOLDER")
    forced = None if args.format is None else find_format(args.format)
    files = find_files(args.files)
    episodes: list[Episode] = []
    digests: dict[str, str] = {}
    problems: dict[Path, list[str]] = {}
    unread = strays = 0
    with progress_bar() as bar:
        for file in bar.track(files, description="reading transcripts"):
            document = Document(file, _read_bytes(file, problems))
            digests[str(file)] = hashlib.sha256(document.content).hexdigest()[:16]
            found = [] if file in problems else read_transcripts(document, forced)
            episodes += found
            stray = is_something_else(document) and str(file) not in args.files
            strays += stray
            unread += not found and not stray
            if document.problems and not stray:
                problems[file] = document.problems
    if strays:
        problems[Path(", ".join(args.files))] = [
            f"no transcript in a format known here in {count_noun(strays, 'other file')}"
        ]
    if not episodes:
        raise InputError("; ".join(_problem_lines(problems)[:5]) or "nothing was read")
    for line in _problem_lines(problems):
        print_error(line)
    episodes = _number_samples(episodes)
    assessments = [assess_import(each) for each in episodes]
    if args.replay is not None and args.out is not None:
        return _replay(args, args.out, args.replay, episodes, digests)
    if args.out is not None:
        run = open_run(args.out, "import", {"files": digests}, 0)
        write_atomically(run.episodes_path, "".join(each.model_dump_json() + "\n" for each in episodes))
        run.write_json("assessment.json", [each.model_dump() for each in assessments])
    if args.json:
        print(json.dumps([each.model_dump() for each in assessments], indent=2))
    else:
        print_assessments(assessments, len(files), args.out)
    commands = sum(each.commands for each in assessments)
    if not commands:
        print_error(
            f"NOTHING WAS READ: no command in {count_noun(len(episodes), 'transcript')} of "
            f"{count_noun(len(files), 'file')}; this says nothing about them. --format forces a format "
            "(docs/transcripts.md)"
        )
    return 1 if unread or not commands else 0


def _replay(args: Args, out: Path, name: str, episodes: Sequence[Episode], digests: dict[str, str]) -> int:
    """Plays the transcripts in boxes of a task, into the run folder."""
    task = find_task(name, load_tasks())
    run = open_run(out, "import", {"files": digests, "replay": name, "seed": args.seed}, args.seed)
    with run.stage("replay"):
        runtime = open_runtime(args.runtime, print_progress)
        played = play_imports(run, episodes, task, runtime, args.seed * SEEDS_PER_RUN)
    owed = sum(bool(each.transcript.results) for each in episodes) - len(played)
    installed = sum(
        each.outcome is not None and all(truth.installed for truth in each.outcome.truths.values()) for each in played
    )
    print(
        f"{count_noun(len(played), 'transcript')} played in boxes of {name}, {installed} ended with every stage "
        f"installed; written to {out}: devnull eval {out}, devnull report {out}"
    )
    if owed:
        print_error(f"{owed} could not be played; run the same command again to try them")
    return 1 if owed or not played else 0


def _read_bytes(file: Path, problems: dict[Path, list[str]]) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        problems[file] = [error.strerror or str(error)]
        return b""


def _problem_lines(problems: dict[Path, list[str]]) -> list[str]:
    return [f"{file}: {'; '.join(each[:8])}" for file, each in problems.items()]


def _number_samples(episodes: Iterable[Episode]) -> list[Episode]:
    """Episodes of several files, where those of one name become samples of it: each has a key of its own."""
    numbered: dict[tuple[object, ...], Episode] = {}
    for each in episodes:
        episode = each
        while numbered.get(episode.identity, episode) != episode:
            episode = episode.model_copy(update={"sample": episode.sample + 1})
        numbered[episode.identity] = episode
    return list(numbered.values())
