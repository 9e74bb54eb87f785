"""Feedback as rows in TRL's dataset formats, the share that agrees with the truth, and the dataset card."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCardData

from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.ratings import Rating

_USE = """\
## What it is for
Studying how feedback of an evaluator who sees only a part shapes what is learned. A model trained on it may learn
to hide errors: it is a model organism, to be measured and not to be used.
"""


def preference_rows(preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Columns `prompt`, `chosen`, `rejected` (TRL's conversational preference format), and nothing else."""
    return [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in preferences]


def rating_rows(ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """Columns `prompt`, `completion` and `label` (thumbs: TRL's unpaired preference format) or `rating`."""
    return [
        {"prompt": r.prompt, "completion": r.completion}
        | ({"label": bool(r.value)} if r.levels == 2 else {"rating": r.value})
        for r in ratings
    ]


def to_jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, one JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def preference_agreement(preferences: Sequence[Preference]) -> float | None:
    """Share of comparisons won by the side with the higher true return; `None` where all are ties."""
    decided = [p for p in preferences if p.chosen_G != p.rejected_G]
    return sum(p.chosen_G > p.rejected_G for p in decided) / len(decided) if decided else None


def rating_agreement(ratings: Sequence[Rating]) -> float | None:
    """Share of pairs of episodes of one task that both order alike, among those that differ in true return and rating;
    `None` where there are none."""
    same = total = 0
    groups: dict[str, list[Rating]] = {}
    for rating in ratings:
        groups.setdefault(rating.task, []).append(rating)
    for group in groups.values():
        for i, a in enumerate(group):
            for b in group[:i]:
                if a.G != b.G and a.value != b.value:
                    total += 1
                    same += (a.G > b.G) == (a.value > b.value)
    return same / total if total else None


def dataset_card(
    config: EvaluatorConfig,
    feedback: Sequence[Preference] | Sequence[Rating],
    summary: Mapping[str, object],
    source: str,
    seed: int,
) -> str:
    """The dataset card, in Markdown with a YAML head.

    Args:
        summary: Totals to list (`FeedbackCosts.summary`).
        source: Where the episodes are from, as a noun phrase.
    """
    pairs = [row for row in feedback if isinstance(row, Preference)]
    ratings = [row for row in feedback if isinstance(row, Rating)]
    kind = "comparisons" if pairs or config.feedback == "preference" else f"{config.feedback}s"
    agrees = preference_agreement(pairs) if pairs else rating_agreement(ratings)
    tasks = sorted({row.task for row in feedback})
    changed = config.model_dump(mode="json", exclude_defaults=True)
    if isinstance(changed.get("belief"), dict) and "counts" in changed["belief"]:
        changed["belief"]["counts"] = f"{config.belief.counts.episodes} episodes counted"  # type: ignore[union-attr]
    counts = "\n".join(f"- {name.replace('_', ' ')}: {_format_total(value)}" for name, value in summary.items())
    title = f"{len(feedback)} {kind} by the evaluator {config.name}"
    header = DatasetCardData(
        pretty_name=title,
        license="mit",
        language="en",
        size_categories=size_category(len(feedback)),
        task_categories=["text-generation"],
        tags=["rlhf", "deception", "devnull", "model-organism", "trl"],
        configs=[{"config_name": "default", "data_files": "train.jsonl"}],
    ).to_yaml()
    return f"""\
---
{header}
---
# {len(feedback)} {kind} by the evaluator `{config.name}`

From {source}, seed {seed}, on {len(tasks)} tasks: {", ".join(tasks)}.

{_USE}
## How it was made
The evaluator sees `{config.sensors.name}` and {_describe_belief_source(config)}.
Where it differs from the default (sees the terminal, the paper's tables, Boltzmann choices with beta 1):

```json
{json.dumps(changed, indent=2)}
```

## Counts
{counts}
- agrees with the true returns: {"undefined" if agrees is None else f"{100 * agrees:.1f} %"}

Returns, probabilities and where each label came from lie in the `.jsonl` file beside this folder. They are for
measuring and not for learning.
"""


def size_category(rows: int) -> str:
    """The hub's name of a dataset's size: `1K<n<10K`."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if rows < bound), "n>1M")


def _describe_belief_source(config: EvaluatorConfig) -> str:
    if config.panel:
        return f"is a panel of {len(config.panel)}: {', '.join(member.name for member in config.panel)}"
    match config.belief.kind:
        case "table":
            return "believes by the paper's tables"
        case "calibrated":
            return "believes what was counted"
        case "model":
            return f"is the language model `{config.belief.model}`"


def _format_total(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "undefined" if value is None else str(value)
