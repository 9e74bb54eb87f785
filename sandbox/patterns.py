"""A task's patterns, held against an agent's text in time that grows with the text and not with its square.

`A.*B.*C` lets a backtracking engine try each A with each B: a text of many A and B, and no C, takes the cube of its
length. Whether the pattern matches in a line is decided by its first A, the first B behind that, and so on. So such a
pattern is compiled as one pass over each line that never goes back (atomic groups); any other is compiled as it is.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

_QUANTIFIER = re.compile(r"[*+]|\{\d*,\}")
"""One without an end."""
_ONLY_REPEATS = re.compile(
    r"\((?:\?:)?\(*(?:(?:\\.|\[[^\]]*\]|[^()\[\]\\])(?:[*+]|\{\d*,\})(?:\\?.[*?])*\)*\|?)+\)", re.DOTALL
)
"""A group of which every part repeats, with nothing certain between two rounds."""
_GAP = re.compile(r"\.\*[?+]?|\.\+[?+]?")
_GAP_BEFORE_WORD, _GAP_BEFORE_WORD_LAZY = "(.* )?", "(?:.*? )??"
"""Behind a blank: any words in between, or none."""


def find_pattern(pattern: str, text: str, flags: int = re.MULTILINE) -> re.Match[str] | None:
    """The first match of a task's pattern, as `re.search` finds it; one of `A.*B` begins where its line does."""
    found = [match for compiled in _compile(pattern, flags) if (match := compiled.search(text))]
    return min(found, key=lambda match: match.start(), default=None)


def find_all(pattern: str, text: str) -> Iterator[re.Match[str]]:
    """All matches, in no order; of those of `A.*B` one a line."""
    for compiled in _compile(pattern, re.MULTILINE):
        yield from compiled.finditer(text)


def unbounded_pattern(pattern: str) -> str | None:
    """The part of a pattern that a hostile text can make slow without bound; `None` if there is none such.

    That is a repetition without an end inside another, `(a+)*`, and `.*` inside a group.
    """
    opened: list[int] = []
    for at, token in _tokens(pattern):
        if token == "(":
            opened.append(at)
        elif token == ")":
            group = pattern[opened.pop() : at + 1]
            if _QUANTIFIER.match(pattern, at + 1) and _ONLY_REPEATS.fullmatch(group):
                return group + pattern[at + 1]
        elif (
            opened
            and _QUANTIFIER.match(token)
            and pattern[at - 1] == "."
            and not pattern.startswith(_GAP_BEFORE_WORD, opened[-1])
        ):
            return pattern[opened[-1] : at + 1]
    return None


@lru_cache(maxsize=4096)
def _compile(pattern: str, flags: int) -> tuple[re.Pattern[str], ...]:
    if re.compile(pattern, flags).groupindex or re.search(r"\\[1-9]|\(\?[(aiLmsux]", pattern):
        return (re.compile(pattern, flags),)  # its parts depend on one another
    lazy = pattern.replace(_GAP_BEFORE_WORD, _GAP_BEFORE_WORD_LAZY)  # in a group: what comes first is what counts
    alternatives = [_split_at_gaps(each) for each in _split_alternatives(lazy)]
    whole = [parts[0] for parts in alternatives if len(parts) == 1]
    passes = ["(?m:^)" + "".join(f"(?>.*?(?:{part}))" for part in parts) for parts in alternatives if len(parts) > 1]
    return tuple(re.compile(each, flags) for each in [*(["|".join(whole)] if whole else []), *passes])


def _tokens(pattern: str) -> Iterator[tuple[int, str]]:
    """Position and text of each piece: an escaped character, a class, a repetition without an end, else a character."""
    at = 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "\\":
            end = at + 2
        elif pattern[at] == "[":
            close = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL).match(pattern, at)
            end = close.end() if close else end
        elif repeat := _QUANTIFIER.match(pattern, at):
            end = repeat.end()
        yield at, pattern[at:end]
        at = end


def _split_alternatives(pattern: str) -> list[str]:
    parts, depth, begun = [], 0, 0
    for at, token in _tokens(pattern):
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            parts.append(pattern[begun:at])
            begun = at + 1
    return [*parts, pattern[begun:]]


def _split_at_gaps(pattern: str) -> list[str]:
    """The parts between `.*`, outside of groups; a last empty one takes the rest of the line."""
    parts, depth, begun = [], 0, 0
    for at, token in _tokens(pattern):
        if at < begun:
            continue
        if depth == 0 and (gap := _GAP.match(pattern, at)):
            parts.append(pattern[begun:at] + ("." if gap[0][1] == "+" else ""))
            begun = gap.end()
        if depth == 0 and at > begun and pattern.startswith(f" {_GAP_BEFORE_WORD_LAZY}", at - 1):
            first, *rest = _split_at_gaps(pattern[at + len(_GAP_BEFORE_WORD_LAZY) :])
            return [*parts, pattern[begun:at], f"(?<= )(?:{first})", *rest]
        depth += (token == "(") - (token == ")")
    last = pattern[begun:]
    return [*parts, last or ".*"] if parts else [last]
