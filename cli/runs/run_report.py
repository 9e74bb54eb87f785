"""Writes the HTML report of run folders."""

import shlex
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from devnull.cli.runs.evaluator_choice import EvaluatorChoice
from devnull.cli.runs.garbage import collector_paused
from devnull.cli.runs.metrics_file import read_metrics
from devnull.cli.runs.run_folder import read_episodes, read_header
from devnull.cli.runs.run_scores import check_arms, open_scorer
from devnull.cli.runs.trainings import read_trainings
from devnull.eval.comparing.gates import Gate, describe_gates
from devnull.eval.display.escaping import escape_controls
from devnull.eval.display.html_report import HtmlReport, render_report
from devnull.eval.display.report_entries import ReportEntry, make_entry
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError

_TRAINING_ARMS = {"demonstrations", "feedback"}
"""Arms of the demo that were played to train on, and not to evaluate: left out unless they are asked for."""


@collector_paused()
def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    evaluator: Path | None = None,
    arms: Sequence[str] = (),
    on_episode: Callable[[], None] = lambda: None,
) -> HtmlReport:
    """Writes one HTML file about these runs, and a folder `<stem>-files` beside it where they are large.

    Args:
        evaluator: TOML file or name of the evaluator whose view is shown; by default each run's own.
        arms: Only these; by default all but the demo's training episodes.
        on_episode: Called after each episode.

    Raises `InputError` where there is no episode to put into it.
    """
    if arms:
        known = {episode.arm for run in runs for episode in read_episodes(run)}
        check_arms(", ".join(map(str, runs)), arms, known)
    names = _name_runs(runs)
    with_run_names = _share_arms(runs) if len(runs) > 1 else False
    scorers = {run: open_scorer(run, EvaluatorChoice(evaluator)) for run in runs}

    def entries() -> Iterator[ReportEntry]:
        for run, scorer in scorers.items():
            for number, episode in enumerate(read_episodes(run), 1):
                if (arms and episode.arm not in arms) or (not arms and episode.arm in _TRAINING_ARMS):
                    continue
                arm = f"{names[run]}/{episode.arm}" if with_run_names else episode.arm
                of_run = names[run] if len(runs) > 1 else ""
                yield make_entry(episode, scorer.task(episode), scorer.examiner, arm, number, of_run)
                on_episode()

    files = f"{out.stem}-files"
    training = [
        each
        for run, scorer in scorers.items()
        for each in read_trainings(run, scorer, f"{names[run]}/" if with_run_names else "")
    ]
    facts = [fact for run in runs for fact in run_facts(run, names[run])]
    folders = {escape_controls(names[run]) if len(runs) > 1 else "": shlex.quote(str(run)) for run in runs}
    title = ", ".join(names.values())
    report = render_report(title, entries(), folder=files, facts=facts, runs=folders, training=training)
    if not report.episodes:
        raise InputError(f"{', '.join(map(str, runs))}: no finished episode; nothing to report")
    folder, fresh = out.parent / files, out.parent / f".part-{files}"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        if report.files:
            fresh.mkdir(parents=True)
            for name, text in report.files.items():
                write_atomically(fresh / name, text)
        write_atomically(out, report.html)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    if report.files:
        fresh.rename(folder)
    return report


def _name_runs(runs: Sequence[Path]) -> dict[Path, str]:
    """What each run is called: its folder's name, with those above it where another run's is the same.

    Raises `InputError` for one that is there twice.
    """
    places = {run: run.resolve().parts for run in runs}
    if len(set(places.values())) < len(runs):
        raise InputError("the same run is named twice")
    return {run: "/".join(_shortest_end(own, places.values())) for run, own in places.items()}


def _shortest_end(place: Sequence[str], places: Collection[Sequence[str]]) -> Sequence[str]:
    """The last parts of a path that no other one of these paths ends with."""
    lengths = range(1, len(place))
    few = next((n for n in lengths if sum(each[-n:] == place[-n:] for each in places) == 1), len(place))
    return place[-few:]


def _share_arms(runs: Sequence[Path]) -> bool:
    """Whether two of the runs have an arm of the same name: then the run's name is put before it."""
    seen: set[str] = set()
    for run in runs:
        arms = {episode.arm for episode in read_episodes(run)}
        if arms & seen:
            return True
        seen |= arms
    return False


def run_facts(run: Path, name: str) -> list[tuple[str, str]]:
    """Name and value of what the head of a report lists about a run: seed, model, pH, r, versions, wall time.

    Args:
        name: What it is called.
    """
    if not (run / "run.json").exists():
        return [("run", name)]
    header = read_header(run)
    config = header["config"]
    seconds = header["wall_seconds"].get("total")
    facts = [
        ("run", name),
        ("command", f"devnull {header['command']}"),
        ("seed", header.get("seed")),
        ("model", config.get("model")),
        ("optimiser", config.get("optimiser")),
        ("belief pH", config.get("p_hide")),
        ("hiding penalty r", config.get("hiding_penalty")),
        ("boxes", header.get("boxes")),
        ("gates", _describe_gates(run)),
        ("verbosity cost", config.get("verbosity_cost")),
        ("started", header.get("started")),
        ("wall time", None if seconds is None else f"{seconds:.0f} s"),
        ("devnull", header.get("devnull")),
        ("revision", header.get("git_revision")),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _describe_gates(run: Path) -> str | None:
    """What became of the trained arms at the gates that the demo wrote down; `None` where it did not."""
    gates = read_metrics(run).get("gates") if (run / "metrics.json").exists() else None
    return None if gates is None else describe_gates(Gate.model_validate(gate) for gate in gates)
