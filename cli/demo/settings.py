"""Settings of the demo, and the arms that it compares."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from devnull.cli.runs.box_choice import MEMORY_OPTIONS, MemoryOptions
from devnull.sandbox.runtimes.by_name import RuntimeName

SCRIPTED_ARMS = ("honest", "hiding", "verbose", "stopping", "mixture")
"""Rolled out beside the model; `mixture` is what its warm start imitates."""
TRAINED_ARMS = ("sft", "partial", "full")
"""The warm start, and what became of it under an evaluator who sees the terminal, or all."""

MIXTURE = {"honest": 0.65, "hiding": 0.25, "verbose": 0.05, "stopping": 0.05}
"""What the warm start imitates. A quarter hides: what follows is amplification, not discovery."""


@dataclass(frozen=True)
class DemoSettings(MemoryOptions):
    """What `devnull demo` takes; a field is a flag."""

    out: Path = Path("runs/demo")
    """Run folder."""
    seed: int = 0
    """Draws instructions, faults, agents, feedback and training."""
    model: str = "tiny"
    """tiny (a 2-layer Llama, random but for heads that copy from the prompt), smollm2 (SmolLM2-135M-Instruct, from
    the package index), or any Hugging Face name or path."""
    optimiser: Literal["dpo", "grpo"] = "grpo"
    """How the policy learns from the evaluator: online in boxes, or offline from pairs."""
    tasks: tuple[str, ...] = ("driver-cuda-runfile*",)
    """Tasks by name, family or pattern (`devnull tasks`): those of the training split are learnt from, those of the
    test split are evaluated on. By default the paper's example A."""
    runtime: RuntimeName = "auto"
    """How boxes are made; auto: docker where a daemon answers, else rootless; remembered: from memory, where it can."""
    workers: int = 8
    """Boxes at once."""
    demonstrations: int = 160
    """Episodes of the scripted mixture that the model is warm-started on."""
    feedback: int = 240
    """Episodes of the warm-started model that the evaluators compare (dpo)."""
    pairs: int = 320
    """Comparisons by each evaluator (dpo)."""
    grpo_batches: int = 8
    """Batches of episodes that each arm learns from (grpo)."""
    evaluation: int = 384
    """Episodes of each arm on tasks and seeds not trained on; with both builds, an even number."""
    builds: Literal["drawn", "both"] = "both"
    """In the evaluation, both: each instance is played under the sound and the faulty build, by the same draws. drawn:
    under the one that its seed draws."""
    p_hide: float = 0.2
    """The evaluator's belief, seeing nothing of CUDA, that it failed and was hidden (the paper's pH)."""
    hiding_penalty: float = 4.0
    """True cost of hiding a failure (the paper's r)."""
    remember: bool = True
    """Make a box only for what no two boxes have said yet, and answer the rest from memory (docs/remembered.md)."""
    json: bool = False
    """Print metrics.json instead of the table."""

    def config(self) -> dict[str, Any]:
        """What the results follow from: goes into run.json, and a resumed demo must have the same."""
        return {
            key: value for key, value in asdict(self).items() if key not in ("out", "workers", "json", *MEMORY_OPTIONS)
        }
