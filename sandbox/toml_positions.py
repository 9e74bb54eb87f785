"""On which line of a TOML file a value stands, which `tomllib` does not tell."""

import re
from collections.abc import Sequence

ValuePath = tuple[str | int, ...]
"""The keys and positions that lead to a value of a file: `("template", 0, "name")`."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*([\w-]+|"[^"]*"|'[^']*')\s*=""")
_STRING = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')


def find_line(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of the value at `path`, or of its nearest ancestor that stands on one."""
    lines = _positions(text)
    for length in range(len(path), 0, -1):
        if tuple(path[:length]) in lines:
            return lines[tuple(path[:length])]
    return 1


def _positions(text: str) -> dict[ValuePath, int]:
    """Line of each table header, key and array element that begins a line of its own.

    Knows the TOML that people write by hand: headers, bare and quoted keys, arrays of one element a
    line. It is used for messages only, so what it misses costs a nearby line number, no more.
    """
    lines: dict[ValuePath, int] = {}
    counts: dict[ValuePath, int] = {}
    table: ValuePath = ()
    array: ValuePath = ()
    element = depth = 0
    quote = ""
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            if quote not in line:
                continue
            line, quote = line.split(quote, 1)[1], ""
        elif depth == 0:
            if header := _HEADER.match(line):
                table = _header_path(header[2], header[1] == "[[", counts)
                lines.setdefault(table, number)
                lines.setdefault(table[:-1], number)  # an array of tables begins with its first one
                continue
            if key := _KEY.match(line):
                array, element = (*table, key[1].strip("\"'")), 0
                lines.setdefault(array, number)
                line = line[key.end() :]
        elif depth == 1 and line.strip()[:1] not in ("", "]", "#", ","):
            lines.setdefault((*array, element), number)
        bare, quote = _without_strings(line)
        element += bare.count(",") if depth == 1 and "{" not in bare else bare.count("},") if depth == 1 else 0
        depth = max(0, depth + sum(map(bare.count, "[{")) - sum(map(bare.count, "]}")))
    return lines


def _header_path(dotted: str, is_array: bool, counts: dict[ValuePath, int]) -> ValuePath:
    """The path of a `[table]` or `[[array of tables]]` header, with the indices of the arrays it passes."""
    path: ValuePath = ()
    names = [name.strip().strip("\"'") for name in dotted.split(".")]
    for position, name in enumerate(names):
        path = (*path, name)
        if position == len(names) - 1 and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _without_strings(line: str) -> tuple[str, str]:
    """The line without strings and comments, and the quotes of a string that goes on in the next line."""
    bare, at = "", 0
    while match := _STRING.search(line, at):
        bare += line[at : match.start()]
        if match[0] in ('"""', "'''"):
            end = line.find(match[0], match.end())
            if end < 0:
                return bare, match[0]
            at = end + 3
        else:
            at = match.end()
    return bare + line[at:], ""
