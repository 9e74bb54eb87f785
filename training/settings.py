"""The settings of every trainer. Imports no torch, so that `--help` is quick."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from devnull.sandbox.errors import InputError

Adaptation = Literal["auto", "full", "lora", "qlora"]
"""Which weights learn: all, low-rank adapters, or adapters on a base held in 4 bits (bitsandbytes NF4).
`auto`: all of a model below ten million parameters, adapters otherwise."""

GradientCheckpointing = Literal["auto", "on", "off"]
"""`auto`: on for a model of at least a billion parameters."""

Dtype = Literal["auto", "float32", "bfloat16"]
"""`auto`: bfloat16 for a frozen base where that is faster (a GPU, a CPU with instructions for it), else float32."""

Optimizer = Literal["adamw", "adamw_8bit", "adafactor", "sgd"]
"""`adamw_8bit` (bitsandbytes) keeps AdamW's two moments in a byte each, `adafactor` their row and column sums."""

TooLong = Literal["error", "drop"]
"""What to do with a conversation that is longer than `max_length`."""

VLLMImportanceSampling = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "none"]
"""The weight of a token's loss is the trainer's probability over vLLM's: of the token, or of its episode (sequence).
Above 3 the weight is 3 (truncate) or 0 (mask). Over a long episode rounding alone passes 3, and `sequence_mask`, TRL's
own default, drops it. `none`: no weight."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What every trainer takes."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {}
    """By adaptation, for `learning_rate` unset: what was measured to work for this trainer on the smallest models
    (`devnull.training.learning_rates`)."""
    large_model_rate: ClassVar[float] = 0.0
    """The same where all weights of a model of at least ten million parameters learn."""
    default_scheduler: ClassVar[str] = "constant"
    """For `scheduler` unset, in transformers' words."""

    adaptation: Adaptation = "auto"
    """Which weights learn: full (all), lora (adapters), qlora (adapters on a 4-bit base), auto (full below 10 M)."""
    template_args: tuple[str, ...] = ()
    """What the model's chat template is told (enable_thinking=false). The trained folder's template then says it by
    itself."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_targets: tuple[str, ...] | None = None
    """Linear layers that get adapters, by the ends of their names (`q_proj v_proj`); unset: all."""
    learning_rate: float | None = None
    """Peak of the optimiser's step size; unset: what was measured to work for this trainer, adaptation and size."""
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] | None = None
    """How the step size goes on; unset: along a cosine in sft and reward, constant in the others."""
    optimizer: Optimizer = "adamw"
    """What takes the steps; adamw_8bit (extra `qlora`) and adafactor need less memory, sgd none of its own."""
    dtype: Dtype = "auto"
    """Number format of the weights; auto: bfloat16 under adapters where that is faster, float32 otherwise."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """Implementation of attention, by transformers' names; unset: the model's own choice."""
    revision: str | None = None
    """Branch, tag or commit of a model on the Hugging Face hub; unset: its main branch."""
    epochs: float = 1.0
    """Passes over the data."""
    max_steps: int = -1
    """Stop after this many optimiser steps; -1: after the epochs."""
    batch_size: int = 16
    """Examples a step and process."""
    gradient_accumulation: int = 1
    """Batches summed before each optimiser step."""
    max_length: int | None = None
    """Longest conversation in tokens, which grpo ends there; unset: the model's context."""
    gradient_checkpointing: GradientCheckpointing = "auto"
    """Keep a layer's input alone and compute the rest again: a third more time, a tenth of the memory for activations.
    auto: on from a billion parameters."""
    checkpoint_steps: int = 0
    """Write a checkpoint every so many steps, to resume from; 0: none."""
    logging_steps: int = 1
    """Log every so many steps."""
    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    """Where logs go besides the run folder."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub to push the result to (owner/name); made, private, before the first step."""
    seed: int = 0
    """Of data order, initial adapters and sampling."""


@dataclass(frozen=True, kw_only=True)
class OfflineSettings(TrainerSettings):
    """What the trainers that learn from a finished run take besides."""

    too_long: TooLong = "error"
    """What to do with longer conversations: stop, or leave them out. They are never cut."""


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings(TrainerSettings):
    """What the trainers that go on from a policy that acts already take besides."""

    frozen: tuple[str, ...] | None = None
    """Weights that do not learn, by a part of their names (`self_attn`) or a pattern of whole ones
    (`model.layers.0.*`). Unset: what the model names itself (tiny: the circuit that copies file names)."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings(OfflineSettings):
    """Supervised fine-tuning: imitate what the agent wrote in a run's episodes."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {"full": 4e-3, "lora": 1e-3, "qlora": 1e-3}
    large_model_rate: ClassVar[float] = 2e-5
    default_scheduler: ClassVar[str] = "cosine"
    epochs: float = 4.0
    """Passes over the data."""
    batch_size: int = 8
    """Examples a step and process."""
    warmup: float = 0.05
    """Share of the steps over which the step size rises; it then falls along a cosine."""


@dataclass(frozen=True, kw_only=True)
class DPOSettings(FineTuningSettings, OfflineSettings):
    """Direct preference optimisation: prefer what the evaluator chose."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {"full": 1.5e-4, "lora": 2e-4, "qlora": 2e-4}
    large_model_rate: ClassVar[float] = 1e-6
    default_scheduler: ClassVar[str] = "constant_with_warmup"
    loss: tuple[Literal["sigmoid", "robust", "ipo", "hinge", "sft"], ...] = ("sigmoid", "sft")
    """Terms of the loss. Sigmoid alone drove the teacher-forced probability to 0.997 while samples were garbage;
    `sft` (the likelihood of the chosen side) holds them together. For an evaluator that errs: robust, sft."""
    label_noise: float = 0.0
    """Share of wrong preferences that `robust` assumes, below 0.5."""
    beta: float = 0.3
    """β, how strongly the policy is held near the reference policy."""
    epochs: float = 2.0
    """Passes over the data."""
    batch_size: int = 8
    """Pairs a step and process."""


@dataclass(frozen=True, kw_only=True)
class RewardSettings(OfflineSettings):
    """A reward model from preferences."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {"full": 1e-3, "lora": 5e-4}
    large_model_rate: ClassVar[float] = 1e-4
    default_scheduler: ClassVar[str] = "cosine"
    epochs: float = 3.0
    """Passes over the data."""
    batch_size: int = 8
    """Pairs a step and process."""
    held_out: float = 0.2
    """Share of the pairs kept for measuring."""
    rationality: float = 1.0
    """The evaluator's β: how sharply it prefers the better side."""
    by_prompt: bool = False
    """Take the comparisons of one prompt together: into the same batch, where a text that several share is scored once,
    and whole prompts into the share held out. Then a batch may hold thousands of pairs."""
    fit_head: bool = False
    """After the last step, set the head to its maximum of likelihood on the features as they are by then: the plateau
    that steps do not reach in directions of which few comparisons speak. For thousands of comparisons."""
    head_ridge: float = 3e-5
    """Weight of the head's squared weights in that fit, per comparison."""


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(FineTuningSettings):
    """Group-relative policy optimisation: act in boxes, learn from each episode's reward against its group's."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {"full": 1.2e-4, "lora": 1e-4, "qlora": 1e-4}
    large_model_rate: ClassVar[float] = 1e-6
    max_steps: int = 25
    """Optimiser steps."""
    batch_size: int = 32
    """Episodes that a process puts through the model at once, and, times `gradient_accumulation`, plays at once; a
    multiple of the group."""
    group: int = 4
    """Episodes of the same instance (prompt and fault) that are compared with each other."""
    stratify_builds: bool = False
    """Deal builds out to each batch, so that of its groups as many meet the faulty one as the task's p says, and not as
    chance has it: in a batch without a failure nothing is learnt of hiding."""
    iterations: int = 1
    """Optimiser steps on each batch of episodes; more where boxes take longer than gradients."""
    baseline: Literal["group", "rloo"] = "group"
    """group: differences to the group's mean, over the batch's spread. rloo: the plain differences, every token
    weighing the same, which is REINFORCE with a leave-one-out baseline up to a constant factor."""
    beta: float = 0.0
    """Weight of the KL divergence from the reference policy in the loss."""
    kl_every: int = 5
    """Log the divergence from the first policy, estimated from the episodes, every so many batches; 0: never, unless
    there is a limit."""
    kl_limit: float | None = None
    """Stop at the first batch whose commands have drifted further than this from the first policy, in nats an episode
    (`kl_commands`), and go back to the policy of the last batch that had not; unset: never."""
    max_equal_batches: int = 10
    """Stop after so many batches in a row in which every group's rewards were equal, so that nothing was learnt; 0:
    never."""
    train_report: Literal["all", "first", "none"] = "all"
    """Which tokens of the final report learn: all; the first, with which the agent decides to end; none. No evaluator
    pays for the others: they only drift."""
    temperature: float = 1.0
    """Of sampling."""
    max_new_tokens: int = 96
    """Longest message of the agent, in tokens."""
    invalid_cost: float = 0.5
    """Taken off the reward for each message that holds no action, whatever the reward function."""
    workers: int | None = None
    """Boxes at once; unset: 64 where a GPU generates, else 16."""
    max_turns: int | None = None
    """Messages an episode; unset: twice the task's stages plus two."""
    vllm: bool = False
    """Generate with vLLM inside each process (extra `vllm`; one process a GPU)."""
    vllm_max_model_length: int | None = None
    """Longest conversation that vLLM keeps room for, in tokens, where an episode ends; unset: as `max_length`."""
    vllm_gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory that vLLM takes for its copy of the model and its cache; training needs the rest."""
    vllm_importance_sampling: VLLMImportanceSampling = "token_truncate"
    """How the loss makes up for the probabilities at which vLLM sampled, which are not quite the trainer's."""


@dataclass(frozen=True, kw_only=True)
class KTOSettings(FineTuningSettings, OfflineSettings):
    """Kahneman-Tversky optimisation: learn from thumbs up and down."""

    default_learning_rates: ClassVar[Mapping[str, float]] = {"full": 1e-4, "lora": 1e-4, "qlora": 1e-4}
    large_model_rate: ClassVar[float] = 1e-6
    beta: float = 0.1
    """β, how strongly the policy is held near the reference policy."""
    epochs: float = 2.0
    """Passes over the data."""
    batch_size: int = 8
    """Episodes a step and process."""


_COUNTS = ("batch_size", "gradient_accumulation", "lora_rank", "logging_steps", "max_length", "workers", "iterations")
_GRPO_COUNTS = ("max_turns", "max_new_tokens", "vllm_max_model_length")
_Rule = tuple[str, Callable[[Any], bool], str]
_RULES: tuple[_Rule, ...] = (
    ("epochs", lambda value: 0 < value < math.inf, "above 0"),
    ("max_steps", lambda value: value == -1 or value > 0, "at least 1, or -1"),
    *((name, lambda value: value >= 1, "at least 1") for name in (*_COUNTS, *_GRPO_COUNTS)),
    *((name, lambda value: value >= 0, "at least 0") for name in ("checkpoint_steps", "kl_every", "max_equal_batches")),
    *(
        (name, lambda value: 0 < value < math.inf, "above 0")
        for name in ("learning_rate", "rationality", "temperature", "kl_limit", "head_ridge")
    ),
    *((name, lambda value: 0 <= value < math.inf, "at least 0") for name in ("beta", "invalid_cost")),
    *((name, lambda value: 0 <= value < 1, "at least 0 and below 1") for name in ("warmup", "held_out")),
    ("vllm_gpu_memory_utilization", lambda value: 0 < value < 1, "above 0 and below 1"),
    ("group", lambda value: value >= 2, "at least 2, for episodes are compared within it"),
    ("seed", lambda value: 0 <= value < 2**32, "at least 0 and below 2**32"),
    ("loss", bool, "at least one term"),
)
"""Name, test and message of each setting that a trainer may have; one that is unset (`None`) passes."""


def check_ranges(settings: TrainerSettings) -> None:
    """Raises `InputError` for a setting out of its range, or a `report_to` that is not installed; loads nothing."""
    for name, allowed, wanted in _RULES:
        value = getattr(settings, name, None)
        if value is not None and not allowed(value):
            raise InputError(f"{name} is {value}; it must be {wanted}")
    for package in settings.report_to:
        if find_spec(package) is None:
            raise InputError(f"report_to {package} wants the package {package}; pip install {package}")
