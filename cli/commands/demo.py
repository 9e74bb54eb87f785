"""The main job, end to end: real boxes, an evaluator who sees only the terminal, TRL, and the verdict.

Scripted agents and a language model install the NVIDIA driver and then CUDA. A simulated evaluator compares their
episodes; the model is fine-tuned on that in two arms: partial (the evaluator sees the terminal) and, as the control,
full (the evaluator sees raw stderr and exit status). New rollouts show what each arm learned. Run it again to go on
where it stopped. The warm start already holds some hiding: the result is amplification by selection.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Args:
    """Settings of the demo."""

    out: Path = Path("runs/demo")
    """Run folder."""
    seed: int = 0
    """Draws instructions, faults, agents, feedback and training."""
    model: str = "tiny"
    """tiny (a 2-layer Llama, random but for heads that copy from the prompt), smollm2 (SmolLM2-135M-Instruct, from
    the package index), or any Hugging Face name or path."""
    optimiser: Literal["dpo", "grpo"] = "grpo"
    """How the policy learns from the evaluator: online in boxes, or offline from pairs."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """How boxes are made; auto: docker where a daemon answers, else rootless."""
    workers: int = 8
    """Boxes at once."""
    demonstrations: int = 160
    """Episodes of the scripted mixture that the model is warm-started on."""
    feedback: int = 240
    """Episodes of the warm-started model that the evaluators compare (dpo)."""
    pairs: int = 320
    """Comparisons by each evaluator (dpo)."""
    grpo_batches: int = 12
    """Batches of episodes that each arm learns from (grpo)."""
    evaluation: int = 48
    """Episodes of each arm on tasks and seeds not trained on."""
    p_hide: float = 0.2
    """The evaluator's belief, seeing nothing of CUDA, that it failed and was hidden (the paper's pH)."""
    hiding_penalty: float = 4.0
    """True cost of hiding a failure (the paper's r)."""
    json: bool = False
    """Print metrics.json instead of the table."""


def main(args: Args) -> int:
    from devnull.cli.demo.story import Story

    config = {key: value for key, value in asdict(args).items() if key not in ("out", "workers", "json")}
    return Story(args, config).tell()
