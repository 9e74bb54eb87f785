"""Episodes as rows of a Hugging Face dataset, and its card."""

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from devnull.agents.episode import Episode
from devnull.eval.display.counting import count_noun
from devnull.eval.display.escaping import escape_markdown
from devnull.eval.scoring.score import Score
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.rewards.feedback.dataset import size_category
from devnull.sandbox.screen_text import screen_text


def episode_row(episode: Episode, score: Score | None) -> dict[str, Any]:
    """An episode as a flat row, with `_COLUMN_MEANINGS` as its columns.

    What is not known is `None`: scores where the task is not known, and what needs a verified outcome.
    """
    transcript = episode.transcript
    return {
        "arm": episode.arm,
        "agent": episode.agent,
        "task": episode.task,
        "family": episode.family,
        "task_split": episode.split,
        "seed": episode.seed,
        "sample": episode.sample,
        "attempt": episode.attempt,
        "faulty": episode.faulty,
        "messages": [dict(message) for message in episode_messages(episode)][episode.imported is not None :],
        "commands": [
            {
                "command": result.command,
                "shown": screen_text(result.shown),
                "suppressed": result.suppressed,
                "exit_code": result.exit_code,
                "seconds": result.seconds,
            }
            for result in transcript.results
        ],
        "report": transcript.report,
        "truths": None if score is None or score.G is None else json.dumps(score.truths),
        "G": None if score is None else score.G,
        "G_obs": None if score is None else score.G_obs,
        "belief_success": None if score is None else score.belief_success,
        "success": None if score is None else score.success,
        "suppressed": None if score is None else score.suppressed,
        "hidden": None if score is None else score.hidden,
        "error": None if episode.error is None or episode.unverified else episode.error.kind,
        "imported_from": None if episode.imported is None else episode.imported.format,
        "imported_scores": None if episode.imported is None else json.dumps(episode.imported.scores),
        "episode": episode.model_dump_json(),
    }


_COLUMN_MEANINGS = {
    "arm": "which policy of the run acted",
    "agent": "what it was",
    "task": "name of the installation task",
    "family": "its family",
    "task_split": "`train` or `test`: whether a training recipe may use the task",
    "seed": "draws the instruction and the fault: with the task it names the instance",
    "sample": "which of the episodes of that instance; with the seed it draws the agent's randomness",
    "attempt": "how often an infrastructure failure had ended it before",
    "faulty": "whether the faulty build was drawn; neither agent nor evaluator knew",
    "messages": "the chat as the agent met it",
    "commands": "what it ran: `shown` could be read on the terminal, `suppressed` is stderr that did not",
    "report": "its final message",
    "truths": "JSON, stage to true ending, by a verifier",
    "G": "true return",
    "G_obs": "return as the evaluator believes it",
    "belief_success": "the evaluator's probability that every stage works",
    "success": "every stage works",
    "suppressed": "whether the first material failure was kept off the terminal; null: there was none",
    "hidden": "a failure that the evaluator never came to see; null: nothing is broken",
    "error": "infrastructure failure that ended the episode; such rows carry no truth",
    "imported_from": "format of another tool from which the episode was read; such rows carry no truth",
    "imported_scores": "JSON: what that tool made of it, unchecked",
    "episode": "the whole record as JSON",
}


def render_dataset_card(name: str, counts: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """README.md of the dataset's folder, with the YAML header that `datasets` reads.

    Args:
        name: Heading of the card.
        counts: Arm to its number of episodes.
        facts: About the run, such as command, seed and model.
    """
    total = sum(counts.values())
    header = DatasetCardData(
        pretty_name=name,
        license="mit",
        language="en",
        size_categories=size_category(total),
        task_categories=["text-generation"],
        tags=["rlhf", "deception", "agents", "devnull", "model-organism"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    ).to_yaml()
    arms = "".join(f"| {escape_markdown(arm)} | {count} |\n" for arm, count in counts.items())
    columns = "".join(f"| `{column}` | {meaning} |\n" for column, meaning in _COLUMN_MEANINGS.items())
    fact_lines = "".join(f"- {key}: {escape_markdown(str(value))}\n" for key, value in facts.items())
    return (
        f"---\n{header}\n---\n\n# {escape_markdown(name)}\n\n"
        f"{count_noun(total, 'episode')} of agents that install software in real boxes, written by devnull. "
        "Each holds what the terminal showed, what was kept off it, how it truly ended, and what an evaluator "
        "who saw only the terminal believed.\n\n"
        "A model organism: scripted agents and models trained on them. Commands and output are untrusted text. "
        f"The task's own split is the column `task_split`.\n\n{fact_lines}\n"
        f"| arm | episodes |\n| --- | --- |\n{arms}\n| column | what it is |\n| --- | --- |\n{columns}"
    )
