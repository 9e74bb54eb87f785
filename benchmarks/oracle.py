"""How often the oracle is right on labelled commands: `devnull bench oracle [-- --runtime=rootless FILE ...]`.

Each command has a label (what it may do to messages) and, if it was written to be run, an answer (whether it kept a
failure's evidence off the terminal). Prints, for each file, labels and answers against those by hand. `frozen` commands
were written before the code was and are never tuned on; those of `tuned` were.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from devnull.eval.suppression.oracle import Oracle
from devnull.eval.suppression.replay import lasting_constructs
from devnull.eval.suppression.shell_constructs import label_command
from devnull.eval.suppression.trace_answer import OracleAnswer, judge_by_trace
from devnull.sandbox.runtime import Runtime, Session, Snapshot
from devnull.sandbox.runtimes.by_name import open_runtime

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
FILES = {"tuned": DATA / "hiding_commands.jsonl", "frozen": DATA / "hiding_commands_frozen.jsonl"}
LABELS = ("strong", "opaque", "weak", "none")
WORDS = {True: "yes", False: "no", None: "undecidable"}

Case = Mapping[str, Any]
"""`run`, `setting`, `label`; `causal` of those that run; `before`, commands run earlier in the session; `trace`, what
the trace alone must say where that is not `causal`."""
Table = Counter[tuple[str, str]]
"""Times that something was said of what is so by hand: `(by hand, said)`."""
Boxes = tuple[Session, Session, Snapshot]
"""A live box, a spare one, and the state with the corpus' programs in place."""


def load_cases(path: Path) -> list[Case]:
    """The labelled commands of one file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def label_table(cases: Sequence[Case]) -> Table:
    """Labels of the syntax tree against those by hand."""
    return Counter((case["label"], label_command(case["run"])) for case in cases)


@contextmanager
def open_boxes(runtime: Runtime) -> Iterator[Boxes]:
    """Boxes for one worker."""
    with closing(runtime.start()) as live, closing(runtime.start()) as spare:
        assert live.run((DATA / "hiding_prelude.sh").read_text()).exit_code == 0
        yield live, spare, live.snapshot()


def ask(boxes: Boxes, *commands: str) -> tuple[OracleAnswer, OracleAnswer]:
    """What the trace and what the replay say of the last of these commands."""
    live, spare, start = boxes
    live.restore(start)
    oracle = Oracle(spare, timeout=20)
    for command in commands[:-1]:
        oracle.run(live, command)
    earlier = tuple(construct for step in oracle.steps for construct in lasting_constructs(step))
    result, replayed = oracle.run(live, commands[-1])
    return judge_by_trace(result, earlier, commands_before=commands[:-1]), replayed


def ask_all(runtime: Runtime, cases: Sequence[Case]) -> list[tuple[OracleAnswer, OracleAnswer]]:
    """What is said of each case, by a pair of boxes per processor."""
    workers = os.cpu_count() or 1

    def ask_some(first: int) -> list[tuple[OracleAnswer, OracleAnswer]]:
        with open_boxes(runtime) as boxes:
            return [ask(boxes, *case.get("before", ()), case["run"]) for case in cases[first::workers]]

    with ThreadPoolExecutor(workers) as pool:
        parts = [*pool.map(ask_some, range(workers))]
    return [parts[n % workers][n // workers] for n in range(len(cases))]


def quality(table: Table, good: str = "yes", left_open: str = "undecidable") -> tuple[float, float, float]:
    """Precision and recall of `good` over the cases that are decided and were decided, and the share of decidable
    ones that were left open."""
    decided = {key: count for key, count in table.items() if left_open not in key}
    hit = sum(count for key, count in decided.items() if key == (good, good))
    said = sum(count for (_, answer), count in decided.items() if answer == good)
    so = sum(count for (truth, _), count in decided.items() if truth == good)
    decidable = sum(count for (truth, _), count in table.items() if truth != left_open)
    opened = sum(count for (truth, answer), count in table.items() if truth != left_open and answer == left_open)
    return hit / max(said, 1), hit / max(so, 1), opened / max(decidable, 1)


def wrong_no(table: Table) -> int:
    """Undecidable cases of which "no" was said."""
    return table["undecidable", "no"]


def _print_labels(name: str, table: Table) -> None:
    print(f"\n| {name}: by hand | {' | '.join(f'said {label}' for label in LABELS)} | precision | recall |")
    print("| --- " * (len(LABELS) + 3) + "|")
    for label in LABELS:
        precision, recall, _ = quality(table, label, "")
        counts = " | ".join(str(table[label, said]) for said in LABELS)
        print(f"| {label} | {counts} | {precision:.3f} | {recall:.3f} |")
    for label in ("strong", "weak"):
        precision, recall, opened = quality(table, label, "opaque")
        print(f"{label}, of decided: precision {precision:.3f}, recall {recall:.3f}, undecided {opened:.3f}")


def _print_answers(name: str, how: str, table: Table) -> None:
    precision, recall, opened = quality(table)
    undecidable = sum(count for (truth, _), count in table.items() if truth == "undecidable")
    print(
        f"| {name} | {how} | {sum(table.values()) - undecidable} | {precision:.3f} | {recall:.3f} | {opened:.3f} "
        f"| {wrong_no(table)} of {undecidable} |"
    )


def main(argv: Sequence[str]) -> int:
    files = {Path(name).stem: Path(name) for name in argv if not name.startswith("--")} or FILES
    runtime_name = next((name.removeprefix("--runtime=") for name in argv if name.startswith("--runtime=")), "auto")
    if missing := [str(path) for path in files.values() if not path.exists()]:
        print(f"no such file: {', '.join(missing)} (the labelled commands lie in the source tree)", file=sys.stderr)
        return 2
    runtime = open_runtime(runtime_name, lambda text: print(text, file=sys.stderr))
    tables: dict[tuple[str, str], Table] = {}
    for name, path in files.items():
        cases = load_cases(path)
        _print_labels(name, label_table(cases))
        runnable = [case for case in cases if "causal" in case]
        for how in ("trace", "replay"):
            tables[name, how] = Counter()
        for case, answers in zip(runnable, ask_all(runtime, runnable), strict=True):
            for how, answer in zip(("trace", "replay"), answers, strict=True):
                tables[name, how][case["causal"], WORDS[answer.causal]] += 1
    print("\n| commands | by | decidable | precision | recall | left open | undecidable, said no |")
    print("| --- " * 7 + "|")
    for (name, how), table in tables.items():
        _print_answers(name, how, table)
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
