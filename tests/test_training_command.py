"""`devnull train` through its front door: examples that parse, one line for what cannot be, a whole small run."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from devnull.agents.scripted import make_mixture
from devnull.cli.commands import train
from devnull.cli.main import main
from devnull.cli.runs.json_lines import append_line, read_lines
from devnull.cli.runs.run_folder import read_episodes
from devnull.cli.terminal.console import insert_config, parse_arguments
from devnull.rewards.feedback.comparisons import Preference
from devnull.sandbox.atomic_file import write_atomically
from devnull.sandbox.errors import BoxDied, InputError
from devnull.training.settings import DPOSettings, GRPOSettings, KTOSettings, RewardSettings, SFTSettings, check_ranges
from devnull.training.tiny import make_tiny_model
from tests.fakes import PretendRuntime, pretend_verify
from tests.training_cases import TASK, episodes, preferences, warm_start

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted([*(ROOT / "examples").glob("*.toml"), *(ROOT / "examples" / "gpu").glob("*.toml")])
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    write_atomically(path / "run.json", json.dumps({"command": "rollout", "config": {}, "wall_seconds": {}}))
    for episode in episodes(8):
        append_line(path / "episodes.jsonl", episode)
    write_atomically(path / "preferences.jsonl", "".join(pair.model_dump_json() + "\n" for pair in preferences(6)))
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_says_what_to_expect_and_parses(path: Path) -> None:
    trainer = path.stem.removeprefix("smollm2-").split("-")[0].replace("qlora", "sft")
    if trainer not in ("sft", "dpo", "grpo", "reward"):
        pytest.skip(f"{path.name} is an example of another command")
    assert "Expect" in path.read_text() or "works" in path.read_text()
    words = [trainer, "run", "--config", str(path)]
    assert parse_arguments(train.Args, "devnull train", insert_config(words), None).run == Path("run")


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("epocs = 1\n")
    with pytest.raises(InputError, match="epocs"):
        parse_arguments(
            train.Args, "devnull train", insert_config(["sft", "run", "--config", str(tmp_path / "bad.toml")]), None
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sft", "{run}", "--arms", "nobody"], "no arm 'nobody'; there are scripted"),
        (["dpo", "{run}", "--feedback", "x"], "there are preferences.jsonl"),
        (["sft", "{run}/nowhere"], "no such run folder"),
        (["reward", "{run}", "--marginalised", "--annotations", "truth"], "leave --annotations out"),
        (["grpo", "{run}", "--reward", "{run}", "--model", "tiny"], "holds no reward model"),
        (["sft", "{run}", "--model", "./nowhere"], "is no folder"),
        (["dpo", "{run}", "--label-noise", "0.1"], "robust"),
        (["grpo", "{run}", "--vllm", "--adaptation", "qlora", "--model", "tiny"], "no adapters on a base in 4 bits"),
        (["sft", "{run}", "--batch-size", "0"], "batch_size is 0; it must be at least 1"),
        (["sft", "{run}", "--push-to-hub", "not/a/name"], "cannot be made on the Hugging Face hub"),
        (["sft", "{run}", "--report-to", "trackio"], "pip install trackio"),
        (["grpo", "{run}", "--annotations", "truth"], "for a reward model"),
        (["grpo", "{run}", "--ending", "believed"], "for a marginalised reward model, and --reward is believed"),
        (["reward", "{run}", "--ending", "mean"], "pass --marginalised too"),
        (["sft", "{run}", "--out", "{run}"], "holds something else than a trained model, and would be replaced"),
        (["sft", "{run}", "--out", "{run}/run.json"], "holds something else than a trained model"),
        (["sft", "{run}", "--out", "."], "holds something else than a trained model"),
        (["dpo", "{run}", "--rounds", "2", "--group", "0"], "--group is 0; it must be at least 1"),
        (["dpo", "{run}", "--rounds", "2", "--pairs", "0"], "--pairs is 0; it must be at least 1"),
        (["grpo", "{run}", "--instances", "-1"], "--instances is -1; it must be at least 1"),
        (["grpo", "{run}", "--reward", "{policy}", "--model", "tiny"], "it is a LlamaForCausalLM"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    def no_trackio(name: str) -> ModuleSpec | None:
        return None if name == "trackio" else find_spec(name)

    monkeypatch.setattr("devnull.training.models.urlopen", no_network)
    monkeypatch.setattr("devnull.training.settings.find_spec", no_trackio)
    policy = make_tiny_model(run / "policy", ["some text"]) if "{policy}" in words else None
    assert main(["train", *(word.format(run=run, policy=policy) for word in words)]) == 2
    assert not (run / "checkpoints" / words[0]).exists()
    complaint = capsys.readouterr().err.strip().splitlines()
    assert expected in complaint[-1]
    assert "Traceback" not in "".join(complaint)


def without_template(model: Path) -> None:
    (model / "chat_template.jinja").unlink()


def without_end_of_turn(model: Path) -> None:
    text = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    (model / "chat_template.jinja").write_text(text)


def torn(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def half(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "layers.1" not in name}, model / "model.safetensors")


def no_model(model: Path) -> None:
    (model / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "flags", "expected"),
    [
        (without_template, [], "has no chat template"),
        (without_end_of_turn, [], "ends no turn with a special token"),
        (torn, [], "policy' cannot be loaded"),
        (half, [], "its files lack"),
        (no_model, [], "policy' cannot be loaded"),
        (None, ["--max-length", "20"], "longer than max_length=20"),
        (None, ["--adaptation", "lora", "--lora-targets", "q_prj"], "q_prj'; did you mean 'q_proj'?"),
        (None, ["--lora-targets", "q_proj"], "all weights of"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_model_that_cannot_be_trained_is_one_line(
    run: Path, spoil: Callable[[Path], None] | None, flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = make_tiny_model(run / "policy", ["some text"])
    if spoil is not None:
        spoil(policy)
    assert main(["train", "sft", str(run), "--model", str(policy), *flags]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()
    assert expected in complaint[-1] and "Traceback" not in "".join(complaint)
    assert not (run / "checkpoints" / "sft").exists()


def test_an_adapter_of_another_base_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = make_tiny_model(run / "base", ["some text"])
    adapter = run / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules="all-linear")).save_pretrained(
        adapter
    )
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)

    def complaint(*words: str) -> str:
        assert main(list(words)) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    rollout = ["rollout", "--out", str(run / "other"), "--tasks", TASK.name, "--runtime", "rootless"]
    other = make_tiny_model(run / "sibling", ["some text"])
    assert "was learnt on" in complaint(*rollout, "--agent", f"hf:{other}", "--adapter", str(adapter))
    assert "adapter 'nope' is no folder" in complaint(*rollout, "--agent", f"hf:{base}", "--adapter", "nope")
    assert "is put on a model" in complaint(*rollout, "--agent", "honest", "--adapter", str(adapter))
    train = ["train", "sft", str(run), "--model", str(adapter)]
    config = AutoConfig.from_pretrained(base)
    config.intermediate_size *= 2
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    assert "of a model with other layers" in complaint(*train)
    shutil.rmtree(base)
    assert "was learnt on another model: model" in complaint(*train)


@pytest.mark.parametrize(("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "Deep")])
def test_weights_shared_out_are_refused_before_anything_loads(
    variable: str, name: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    monkeypatch.setattr("devnull.cli.commands.train.read_episodes", None)
    assert main(["train", "sft", str(run)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"devnull: {name}")


@pytest.mark.parametrize("kind", [SFTSettings, DPOSettings, RewardSettings, GRPOSettings, KTOSettings])
def test_no_number_among_the_settings_is_taken_unseen(kind: type) -> None:
    """A batch of 0 or a rate of NaN would be a traceback in the middle, or a run of no steps that says it is done."""
    check_ranges(kind())
    for field in dataclasses.fields(kind):
        now = getattr(kind(), field.name)
        if "Literal" in str(field.type) or not ("int" in str(field.type) or "float" in str(field.type)):
            continue
        for wrong in (-7, math.nan):
            if field.name == "label_noise" or (wrong != -7 and "float" not in str(field.type)):
                continue  # `devnull.training.dpo` looks at it beside the loss
            with pytest.raises(InputError, match=f"{field.name} is "):
                check_ranges(kind(**{field.name: type(now)(wrong) if now else wrong}))


def test_which_episode_ended_first_changes_nothing(run: Path, tmp_path: Path) -> None:
    def trained(name: str) -> bytes:
        model, out = str(run / "checkpoints" / "tiny"), tmp_path / name
        words = ["--model", model, "--max-steps", "2", "--batch-size", "2", "--samples", "0", "--out", str(out)]
        assert main(["train", "sft", str(run), *words]) == 0
        return (out / "model.safetensors").read_bytes()

    make_tiny_model(run / "checkpoints" / "tiny", ["```bash\nls\n```", "Done: finished."])
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    first = trained("first")
    write_atomically(run / "episodes.jsonl", "".join(lines[::-1]))
    assert trained("again") == first


def test_sft_then_dpo_then_a_reward_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--samples", "0", "--json", "--max-steps", "2", "--batch-size", "2"]
    for words in (
        ["sft", str(run), "--conditional"],
        ["dpo", str(run), "--model", str(run / "checkpoints" / "sft")],
        ["reward", str(run), "--annotations", "none"],
    ):
        assert main(["train", *words, *common]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["steps"] == 2
        assert (Path(found["path"]) / "model.safetensors").exists()
        expected = "feedback on run run" if words[0] != "sft" else "run run, all arms"
        assert f"| data | {expected} |\n| evaluator |" in (Path(found["path"]) / "README.md").read_text()


class Stopped(PretendRuntime):
    """Its boxes start so often and no more."""

    def __init__(self, starts: int) -> None:
        super().__init__(TASK)
        self.left = starts

    def on_start(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise BoxDied("gone")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return warm_start(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> list[PretendRuntime]:
    """The runtimes that the command will find, one after the other."""
    found: list[PretendRuntime] = []
    monkeypatch.setattr("devnull.cli.commands.train.open_boxes", lambda *_: found.pop(0))
    monkeypatch.setattr("devnull.agents.live_episode.verify", pretend_verify)
    return found


def test_what_was_played_online_is_kept_once_and_the_sampled_episodes_too(
    run: Path, warm: Path, boxes: list[PretendRuntime], capsys: pytest.CaptureFixture[str]
) -> None:
    """The boxes go away in the second batch; the same command goes on, and plays that batch's first episodes again."""
    words = ["train", "grpo", str(run), "--model", str(warm), "--max-steps", "2", "--batch-size", "4", "--group", "2"]
    words += ["--workers", "2", "--max-turns", "2", "--checkpoint-steps", "1", "--samples", "3"]
    boxes.extend([Stopped(6), PretendRuntime(TASK), PretendRuntime(TASK)])
    assert main(words) == 1
    out = run / "checkpoints" / "grpo"
    kept = (out.with_name("grpo.part") / "episodes" / "episodes.jsonl").read_bytes()
    assert main(words) == 0
    assert (out / "episodes" / "episodes.jsonl").read_bytes().startswith(kept)
    played = [episode for episode in read_episodes(out / "episodes") if episode.error is None]
    assert len(played) == len({episode.key for episode in played}) == 8
    sampled = list(read_episodes(out / "sampled"))
    assert sorted((each.seed, each.faulty) for each in sampled) == [
        (seed, faulty) for seed in sorted({each.seed for each in sampled}) for faulty in (False, True)
    ]
    assert len(sampled) == 4  # each instance under both builds: a pair is never cut
    capsys.readouterr()
    assert main(["eval", str(out / "sampled"), "--json"]) == 0
    card = (out / "README.md").read_text()
    assert (
        "| evaluator | terminal |\n| view | terminal |" in card
        and "| sampled on held-out tasks | 95 % interval |" in card
    )
    rates = json.loads((out / "sampled.json").read_text())
    assert json.loads(capsys.readouterr().out)["arms"]["sampled"]["J"]["value"] == rates["J"]["value"]


def test_a_round_broken_off_keeps_its_episodes(
    run: Path, warm: Path, boxes: list[PretendRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnull.agents.local.LocalModel", lambda _: make_mixture({"honest": 0.5, "hiding": 0.5}))
    words = ["train", "dpo", str(run), "--model", str(warm), "--rounds", "2", "--episodes", "8", "--pairs", "8"]
    words += ["--boxes", "2", "--max-steps", "1", "--batch-size", "2", "--stratify-builds", "--samples", "0"]
    boxes.extend([Stopped(11), PretendRuntime(TASK)])
    assert main(words) == 1
    rollouts = run / "checkpoints" / "dpo" / "rollouts"
    kept = (rollouts / "episodes.jsonl").read_bytes()
    assert main(words) == 0
    assert (rollouts / "episodes.jsonl").read_bytes().startswith(kept)
    played = [episode for episode in read_episodes(rollouts) if episode.error is None]
    assert [sum(each.arm == f"round-{n}" for each in played) for n in (1, 2)] == [8, 8]
    assert len({each.key for each in played}) == 16
    assert [sum(each.faulty for each in played if each.arm == f"round-{n}") for n in (1, 2)] == [4, 4]
    assert all(list(read_lines(rollouts / f"preferences-round-{n}.jsonl", Preference)) for n in (1, 2))
    assert main([*words[:-2], "--beta", "0.9"]) == 2
