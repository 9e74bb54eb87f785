"""Step sizes, number formats, optimisers and the like: what is chosen where nothing is set, and what cannot be."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from transformers.integrations import integration_utils

from devnull.agents import model_loading
from devnull.agents.prompt_format import PLAIN_PROMPT
from devnull.sandbox.errors import InputError
from devnull.training import models, trl_run
from devnull.training.learning_rates import choose_learning_rate
from devnull.training.models import count_parameters, load_policy
from devnull.training.reward_model import train_reward
from devnull.training.sampling import Sampling
from devnull.training.settings import (
    DPOSettings,
    GRPOSettings,
    KTOSettings,
    RewardSettings,
    SFTSettings,
)
from devnull.training.sft import train_sft
from devnull.training.tiny import make_tiny_model
from devnull.training.trl_run import trl_arguments
from tests.fakes import PretendRuntime, instances, pretend_verify
from tests.training_cases import TASK, episodes, message_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
KINDS = (SFTSettings, DPOSettings, KTOSettings, GRPOSettings, RewardSettings)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("choices") / "tiny", message_texts(episodes(4)))


def of_width(width: int, layers: int = 4) -> LlamaForCausalLM:
    shape: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 4}
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, **shape)
        )


def test_step_sizes_go_by_trainer_and_size() -> None:
    tiny, large = of_width(64, 1), of_width(576)
    assert [choose_learning_rate(kind(), tiny, "full") for kind in KINDS] == [4e-3, 1.5e-4, 1e-4, 1.2e-4, 1e-3]
    assert [choose_learning_rate(kind(), large, "full") for kind in KINDS] == [2e-5, 1e-6, 1e-6, 1e-6, 1e-4]
    assert choose_learning_rate(SFTSettings(), large, "lora") == choose_learning_rate(SFTSettings(), tiny, "lora")
    wide = choose_learning_rate(DPOSettings(), of_width(4096, 1), "qlora")
    assert wide == pytest.approx(2e-4 * (576 / 4096) ** 0.78, rel=0.01)
    assert choose_learning_rate(SFTSettings(learning_rate=0.3), large, "full") == 0.3


def test_what_is_set_reaches_the_trainer(tiny: Path, tmp_path: Path) -> None:
    policy = load_policy(tiny)
    plain = [trl_arguments(kind(), policy, tmp_path / "x") for kind in KINDS]
    assert [each["lr_scheduler_type"] for each in plain] == [
        "cosine", "constant_with_warmup", "constant", "constant", "cosine",
    ]  # fmt: skip
    assert not any("optim" in each for each in plain)
    changed = trl_arguments(SFTSettings(optimizer="adafactor", scheduler="linear"), policy, tmp_path / "x")
    assert (changed["optim"], changed["lr_scheduler_type"]) == ("adafactor", "linear")
    result = train_sft(
        SFTSettings(max_steps=2, optimizer="sgd", scheduler="linear", attention="eager", warmup=0.0),
        episodes(8), tiny, tmp_path / "out",
    )  # fmt: skip
    rates = [entry["learning_rate"] for entry in result.log if "learning_rate" in entry]
    assert rates == pytest.approx([4e-3, 2e-3])


def test_attention_and_revision_are_asked_for_when_the_model_is_loaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_policy(tiny, attention="eager").model.config._attn_implementation == "eager"
    with pytest.raises(InputError, match="revision is for models of the Hugging Face hub"):
        load_policy(tiny, revision="v1")
    if models.find_spec("flash_attn") is None:
        with pytest.raises(InputError, match="wants the package flash-attn"):
            load_policy(tiny, attention="flash_attention_2")
    asked: list[Any] = []
    monkeypatch.setattr(models, "check_model_available", lambda name: None)
    for loader in (models.AutoConfig, models.AutoTokenizer, models.AutoModelForCausalLM):
        real = loader.from_pretrained

        def local(
            name: str, *rest: Any, revision: str = "", real: Any = real, loader: Any = loader, **more: Any
        ) -> Any:
            asked.append((loader, revision))
            return real(tiny, *rest, **more)

        monkeypatch.setattr(loader, "from_pretrained", local)
    policy = load_policy("someone/model", revision="v1")
    everything = {models.AutoConfig, models.AutoTokenizer, models.AutoModelForCausalLM}
    assert {(each, "v1") for each in everything} <= set(asked) and policy.loaded_with == {"revision": "v1"}


def test_a_model_is_in_its_number_format_from_the_start(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []
    real = models.load_whole

    def spied(*rest: Any, **options: Any) -> Any:
        asked.append(options["dtype"])
        return real(*rest, **options)

    monkeypatch.setattr(models, "load_whole", spied)
    monkeypatch.setattr(models, "bfloat16_is_faster", lambda device: True)
    monkeypatch.setattr(models, "SMALL_MODEL_PARAMETERS", 1000)
    assert load_policy(tiny).model.dtype == asked[-1] == torch.bfloat16
    load_policy(tiny, dtype="float32")
    load_policy(tiny, adaptation="full")
    load_policy(tiny, adaptation="full", dtype="bfloat16")
    assert asked[1:] == [torch.float32, torch.float32, torch.bfloat16]


def test_counting_parameters_reads_no_weight_and_draws_no_number(tiny: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    assert count_parameters(str(tiny)) == load_policy(tiny).model.num_parameters()
    torch.manual_seed(0)
    count_parameters(str(tiny))
    assert torch.equal(torch.rand(2), expected)


def test_a_gpu_without_bfloat16_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 would be used; in float32 it goes on."""
    monkeypatch.setattr(models, "own_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    assert not model_loading.has_bfloat16()
    with pytest.raises(InputError, match="Tesla V100 has no bfloat16; set dtype float32"):
        load_policy(tiny, adaptation="lora")
    assert load_policy(tiny, adaptation="lora", dtype="float32").model.dtype == torch.float32
    assert load_policy(tiny).model.dtype == torch.float32


def test_what_cannot_be_is_one_line(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="head learns in float32"):
        train_reward(RewardSettings(dtype="bfloat16"), [], tiny, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(InputError, match="optimizer adamw_8bit"):
        trl_arguments(SFTSettings(optimizer="adamw_8bit"), load_policy(tiny), tmp_path / "x")


@pytest.mark.parametrize("name", ["optimizer", "dtype", "max_equal_batches", "scheduler", "attention", "revision"])
def test_runs_that_were_begun_without_a_setting_go_on(name: str, tiny: Path, tmp_path: Path) -> None:
    now = json.loads(json.dumps(dataclasses.asdict(GRPOSettings())))
    now = {key: value for key, value in now.items() if key not in trl_run.CHANGEABLE_ON_RESUME}
    then = {key: value for key, value in now.items() if key != name}
    (tmp_path / "settings.json").write_text(json.dumps(then | {"gradient_checkpointing": False}))
    trl_run._check_unchanged(tmp_path, now)


def test_what_is_sampled_on_the_way_reaches_the_trackers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is put in TensorBoard's place, where `report_to` looks trackers up."""
    pytest.importorskip("tensorboard")
    heard: list[tuple[int, dict[str, float]]] = []

    class Tracker(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            heard.append((state.global_step, dict(logs)))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Tracker)
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    runtime: Any = PretendRuntime(TASK)
    sampling = Sampling(
        every=2,
        instances=instances(2, TASK),
        runtime=runtime,
        measure=lambda found: {"J": float(len(found))},
        record=lambda episode: None,
        prompt=PLAIN_PROMPT,
    )
    settings = SFTSettings(max_steps=4, batch_size=2, report_to=("tensorboard",))
    result = train_sft(settings, episodes(8), tiny, tmp_path / "out", sampling=sampling)
    expected = [(0, 2.0), (2, 2.0), (4, 2.0)]
    assert [(step, logs["sampled/J"]) for step, logs in heard if "sampled/J" in logs] == expected
    assert [(entry["step"], entry["sampled/J"]) for entry in result.log if "sampled/J" in entry] == expected
    assert all("sampled/kl" in logs for _, logs in heard if "sampled/J" in logs)
