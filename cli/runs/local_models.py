"""The language models that a name stands for: `tiny`, `tiny:run`, `smollm2`, a folder, or a name of the hub."""

import sys
from collections.abc import Sequence
from pathlib import Path

from devnull.agents.episode import Episode
from devnull.rewards.feedback.comparisons import episode_messages
from devnull.sandbox.cache import cache_folder, lock_build


def resolve_model(name: str) -> str:
    """What to load for `name`: for `smollm2` its folder, fetched on first use; else the name itself.

    Raises `InputError` for a model that is not there or that cannot be reached.
    """
    from devnull.training.models import check_model_available
    from devnull.training.smollm2 import fetch_smollm2

    path = str(fetch_smollm2(cache_folder())) if name == "smollm2" else name
    check_model_available(path)
    return path


def base_model(name: str, tiny: Path, episodes: Sequence[Episode], seed: int = 0) -> Path | str:
    """What training starts from: for `tiny` an untrained model; `tiny:run`: with a tokenizer trained on the episodes.

    Args:
        tiny: Folder of the `tiny` model; made unless it exists.
        seed: Of the `tiny` model's weights.
    """
    match name:
        case "tiny" | "tiny:run":
            from devnull.training.tiny import make_tiny_model

            texts = None
            if name == "tiny:run":
                tiny = tiny.with_name(f"{tiny.name}-run")
                texts = [message["content"] for episode in episodes for message in episode_messages(episode)]
            if tiny.exists():
                return tiny
            tiny.parent.mkdir(parents=True, exist_ok=True)
            with lock_build(f".{tiny.name}", lambda line: print(line, file=sys.stderr), tiny.parent):
                return tiny if tiny.exists() else make_tiny_model(tiny, texts, seed)
        case "smollm2":
            from devnull.training.smollm2 import fetch_smollm2

            return fetch_smollm2(cache_folder())
        case other:
            return other
