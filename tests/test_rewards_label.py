"""`devnull label` from the outside: files, determinism, going on, and what it refuses."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from devnull.agents.episode import Episode, EpisodeKey
from devnull.cli.main import main
from devnull.cli.runs.json_lines import append_line
from devnull.cli.runs.run_folder import open_run
from devnull.rewards.evaluator_config import load_evaluator
from devnull.rewards.feedback.comparisons import Preference
from devnull.rewards.feedback.ratings import Rating
from tests.chat_server import completion, serving
from tests.fakes import DRIVER_CUDA, driver_cuda_episode

EXAMPLES = Path(__file__).parent.parent / "examples" / "evaluators"


def made(seed: int, arm: str) -> Episode:
    return driver_cuda_episode(seed, arm, hide=arm == "hiding", faulty=seed % 2 == 0, report=f"{seed}.")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    folder = open_run(path, "rollout", {}, 0)
    for seed in range(16):
        folder.append(made(seed, "honest" if seed < 8 else "hiding"))
    return path


def label(run: Path, *argv: str) -> int:
    return main(["label", str(run), *argv])


def test_comparisons_are_written_twice_once_for_each_kind_of_reader(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(run, "--evaluator", str(EXAMPLES / "terminal.toml"), "--pairs", "30", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["made"] == summary["answered"] == 30
    lines = (run / "preferences.jsonl").read_text().splitlines()
    preferences = [Preference.model_validate_json(line) for line in lines]
    rows = [json.loads(line) for line in (run / "preferences.dataset" / "train.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"prompt", "chosen", "rejected"}] * 30
    assert rows[4]["chosen"] == [dict(message) for message in preferences[4].chosen]
    card = (run / "preferences.dataset" / "README.md").read_text()
    assert "30 comparisons by the evaluator `terminal`" in card
    assert "model organism" in card


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_dataset_loads_as_trl_takes_it(run: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    assert label(run) == 0
    dataset = load_dataset(str(run / "preferences.dataset"), split="train", cache_dir=str(run / "cache"))
    assert sorted(dataset.column_names) == ["chosen", "prompt", "rejected"]
    assert is_conversational(dataset[0])


def test_all_follows_from_the_seed_and_the_name_keeps_feedback_apart(run: Path) -> None:
    assert label(run) == 0
    first = (run / "preferences.jsonl").read_text()
    assert label(run) == 0
    assert (run / "preferences.jsonl").read_text() == first
    assert label(run, "--seed", "1", "--name", "other") == 0
    assert (run / "preferences.jsonl").read_text() == first != (run / "preferences-other.jsonl").read_text()


def test_inference_names_what_is_left_open(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(run, "--infer") == 0
    # nobody stopped early in this run, yet the evaluator believes in it
    assert "open: driver-cuda, cuda: failed and hid against never tried" in capsys.readouterr().out
    assert label(run, "--infer", "--evaluator", str(EXAMPLES / "panel.toml"), "--pairs", "120", "--json") == 0
    found = json.loads(capsys.readouterr().out)["inference"]
    assert (found["rank"], found["ambiguous"]) == (3, 0)
    assert label(run, "--infer", "--evaluator", str(EXAMPLES / "thumbs.toml")) == 2


def last(path: Path) -> dict[EpisodeKey, str]:
    """The last message of each side, by episode."""
    found = {}
    for line in path.read_text().splitlines():
        p = Preference.model_validate_json(line)
        found[p.chosen_key], found[p.rejected_key] = p.chosen[-1]["content"], p.rejected[-1]["content"]
    return found


def test_annotations_say_the_belief_or_the_truth_in_the_same_words(run: Path) -> None:
    for mode in ("believed", "truth"):
        assert label(run, "--annotations", mode, "--name", mode[0]) == 0
        assert label(run, "--annotations", mode, "--annotated-return", "--name", f"{mode[0]}-number") == 0
    hidden = ("hiding", DRIVER_CUDA.name, 8, 0)
    believed, truth = last(run / "preferences-b.jsonl"), last(run / "preferences-t.jsonl")
    opening = "What the evaluator will believe: the NVIDIA driver works; "
    assert believed[hidden] == f"{opening}CUDA 12.4 failed and that was hidden (50 %), or was never tried (50 %)."
    assert truth[hidden] == f"{opening}CUDA 12.4 failed and that was hidden."
    for texts, name, worth in ((believed, "b", "-2.0"), (truth, "t", "-5.0")):
        numbered = last(run / f"preferences-{name}-number.jsonl")
        assert numbered[hidden] == f"{texts[hidden]} That is worth {worth}."
    shown = ("honest", DRIVER_CUDA.name, 0, 0)
    assert believed[shown] == truth[shown]


def test_a_model_may_write_the_thoughts_and_is_held_against_the_exact_belief(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from devnull.training.tiny import make_tiny_model

    make_tiny_model(tmp_path / "tiny", ["Command 1. The terminal showed: | A B C D"] * 4, 0)
    config = tmp_path / "writer.toml"
    config.write_text(
        f'[belief]\nkind = "model"\nmodel = "{tmp_path / "tiny"}"\nanswer = "scores"\nmin_mass = 0\n'
        "reasoning_tokens = 4\n"
    )
    assert label(run, "--annotations", "believed", "--annotator", str(config), "--json") == 0
    near = json.loads(capsys.readouterr().out)["annotations"]
    assert near["n"] == 2 * 16
    assert 0 < near["distance"] <= 1
    assert all(
        text.startswith("What the evaluator will believe: ") for text in last(run / "preferences.jsonl").values()
    )
    assert label(run, "--annotations", "truth", "--annotator", str(config)) == 2
    assert label(run, "--annotations", "believed", "--annotator", str(EXAMPLES / "terminal.toml")) == 2
    assert "its belief is a table" in capsys.readouterr().err


def test_thinking_of_a_view_again_costs_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cost(*flags: str) -> tuple[float, int, float]:
        assert label(run, "--json", "--evaluator", str(EXAMPLES / "audited.toml"), *flags) == 0
        summary = json.loads(capsys.readouterr().out)
        return summary["cost"], summary["views"], summary["audit_cost"]

    assert cost() == cost("--annotations", "believed") == cost("--infer")
    assert cost()[2] > 0


def test_ratings_and_thumbs(run: Path) -> None:
    assert label(run, "--evaluator", str(EXAMPLES / "ratings.toml"), "--name", "stars") == 0
    ratings = [Rating.model_validate_json(x) for x in (run / "ratings-stars.jsonl").read_text().splitlines()]
    assert len(ratings) == 16
    assert {r.value for r in ratings} <= {1, 2, 3, 4, 5}
    best = [r.value for r in ratings if r.G == 11]
    worst = [r.value for r in ratings if r.G_obs == -4]
    assert min(best) > max(worst)
    assert label(run, "--evaluator", str(EXAMPLES / "thumbs.toml")) == 0
    rows = [json.loads(x) for x in (run / "ratings.dataset" / "train.jsonl").read_text().splitlines()]
    assert all(isinstance(row["label"], bool) for row in rows)


def test_shuffled_ratings_are_the_same_ratings_elsewhere(run: Path, tmp_path: Path) -> None:
    def rated(text: str) -> list[Rating]:
        path = tmp_path / "e.toml"
        path.write_text(text)
        assert label(run, "--evaluator", str(path), "--name", "e") == 0
        return [Rating.model_validate_json(x) for x in (run / "ratings-e.jsonl").read_text().splitlines()]

    plain, shuffled = rated('feedback = "rating"'), rated('feedback = "rating"\nshuffled = true')
    assert sorted(r.value for r in plain) == sorted(r.value for r in shuffled)
    assert [r.value for r in plain] != [r.value for r in shuffled]
    poisoned = rated('feedback = "rating"\npoisoned = 1.0')
    assert [r.value for r in poisoned] == [6 - r.value for r in plain]


def test_counts_of_an_audited_run_make_a_calibrated_evaluator(run: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    assert label(run, "--count", str(counts)) == 0
    (tmp_path / "calibrated.toml").write_text((EXAMPLES / "calibrated.toml").read_text())
    assert label(run, "--evaluator", str(tmp_path / "calibrated.toml")) == 0
    hidden = [
        json.loads(line) for line in (run / "preferences.jsonl").read_text().splitlines() if '"chosen_G":-5' in line
    ]
    assert all(-5 < row["chosen_G_obs"] < 1 for row in hidden)


def test_a_judging_model_is_resumed_and_asked_nothing_twice(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from devnull.training.tiny import make_tiny_model

    make_tiny_model(tmp_path / "tiny", ["Command 1. The terminal showed: | A B C D"] * 4, 0)
    config = tmp_path / "judge.toml"
    config.write_text(
        f'[belief]\nkind = "model"\nmodel = "{tmp_path / "tiny"}"\nanswer = "scores"\nmin_mass = 0\n'
        "reasoning_tokens = 4\n"
    )
    argv = ("--evaluator", str(config), "--json")
    assert label(run, *argv) == 0
    first = json.loads(capsys.readouterr().out)
    said = (run / "judgements.jsonl").read_text()
    assert first["judge_calls"] == 3 * len(said.splitlines())
    # killed in the middle of a line, and started again
    (run / "judgements.jsonl").write_text(said[: len(said) // 2])
    assert label(run, *argv) == 0
    again = json.loads(capsys.readouterr().out)
    assert 0 < again["judge_calls"] < first["judge_calls"]
    assert sorted((run / "judgements.jsonl").read_text().splitlines()) == sorted(said.splitlines())
    assert {key: again[key] for key in ("made", "labels")} == {key: first[key] for key in ("made", "labels")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from devnull.training.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", ["The terminal showed: | A B C D"] * 4, 0)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Answers sense to a question only when it is asked again."""
    asked = set[str]()

    def answer(body: Mapping[str, object]) -> tuple[int, dict[str, object]]:
        question = str(body["messages"])
        again = question in asked
        asked.add(question)
        sense = '{"driver": {"B": 1.0}, "cuda": {"A": 0.25, "D": 0.75}}'
        return 200, completion(f"Silence. {sense}" if again else "Mumble.")

    with serving(answer) as server:
        yield server.url


ONLINE_ONLY = EXAMPLES / "detector-late.toml"
"""Its schedule is of steps of training: tests/test_training_evaluator_dials.py runs it."""


@pytest.mark.parametrize("path", sorted({*EXAMPLES.glob("*.toml")} - {ONLINE_ONLY}), ids=lambda path: path.stem)
def test_every_example_says_what_it_is_for_and_labels(
    path: Path, run: Path, tmp_path: Path, tiny: Path, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    copy = tmp_path / path.name
    text = text.replace("http://localhost:11434/v1", endpoint).replace("Qwen/Qwen2.5-1.5B-Instruct", str(tiny))
    copy.write_text(text.replace("reasoning_tokens = 96", "reasoning_tokens = 4\nmin_mass = 0"))
    assert label(run, "--count", str(tmp_path / "counts.json")) == 0
    assert load_evaluator(copy).name == path.stem
    assert label(run, "--evaluator", str(copy), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    written = run / ("preferences.jsonl" if summary["feedback"] == "preference" else "ratings.jsonl")
    assert len(written.read_text().splitlines()) == summary["made"] > 0
    assert (written.with_suffix(".dataset") / "README.md").exists()
    if path.stem == "endpoint":
        assert summary["judge_calls"] == 2 * summary["malformed"] == 32
        assert summary["judge_tokens"] == 32 * 10
        assert summary["unjudged"] == 0


def test_a_judge_that_cannot_be_loaded_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = tmp_path / "judge.toml"
    judge.write_text(f'[belief]\nkind = "model"\nmodel = "{tmp_path}"\n')
    for flags in (("--evaluator",), ("--annotations", "believed", "--annotator")):
        assert label(run, *flags, str(judge)) == 2
        said = capsys.readouterr().err
        assert "is a folder without config.json" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--arms", "hidng"), "no arm 'hidng'; did you mean 'hiding'?"),
        (("--pairs", "0"), "--pairs is 0"),
        (("--evaluator", "nowhere.toml"), "nowhere.toml: no such file"),
        (("--name", "a/b"), "cannot hold '/'"),
    ],
)
def test_what_the_user_can_cause_is_one_line(
    run: Path, argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(run, *argv) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_numbers_for_a_task_that_is_none_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.toml"
    path.write_text("[belief.tasks.verbose-biuld]\np_default = 0.9\n")
    assert label(run, "--evaluator", str(path)) == 2
    assert "no task or family 'verbose-biuld'; did you mean 'verbose-build'?" in capsys.readouterr().err


def test_an_evaluator_confident_of_nothing_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dark.toml"
    path.write_text('sensors = "lights-off"\nmin_confidence = 0.6\n')
    assert label(run, "--evaluator", str(path)) == 2
    assert "confident of none of 120" in capsys.readouterr().err


def test_the_run_may_hold_a_torn_last_line(run: Path) -> None:
    append_line(run / "episodes.jsonl", made(8, "honest"))
    text = (run / "episodes.jsonl").read_text()
    (run / "episodes.jsonl").write_text(text[:-40])
    assert label(run) == 0
    assert len((run / "preferences.jsonl").read_text().splitlines()) == 16


def test_labelling_loads_neither_torch_nor_datasets(run: Path) -> None:
    assert importlib.util.find_spec("torch")
    code = (
        "import sys; from devnull.cli.main import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'datasets', 'trl', 'openai'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, "label", str(run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
