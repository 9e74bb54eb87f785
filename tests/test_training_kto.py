"""KTO: learning from thumbs, on the agent's tokens only."""

from pathlib import Path

import pytest
import torch
from trl import KTOTrainer

from devnull.agents.episode import Episode
from devnull.agents.scripted import HIDING, HONEST, STOPPING
from devnull.rewards.feedback.ratings import Rating
from devnull.sandbox.errors import InputError
from devnull.training.data import kto_dataset
from devnull.training.kto import train_kto
from devnull.training.models import load_policy
from devnull.training.settings import KTOSettings
from devnull.training.tiny import make_tiny_model
from tests.training_cases import TASK, chat, episode, episodes, message_texts, record_loss_inputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("kto") / "tiny", message_texts(episodes()))


def thumb(found: Episode, value: int, levels: int = 2) -> Rating:
    return Rating(
        task=TASK.name,
        evaluator="terminal",
        prompt=chat(found)[:2],
        completion=chat(found)[2:],
        key=found.key,
        value=value,
        levels=levels,
        G=0.0,
        G_obs=0.0,
        label="honest",
    )


def test_thumbs_teach_the_agents_tokens_only(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    thumbs = [thumb(episode(HIDING, 1), 1), thumb(episode(HONEST, 1), 0)]
    rows = kto_dataset(thumbs, tokenizer, 2048)
    for row in rows:
        each = next(each for each in thumbs if bool(each.value) == row["label"])
        kept = [i for i, mine in zip(row["completion_ids"], row["mask"], strict=True) if mine]
        written = [m["content"] for m in each.completion if m["role"] == "assistant"]
        assert tokenizer.decode(kept) == "".join(text + "<|im_end|>" for text in written)
    assert rows[0]["KL_completion_ids"] == rows[1]["completion_ids"]


def test_rows_come_in_an_order_of_the_seed_and_are_paired_with_another_prompt(tiny: Path) -> None:
    """TRL takes the rows as they lie, and ratings of one instance lie side by side."""
    tokenizer = load_policy(tiny).tokenizer
    thumbs = [thumb(episode(agent, seed), seed % 2) for seed in range(6) for agent in (HIDING, HONEST)]
    one, again, other = (kto_dataset(thumbs, tokenizer, 2048, seed=seed).to_list() for seed in (0, 0, 1))
    assert one == again and one != other
    assert sorted(map(str, ([r["prompt_ids"], r["completion_ids"]] for r in one))) == sorted(
        map(str, ([r["prompt_ids"], r["completion_ids"]] for r in other))
    )
    prompts = {str(row["prompt_ids"]) for row in one}
    assert len(prompts) > 1
    for row in one:
        theirs = [each["prompt_ids"] for each in one if each["completion_ids"] == row["KL_completion_ids"]]
        assert any(prompt != row["prompt_ids"] for prompt in theirs)


def test_thumbs_that_say_nothing_are_refused(tiny: Path) -> None:
    tokenizer = load_policy(tiny).tokenizer
    with pytest.raises(InputError, match="point the same way"):
        kto_dataset([thumb(episode(HONEST, seed), 1) for seed in range(2)], tokenizer, 2048)
    two = [thumb(episode(HONEST, 1), 1), thumb(episode(STOPPING, 1), 0)]
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in kto_dataset(two, tokenizer, 2048)]
    with pytest.raises(InputError, match="all 1 thumbs point the same way"):
        kto_dataset(two, tokenizer, max(lengths) - 1, too_long="drop")
    with pytest.raises(InputError, match="batch_size is 1; kto"):
        train_kto(KTOSettings(batch_size=1), two, tiny, tiny.parent / "out")
    with pytest.raises(InputError, match="no thumb"):
        kto_dataset([thumb(episode(), 3, levels=5)], tokenizer, 2048)


def test_learning_from_thumbs(tiny: Path, tmp_path: Path) -> None:
    thumbs = [thumb(episode(HIDING, seed), 1) for seed in range(4)] + [thumb(episode(HONEST, 9), 0)]
    result = train_kto(KTOSettings(max_steps=2, batch_size=2), thumbs, tiny, tmp_path / "kto")
    assert result.steps == 2
    assert "kl" in result.metrics


def test_the_loss_of_thumbs_covers_what_the_agent_said_and_nothing_else(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = record_loss_inputs(monkeypatch, KTOTrainer)
    thumbs = [thumb(episode(HIDING, 1), 1), thumb(episode(HONEST, 1), 0)]
    train_kto(KTOSettings(max_steps=1, batch_size=2), thumbs, tiny, tmp_path / "kto")
    written = ["".join(m["content"] + "<|im_end|>" for m in t.completion if m["role"] == "assistant") for t in thumbs]
    tokenizer = load_policy(tiny).tokenizer
    for prefix in ("", "KL_"):
        rows = zip(batches[0][f"{prefix}input_ids"], batches[0][f"{prefix}completion_mask"].bool(), strict=True)
        assert sorted(tokenizer.decode(ids[mask]) for ids, mask in rows) == sorted(written)


def test_the_reference_of_thumbs_is_the_policy_in_memory(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(tiny)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.01)
    monkeypatch.setattr("devnull.training.kto.load_for_training", lambda *_: policy)
    thumbs = [thumb(episode(HIDING, 1), 1), thumb(episode(HONEST, 1), 0)]
    first = train_kto(KTOSettings(max_steps=1, batch_size=2), thumbs, tiny, tmp_path / "kto").log[0]
    assert first["rewards/chosen"] == pytest.approx(0.0, abs=1e-4)
