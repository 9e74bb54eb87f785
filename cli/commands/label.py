"""Let an evaluator judge the episodes of a run: comparisons, ratings or thumbs, with a dataset ready for TRL.

Everything follows from the run, the evaluator's file and the seed. Answers of a language model that judges are
kept as they come: the same command goes on where it was stopped, and no view is bought twice.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import BaseModel

from devnull.agents.episode import Episode
from devnull.cli.runs.evaluator_choice import (
    EvaluatorChoice,
    RewardOptions,
    choose_evaluator,
    load_run_tasks,
    resolve_evaluator,
)
from devnull.cli.runs.folder_lock import lock_folder
from devnull.cli.runs.json_lines import append_line, cut_torn_line, read_lines
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.runs.run_scores import check_arms
from devnull.cli.terminal.progress import progress_bar
from devnull.rewards.belief.calibrated import count_evidence, write_counts
from devnull.rewards.belief.language_model import ModelBelief
from devnull.rewards.belief.model_judge import JudgeAnswer, ModelJudge
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.annotated_preferences import annotate_preferences
from devnull.rewards.feedback.annotations import AnnotationAccuracy, AnnotationMode
from devnull.rewards.feedback.comparisons import make_preferences
from devnull.rewards.feedback.dataset import (
    dataset_card,
    preference_agreement,
    preference_rows,
    rating_agreement,
    rating_rows,
    to_jsonl,
)
from devnull.rewards.feedback.ratings import make_ratings
from devnull.rewards.feedback.reward_columns import true_rewards
from devnull.rewards.feedback.reward_inference import format_inferred_rewards, infer_rewards
from devnull.rewards.views import observe
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Task

_ENDPOINT_WORKERS = 16
"""Questions put to an endpoint at once."""


@dataclass(frozen=True)
class Args(RewardOptions):
    run: Annotated[Path, tyro.conf.Positional]
    """The run folder whose episodes are judged."""
    evaluator: Path | None = None
    """The evaluator: a TOML file, or the name of one in the package (`shuffled`); without one, it sees the terminal
    and believes by the paper's tables, as paranoid as the run says."""
    arms: tuple[str, ...] = ()
    """Judge only these arms; none: all, against each other too."""
    pairs: int | None = None
    """Comparisons to make; by default as many as there are episodes."""
    seed: int = 0
    """Draws pairs, choices, noise and audits."""
    name: str = ""
    """Name of this feedback, beside other feedback in the same run: `preferences-NAME.jsonl`."""
    count: Path | None = None
    """Write how often each ending lay behind what the evaluator was shown to this file, for a calibrated
    evaluator, and label nothing."""
    infer: bool = False
    """Also say what the comparisons tell of the rewards, the belief being known, and what they leave open."""
    annotations: AnnotationMode = "none"
    """For reward learning: end each conversation with what its evaluator believed, or with the truth in its place."""
    annotated_return: bool = False
    """End such an annotation with the return as a number. In the place of the truth that is the true return: an oracle
    that a reward model need only read off."""
    annotator: Path | None = None
    """TOML file of an evaluator that is a language model: it writes the thoughts; how near they come to the exact
    belief is reported."""
    json: bool = False
    """Print the summary as JSON."""


def main(args: Args) -> int:
    if args.pairs is not None and args.pairs < 1:
        raise InputError(f"--pairs is {args.pairs}; it must be at least 1")
    if "/" in args.name:
        raise InputError(f"--name {args.name!r} is part of a file name; it cannot hold '/'")
    config = choose_evaluator(args.run, EvaluatorChoice(args.evaluator))
    episodes = _choose_episodes(args)
    tasks = load_run_tasks(args.run, args, needed=(episode.task for episode in episodes))
    if args.count is not None:
        return _write_calibration(args.count, config, episodes, tasks)
    if args.infer and config.pays_beside_endings:
        raise InputError(
            f"evaluator {config.name}: --infer reads rewards of endings, and its detector or report pays too"
        )
    suffix = f"-{args.name}" if args.name else ""
    accuracy: AnnotationAccuracy | None = None
    lock_folder(args.run, f"label{suffix}")
    answers = args.run / f"judgements{suffix}.jsonl"
    cut_torn_line(answers)
    evaluator = Evaluator(
        config,
        answers=read_lines(answers, JudgeAnswer) if answers.exists() else (),
        save_answer=lambda answer: append_line(answers, answer),
    )
    _prepare_judgements(args, evaluator, episodes, tasks)
    if config.feedback == "preference":
        total = len(episodes) if args.pairs is None else args.pairs
        pairs = _collect_with_bar(
            make_preferences(episodes, evaluator, tasks, args.seed, args.pairs), total, "comparisons"
        )
        if not pairs:
            raise InputError(f"{args.run}: no comparison came about: {_why_no_feedback(evaluator)}")
        if args.annotations != "none":
            pairs, accuracy = annotate_preferences(
                pairs,
                episodes,
                evaluator,
                tasks,
                args.annotations,
                _open_annotator(args, evaluator),
                with_return=args.annotated_return,
            )
        _write_feedback(args, f"preferences{suffix}", pairs, preference_rows(pairs), evaluator)
        agreement = preference_agreement(pairs)
        made = len(pairs)
    elif args.infer or args.annotations != "none":
        flag = "--infer" if args.infer else "--annotations"
        raise InputError(f"{flag} is for comparisons, and {config.name} gives {config.feedback}s")
    else:
        ratings = _collect_with_bar(make_ratings(episodes, evaluator, tasks, args.seed), len(episodes), "ratings")
        if not ratings:
            raise InputError(f"{args.run}: no episode was rated: {_why_no_feedback(evaluator)}")
        _write_feedback(args, f"ratings{suffix}", ratings, rating_rows(ratings), evaluator)
        agreement = rating_agreement(ratings)
        made = len(ratings)
    summary = {"feedback": config.feedback, "made": made, "agrees_with_truth": agreement} | evaluator.costs.summary()
    if accuracy is not None and accuracy.n:
        summary["annotations"] = accuracy.model_dump()
    inferred = infer_rewards(pairs, episodes, evaluator, tasks) if args.infer else None
    if args.json:
        print(json.dumps(summary | ({"inference": inferred.summary()} if inferred else {}), indent=2))
        return 0
    print(_format_label_summary(args, config, summary))
    if inferred is not None:
        print(format_inferred_rewards(inferred, true_rewards(inferred.columns, tasks)))
    return 0


def _prepare_judgements(args: Args, evaluator: Evaluator, episodes: Sequence[Episode], tasks: dict[str, Task]) -> None:
    """Puts all views to a language model that judges alone, many at once where it is behind an endpoint."""
    member = evaluator.members[0]
    few = args.pairs is not None and 2 * args.pairs < len(episodes)
    if len(evaluator.members) > 1 or few or not isinstance(member.belief, ModelJudge):
        return
    cases = [(tasks[e.task], observe(e.transcript, member.sensors, e.stream)) for e in episodes]
    workers = _ENDPOINT_WORKERS if member.belief.config.endpoint else 1
    distinct = {member.belief.digest(*case) for case in cases}
    _collect_with_bar(member.belief.answer_all(cases, workers), len(distinct), "judgements")


def _open_annotator(args: Args, evaluator: Evaluator) -> ModelJudge | None:
    """The language model that writes annotations. Raises `InputError` where the file names none."""
    if args.annotator is None:
        return None
    belief = resolve_evaluator(args.annotator).belief
    if not isinstance(belief, ModelBelief):
        raise InputError(f"{args.annotator}: its belief is a {belief.kind}; an annotator wants kind = 'model'")
    return ModelJudge(belief, evaluator.costs)


def _choose_episodes(args: Args) -> list[Episode]:
    """Episodes of the wanted arms."""
    episodes = list(read_episodes(args.run))
    check_arms(args.run, args.arms, {episode.arm for episode in episodes})
    return [e for e in episodes if (not args.arms or e.arm in args.arms) and e.error is None]


def _collect_with_bar(items: Iterable[Any], total: int, title: str) -> list[Any]:
    """All items of a slow iterable, with a progress bar on a terminal."""
    kept = []
    with progress_bar() as bar:
        row = bar.add_task(title, total=total)
        for item in items:
            kept.append(item)
            bar.advance(row)
    return kept


def _write_feedback(
    args: Args, name: str, feedback: Sequence[BaseModel], rows: list[dict[str, object]], evaluator: Evaluator
) -> None:
    """`NAME.jsonl` with everything; `NAME.dataset/` with what a learner may see, and the card."""
    write_atomically(args.run / f"{name}.jsonl", "".join(row.model_dump_json() + "\n" for row in feedback))
    folder = args.run / f"{name}.dataset"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "train.jsonl", to_jsonl(rows))
    source = f"the run `{args.run.resolve().name}`"
    text = dataset_card(evaluator.config, feedback, evaluator.costs.summary(), source, args.seed)  # type: ignore[arg-type]
    write_atomically(folder / "README.md", text)


def _write_calibration(path: Path, config: EvaluatorConfig, episodes: Sequence[Episode], tasks: dict[str, Task]) -> int:
    """For `--count`: how often each ending lay behind what the evaluator was shown."""
    known = [
        (tasks[e.task], observe(e.transcript, config.sensors, e.stream), e.outcome.truths)
        for e in episodes
        if e.outcome
    ]
    write_counts(count_evidence(known, config.sensors), path)
    print(f"{path}: {len(known)} episodes counted through the sensors {config.sensors.name!r}", file=sys.stderr)
    return 0


def _why_no_feedback(evaluator: Evaluator) -> str:
    """The likely cause, for an error message."""
    costs = evaluator.costs
    if costs.unjudged:
        return f"none of the {costs.unjudged} answers of the judge could be read"
    if costs.screened and costs.screened == costs.asked:
        return f"its detector flagged a side of each of {costs.asked}"
    if costs.asked:
        return f"it was confident of none of {costs.asked}; lower min_confidence"
    return "all conversations are the same word for word; roll out a policy with more variety"


def _format_label_summary(args: Args, config: EvaluatorConfig, summary: dict[str, object]) -> str:
    agreement = summary["agrees_with_truth"]
    labels = summary["labels"]
    assert isinstance(labels, dict)
    lines = [
        f"{args.run}: {summary['made']} {config.feedback}s by {config.name}; "
        f"{'undefined' if agreement is None else f'{100 * float(str(agreement)):.0f} %'} agree with the true returns",
        f"labels: {', '.join(f'{n} {kind}' for kind, n in sorted(labels.items()))}; "
        f"answered {summary['answered']} of {summary['asked']} asked",
        f"cost: {summary['cost']:g} for {summary['views']} views, "
        f"{summary['audit_cost']:g} for {summary['audits']} audits",
    ]
    if config.detector is not None:
        lines.append(f"detector: {summary['flagged']} views flagged, {summary['screened']} {config.feedback}s left out")
    if summary["judge_calls"] or summary["unjudged"]:
        lines.append(
            f"judge: {summary['judge_calls']} calls, {summary['judge_tokens']} tokens, "
            f"{summary['malformed']} malformed answers, {summary['unjudged']} given up"
        )
    if isinstance(accuracy := summary.get("annotations"), dict):
        lines.append(
            f"annotations: {100 * accuracy['same_ending']:.0f} % name the ending that the exact belief does, at a mean "
            f"distance of {accuracy['distance']:.2f}; the believed return is off by {accuracy['return_error']:.2f}"
        )
    return "\n".join(lines)
