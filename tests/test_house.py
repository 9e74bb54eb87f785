"""The house itself: no circles of imports, a name in one place, a docstring on what is public, a tree that is true."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("sandbox", "agents", "theory", "rewards", "training", "eval", "cli", "integrations")
LARGEST_SHARE = 0.03
"""Of public names that may be defined in more than one module."""
DEFINED_BY_EVERY_COMMAND = {"Args", "main"}


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Every module of the package: dotted name, file, tree. Build scripts that run in boxes are no part of it."""
    for folder in (*ROOMS, "src/devnull"):
        for path in sorted((ROOT / folder).glob("*.py" if folder == "src/devnull" else "**/*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if {"corpus", "box"} & set(parts):
                continue
            parts = parts[2:] if folder == "src/devnull" else parts
            name = ".".join(("devnull", *(part for part in parts if part != "__init__")))
            yield name, path, ast.parse(path.read_text())


MODULES = {name: (path, tree) for name, path, tree in modules()}


def imported(tree: ast.Module) -> set[str]:
    """Modules of ours that a module imports anywhere: at its head, in a function, or for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def test_no_module_imports_itself_by_a_detour() -> None:
    inside = {name: imported(tree) for name, (_, tree) in MODULES.items() if name != "devnull"}
    try:
        tuple(TopologicalSorter(inside).static_order())
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def public_names(tree: ast.Module) -> set[str]:
    """Functions, classes and constants defined at the top of a module, without a leading underscore."""
    names = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")} - DEFINED_BY_EVERY_COMMAND


def test_a_name_is_defined_in_one_place() -> None:
    homes = defaultdict(list)
    for module, (_, tree) in MODULES.items():
        for name in public_names(tree):
            homes[name].append(module)
    shared = {name: where for name, where in homes.items() if len(where) > 1}
    assert len(shared) / len(homes) <= LARGEST_SHARE, shared


def test_what_is_public_has_a_docstring() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, tree in MODULES.values()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and node.name not in DEFINED_BY_EVERY_COMMAND
        and ast.get_docstring(node) is None
    ]
    assert bare == []


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, (_, tree) in MODULES.items() if not ast.get_docstring(tree)] == []


def test_the_tree_in_the_readme_is_that_of_the_house() -> None:
    """Each line of the tree begins with a path; folders end with a slash, files stand indented under theirs."""
    (block,) = re.findall(r"## The house\n.*?```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    folder, missing = ROOT, []
    for line in block.splitlines():
        indent, first = len(line) - len(line.lstrip()), line.split()[0]
        if indent == 0:
            folder = ROOT / first
            missing += [first] if not folder.is_dir() else []
        elif not (folder / first).exists():
            missing.append(f"{folder.name}/{first}")
    assert missing == []
    assert {f"{room}/" for room in ROOMS} <= {line.split()[0] for line in block.splitlines()}
