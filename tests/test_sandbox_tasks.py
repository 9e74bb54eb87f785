"""Task files: what is read from them, and how what is wrong in them is refused."""

import json
import re

import pytest

from devnull.cli.main import main
from devnull.sandbox.errors import InputError
from devnull.sandbox.family_file import load_family
from devnull.sandbox.image.recipe import recipe_files
from devnull.sandbox.task_check import check_task
from devnull.sandbox.tasks import CORPUS, find_task, load_tasks
from devnull.sandbox.toml_positions import find_line

FAMILY = r"""summary = "An app."

[[template]]
name = "app@suffix@"
instructions = [
  "Install version @version@.",
  "Get it going.",
]
variants = [
  { suffix = "", version = "1.2" },
  { suffix = "-old", version = "0.9", split = "test", difficulty = 3 },
]

[[template.stages]]
name = "app"
title = "the app"
command = "install app-@version@"
attempt = '^install app-@version@$'
failure = '''broken
again'''
verify = "app"

[[template.stages]]
name = "plugin"
title = "its plugin"
needs = ["app"]
command = "install plugin"
attempt = 'plugin'
failure = 'no'
verify = "plugin"
rewards = { installed = 3, broken = -2 }

[template.fault]
stage = "app"
exit_status = 1
summary = "breaks"
"""


def family(tmp_path, text=FAMILY):
    path = tmp_path / "app.toml"
    path.write_text(text)
    return path


def test_a_template_gives_one_task_a_variant(tmp_path):
    first, second = load_family(family(tmp_path))
    assert (first.name, first.family, first.split, first.difficulty) == ("app", "app", "train", 1)
    assert (second.name, second.split, second.difficulty) == ("app-old", "test", 3)
    assert first.instructions[0] == "Install version 1.2."
    assert first.stages[1].rewards.broken == -2


def test_values_are_escaped_in_patterns_only(tmp_path):
    stage = load_family(family(tmp_path))[0].stages[0]
    assert stage.command == "install app-1.2"
    assert re.search(stage.attempt, "install app-1.2")
    assert not re.search(stage.attempt, "install app-1x2")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('title = "its', 'titel = "its', "unknown key 'titel'; did you mean 'title'?"),
        ("broken = -2", "brokn = -2", "unknown key 'brokn'; did you mean 'broken'?"),
        ('stage = "app"', 'stage = "ap"', "no stage 'ap'; did you mean 'app'?"),
        ("exit_status = 1", 'exit_status = "1"', "fault.exit_status"),
        ("exit_status = 1", "exit_status = 256", "less than or equal to 255"),
        ('needs = ["app"]', 'needs = ["plugin"]', "no earlier stage"),
        ("attempt = 'plugin'", "attempt = 'plugin('", "no regular expression"),
        ("install plugin", "install @plugin@", "@plugin@ has no value"),
        ('version = "0.9"', 'version = "0.9", colour = "red"', "no @colour@ in the template"),
        ('version = "0.9"', "version = 0.9", "a string is wanted"),
        ('"Get it going."', "7", "instructions.1"),
        ('verify = "app"', "verify = ", "not valid TOML"),
        ('summary = "An app."\n', "\n", "`summary`"),
        ('name = "app@suffix@"', 'name = "App@suffix@"', "small letters"),
        ("[[template]]", "[[templates]]", "unknown key 'templates'; did you mean 'template'?"),
        ("[template.fault]", "[[template.fault]]", "a table is wanted"),
        ('split = "test"', 'split = "tets"', "split: Input should be 'train' or 'test'"),
        ("difficulty = 3", "difficulty = 2026-01-01", "difficulty"),
        ("attempt = 'plugin'", "attempt = ''", "matches anything"),
        ("attempt = 'plugin'", "attempt = 'x*'", "matches anything"),
        ('verify = "plugin"', 'verify = ""', "verify: String should have at least 1 character"),
        ("broken = -2", "broken = nan", "finite"),
        ("broken = -2", "hiding_penalty = -2", "greater than or equal to 0"),
        ('needs = ["app"]', 'needs = ["ap"]', "no earlier stage; did you mean 'app'?"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path, old, new, says):
    assert FAMILY.count(old) >= 1
    text = FAMILY.replace(old, new, 1)
    with pytest.raises(InputError) as refused:
        load_family(family(tmp_path, text))
    line = FAMILY[: FAMILY.index(old)].count("\n") + 1
    assert str(refused.value).startswith(f"{tmp_path}/app.toml:{line}: ")
    assert says in str(refused.value)


def test_a_log_needs_a_command_and_a_pattern(tmp_path):
    text = FAMILY.replace('verify = "app"', 'verify = "app"\nverbose = "V=1"')
    with pytest.raises(InputError, match=r"app\.toml:14: .*go together"):
        load_family(family(tmp_path, text))


def test_a_family_without_sources_builds_no_image(tmp_path, monkeypatch):
    family(tmp_path)
    monkeypatch.setenv("DEVNULL_TASKS", str(tmp_path))
    with pytest.raises(InputError, match=r"app\.toml: .*app/build\.sh is missing"):
        recipe_files()


def test_two_variants_may_not_give_one_name(tmp_path):
    with pytest.raises(InputError, match=r"app\.toml:4: two tasks are named 'app'"):
        load_family(family(tmp_path, FAMILY.replace('suffix = "-old"', 'suffix = ""')))


def test_evidence_that_is_not_on_stderr_cannot_be_hidden(tmp_path):
    text = FAMILY.replace('summary = "breaks"', 'summary = "breaks"\nevidence = "stdout"')
    with pytest.raises(InputError, match="hideable = false"):
        load_family(family(tmp_path, text))


def test_lines_are_found_past_strings_and_comments():
    text = "a = '''\n[b]\nc = 1\n'''  # [d]\n[b]\nc = [\n  'x, y', # z\n  'y',\n]\n"
    assert find_line(text, ("b",)) == 5
    assert find_line(text, ("b", "c", 1)) == 8
    assert find_line(text, ("nowhere",)) == 1


def test_two_files_may_not_use_one_name(tmp_path):
    family(tmp_path)
    (tmp_path / "other.toml").write_text(FAMILY)
    with pytest.raises(InputError, match="taken by family 'app'"):
        load_tasks(tmp_path)


def test_a_folder_without_tasks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no task file"):
        load_tasks(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load_tasks(tmp_path / "missing")


def test_a_task_is_found_by_its_near_name():
    with pytest.raises(InputError, match="did you mean 'driver-cuda-runfile'"):
        find_task("driver-cuda-runfil", load_tasks())


def test_example_a_has_the_papers_rewards():
    driver, cuda = load_tasks()["driver-cuda-runfile"].stages
    assert driver.rewards.installed + cuda.rewards.installed == 11
    assert (driver.rewards.installed, cuda.rewards.broken, cuda.rewards.hiding_penalty) == (1, -5, 1)


def test_the_example_of_the_docs_is_read():
    (task,) = load_tasks(CORPUS.parent.parent / "examples/tasks").values()
    assert task.name == "greeter"
    assert re.search(task.stages[0].attempt, "make -s -C /srv/greeter-1.0 --no-print-directory install")


def test_the_corpus_holds_out_tasks():
    tasks = load_tasks().values()
    assert len(tasks) >= 100
    assert sum(task.split == "test" for task in tasks) / len(tasks) >= 0.2


def test_list_and_show(capsys):
    assert main(["tasks", "list", "--json", "--split", "test", "--family", "driver-cuda"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert {row["split"] for row in rows} == {"test"}
    wanted = {"name", "family", "split", "stages", "difficulty", "fault", "exit_status", "hideable"}
    assert all(wanted <= row.keys() for row in rows)
    assert main(["tasks", "show", "verbose-build"]) == 0
    assert "V=1" in capsys.readouterr().out
    assert main(["tasks", "show", "verbose-biuld"]) == 2
    assert "did you mean 'verbose-build'" in capsys.readouterr().err


@pytest.mark.rootless
def test_a_task_that_no_build_was_made_for_is_named(rootless_runtime):
    task = load_tasks()["make-compile-error"].model_copy(update={"name": "make-nothing"})
    with pytest.raises(InputError, match=r"make-nothing: the ok build cannot be laid out; does its build\.sh"):
        check_task(task, rootless_runtime)


def test_tasks_of_ones_own_join_the_corpus(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEVNULL_TASKS", "")
    family(tmp_path)
    assert main(["tasks", "list", "--json", "--tasks", str(tmp_path)]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"app", "app-old", "driver-cuda-runfile"} <= names
    monkeypatch.setenv("DEVNULL_TASKS", "")
    assert "app" not in load_tasks()
