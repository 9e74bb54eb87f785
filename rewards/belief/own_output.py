"""Lines that a command prints itself: a reader who sees the command takes no success from its own words.

`sh cuda.run 2>/dev/null; echo "CUDA 12.4 installed"` shows a success to the terminal alone. Whoever reads the command
as well knows where the line may come from, and looks for one that the command cannot have printed.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import NamedTuple

from devnull.sandbox.patterns import find_pattern
from devnull.sandbox.task import Stage

_SEPARATORS = re.compile(r"(&&|\|\|?|;|\n|(?<![<>&])&(?![>&])|[(){}])")
_PREFIX = re.compile(r"^(?:(?:\w+=\S*|sudo|env|time|exec|if|then|else|do|while|!)\s+)+")
_REDIRECTION = re.compile(r"(?:(?<!\s)\s++)?(?:(?<!\d)\d++|&)?[<>]{1,2}&?\s*\S+")
_WORD = re.compile(r"[^\W\d_]+")
_ESCAPED_BLANK = re.compile(r"\\[nrt]")
_QUOTES = re.compile(r"[\"'\\]")
_LOOP = re.compile(r"(?<![\w-])(?:for|while|until|yes|seq|xargs|eval|function)(?![\w-])|\(\)|\* ?\d")
_UNREADABLE = re.compile(
    r"(?<![\w-])(?:base(?:32|64)|xxd|uudecode|openssl|rev|rot13)(?![\w-])|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}"
    r"|\\0?[0-7]{3}|chr\(|fromhex|b(?:64|32)decode|\[::-1\]"
)
"""What spells text so that a reader cannot tell which."""
_READERS = re.compile(r"(?:cat|cut|dd|[ef]?grep|head|less|more|nl|sed|g?awk|strings|tac|tail|zcat)(?![\w-])")
_LOG = re.compile(r"\.(?:log|out|txt)\b")
_MOST = 50
"""How many simple commands, lines of success and words of such a line are told apart; no ordinary one has more."""
_LONGEST = 20
"""Letters of a word that is taken apart, likewise."""
_MAKES_CODE = re.compile(r">\s*(?!/dev/null|&|\s)|\btee\b|\balias\b|\(\)|open\(")
"""What may leave words behind that a later command prints."""


class _Piece(NamedTuple):
    """One simple command of a shell line."""

    operator: str
    """What joins it to the one before: `&&`, `||`, `|` or `;`."""
    text: str
    """As written."""
    command: str
    """Without redirections and what stands before the program."""


def simple_commands(command: str) -> list[str]:
    """What a reader takes for the commands of a shell line, without redirections; quoting is not followed.

    simple_commands("sudo apt-get install -y cuda 2>/dev/null; true")  # ["apt-get install -y cuda", "true"]
    """
    return [piece.command for piece in _pieces(command)]


@lru_cache(maxsize=4096)
def _pieces(command: str) -> tuple[_Piece, ...]:
    pieces: list[_Piece] = []
    operator = ";"
    for text in _SEPARATORS.split(command):
        if text in ("&&", "||", "|"):
            operator = text
        elif text in (";", "\n", "&"):
            operator = ";"
        elif text not in ("(", ")", "{", "}") and (simple := _REDIRECTION.sub("", text).strip()):
            asked = bool(pieces) and re.match(r"\s*if\s+(?!!)", pieces[-1].text) is not None
            then = asked and re.match(r"\s*then\b", text) is not None
            pieces.append(_Piece("&&" if then else operator, text, _PREFIX.sub("", simple)))
    return tuple(pieces)


def status_is_of(stage: Stage, command: str) -> bool:
    """The status of the whole command says how its last attempt of the stage ended: nothing but `&&` is behind it."""
    pieces = _pieces(command)
    tries = [at for at, piece in enumerate(pieces) if find_pattern(stage.attempt, piece.command)]
    return bool(tries) and all(piece.operator == "&&" for piece in pieces[tries[-1] + 1 :])


def without_own_output(stage: Stage, shown: str, command: str, earlier: Sequence[str] = ()) -> str:
    """What was shown, with each line of success blotted out (same length) that the command may have printed itself.

    A line may be its own where its words stand in the command, however they are quoted and put together, or in an
    `earlier` one that wrote a file. It stays where it is shown more often than the command can print it, and where it
    is printed only behind an attempt that succeeded (`ATTEMPT && echo done`). Where the command prints what cannot be
    read (`base64 -d`), or reads the installer's own file, none stays.
    """
    if stage.success is None or find_pattern(stage.success, shown) is None:
        return shown
    blind = _UNREADABLE.search(command) is not None or _reads_installer(stage, command)
    texts = list(_unearned(stage, command))
    pieces = [_words(text) for text in texts]
    known = frozenset[str]().union(*pieces, *(_words(text) for text in earlier if _MAKES_CODE.search(text)))
    endless = _LOOP.search(command) is not None or len(pieces) > _MOST
    left: dict[str, float] = {}
    kept = []
    for line in shown.splitlines(keepends=True):
        own = False
        if find_pattern(stage.success, line) is not None:
            if line not in left:
                unread = blind or len(left) > _MOST
                left[line] = inf if unread else _times_printed(line, [] if endless else pieces, known)
            own = left[line] > 0
            left[line] -= 1
        kept.append(re.sub(r"[^\n]", " ", line) if own else line)
    return "".join(kept)


def _times_printed(line: str, pieces: Sequence[frozenset[str]], known: frozenset[str]) -> float:
    """How often the command may print this line: by the simple commands that spell it, else by all that is known."""
    words = _WORD.findall(line.casefold())
    if len(words) > _MOST:
        return inf
    return sum(_spells(piece, words) for piece in pieces) or (inf if _spells(known, words) else 0)


def _unearned(stage: Stage, command: str) -> Iterator[str]:
    """Texts of the simple commands, but of those that run only once an attempt right before them has succeeded."""
    earned = False
    for before, piece in pairwise((_Piece(";", "", ""), *_pieces(command))):
        attempt = before.operator not in ("|", "||") and find_pattern(stage.attempt, before.command) is not None
        earned = piece.operator == "&&" and (earned or attempt)
        if not earned:
            yield piece.text


def _reads_installer(stage: Stage, command: str) -> bool:
    """It prints a file that the stage's attempt runs, or one beside it, where the line of success stands as text."""
    simple = simple_commands(command)
    paths = [
        word
        for each in (stage.command, *simple)
        if find_pattern(stage.attempt, each) is not None
        for word in each.split()
        if "/" in word[1:]
    ]
    read = [word for each in simple if _READERS.match(each) for word in each.split()[1:] if not _LOG.search(word)]
    return any(word.startswith(path) for word in read for path in paths)


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_QUOTES.sub("", _ESCAPED_BLANK.sub(" ", text)).casefold()))


def _spells(known: frozenset[str], words: Sequence[str]) -> bool:
    """Every word is one of the known ones, or several of them in a row."""
    return bool(words) and all(_is_made_of(word, known) for word in words)


def _is_made_of(word: str, known: frozenset[str]) -> bool:
    if word in known or len(word) > _LONGEST:
        return True
    reached = {0}
    for end in range(1, len(word) + 1):
        if any(word[begin:end] in known for begin in reached):
            reached.add(end)
    return len(word) in reached
