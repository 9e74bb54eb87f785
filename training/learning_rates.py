"""The optimiser's step size where none is set: by trainer, by which weights learn, and by the model's size."""

from typing import Any

from devnull.training.settings import TrainerSettings

SMALL_MODEL_PARAMETERS = 10_000_000
"""Models with fewer train all weights by default, at rates that were tuned on half a million (`tiny`)."""
_TUNED_WIDTH, _EXPONENT = 576, 0.78
"""Adapters' rates were tuned at SmolLM2's width, and fall with the width to this power."""


def choose_learning_rate(settings: TrainerSettings, model: Any, adaptation: str) -> float:
    """The step size of `settings`, or else the default for this model.

    All weights: at 4e-3, which is right for `tiny`, SmolLM2 diverges in SFT (loss 2.23 to 14.9); at 2e-5 it learns (to
    0.77). Adapters of a model of width h: (576 / h)^0.78 of SmolLM2's.

    Args:
        model: Causal language model.
        adaptation: Which of its weights learn, `full`, `lora` or `qlora`.
    """
    if settings.learning_rate is not None:
        return settings.learning_rate
    rate = settings.default_learning_rates[adaptation]
    if model.num_parameters() < SMALL_MODEL_PARAMETERS:
        return rate
    if adaptation == "full":
        return settings.large_model_rate
    width = int(model.config.get_text_config().hidden_size)
    return float(f"{rate * (_TUNED_WIDTH / width) ** _EXPONENT:.3g}")
