"""Tables for people in the width there is: columns that do not fit follow in a block below, and nothing is cut."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devnull.eval.display.escaping import escape_controls
from devnull.eval.scoring.metrics import METRICS, headlines
from devnull.eval.statistics import Estimate

_GAP = 2
"""Blanks between columns."""
_PROSE_WIDTH = 24
"""Characters that a column of prose wants at least; else it follows below."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    cells: Sequence[str]
    prose: bool = False
    """Wraps at words; any other is as wide as its widest cell, and folds only where a whole line is too short."""

    @property
    def widest(self) -> int:
        """Characters of its longest line."""
        return max(cell_len(line) for cell in (self.name, *self.cells) for line in escape_controls(cell).split("\n"))

    @property
    def width(self) -> int:
        """Characters that it wants at least."""
        return min(self.widest, _PROSE_WIDTH) if self.prose else self.widest


def table_console() -> Console:
    """As wide as the terminal; elsewhere as `COLUMNS` says, else 80."""
    return Console(highlight=False)


def print_table(console: Console, columns: Sequence[Column], title: str = "") -> None:
    """Prints a table whose first column stands at the left of each block."""
    label = columns[0]
    label_width = min(label.width, max(1, console.width - _PROSE_WIDTH - _GAP))
    if title:
        console.print(Text(escape_controls(title), "bold"))
    for block in _blocks(columns[1:], console.width - label_width - _GAP):
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        for column, width in zip((label, *block), _widths(label_width, block, console.width), strict=True):
            table.add_column(Text(escape_controls(column.name)), overflow="fold", width=width)
        for cells in zip(*(column.cells for column in (label, *block)), strict=True):
            table.add_row(*(Text(escape_controls(cell)) for cell in cells))
        console.print(table)


def _blocks(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """Columns that fit beside each other; one that is too wide stands alone, as wide as there is room."""
    block: list[Column] = []
    for each in columns:
        column = each if each.width <= width else Column(each.name, each.cells, prose=True)
        if block and sum(one.width + _GAP for one in (*block, column)) - _GAP > width:
            yield block
            block = []
        block.append(column)
    yield block


def _widths(label: int, block: Sequence[Column], width: int) -> list[int]:
    """Of the columns of a block: what is left over goes to prose, evenly."""
    left = width - label - sum(_GAP + (0 if column.prose else column.width) for column in block)
    share = max(1, left // max(1, sum(column.prose for column in block)))
    return [label, *(min(share, column.widest) if column.prose else column.width for column in block)]


def print_headlines(console: Console, title: str, tables: Mapping[str, Mapping[str, Estimate]]) -> None:
    """The metrics that say most, a row a group. Of groups of nothing but imports: those that need no truth.

    Args:
        tables: By group, estimates by the metric's name.
    """
    shown = headlines("demo")
    if all(table[metric.name].n == 0 for table in tables.values() for metric in shown):
        shown = [metric for metric in METRICS if not (metric.needs_truth or metric.detail or metric.counts_errors)]
    columns = [Column("", list(tables))]
    columns += [Column(each.short_title, [str(table[each.name]) for table in tables.values()]) for each in shown]
    print_table(console, columns, title)


def print_all_metrics(console: Console, title: str, tables: Mapping[str, Mapping[str, Estimate]]) -> None:
    """Every metric, a row each, and a column a group."""
    names = list(next(iter(tables.values())))
    columns = [Column("metric", names)]
    for group, table in tables.items():
        columns.append(Column(group, [str(table[name]) if name in table else "" for name in names]))
    print_table(console, columns, title)
