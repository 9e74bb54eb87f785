"""Flags and variables that silence a program: what to take out. Whether they hid anything, the replay says."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from devnull.eval.suppression.programs import VISIBLE_TARGETS


class QuietFlag(NamedTuple):
    """One flag among the words of a command, from `first` to `last`."""

    first: int
    last: int
    new: str
    """What to write instead of the first of these words."""
    weak: bool
    """By its manual it spares chatter and leaves errors alone."""


class _Flags(NamedTuple):
    """A program's quiet flags."""

    letter: str = ""
    long: tuple[str, ...] = ("--quiet", "--silent")
    weak: bool = True
    level: str = ""
    """Matches a flag whose argument, the next word, is quiet."""
    file: str = ""
    """Matches a flag whose argument, the rest of its word or the next one, is a file that the messages go to."""


_SILENT = _Flags("q", weak=False)
_CHATTER = _Flags("q")
_PROGRAMS: dict[str, _Flags] = {
    # What keeps errors away, by the manual.
    "curl": _Flags("s", ("--silent",), weak=False, file="--stderr"),
    "wget": _Flags("q", weak=False, file="-[oa]|--output-file|--append-output"),
    "grep": _Flags("s", ("--no-messages",), weak=False),
    "rg": _Flags("", ("--no-messages",), weak=False),
    "chmod": _Flags("f", weak=False),
    "mktemp": _SILENT,
    "realpath": _SILENT,
    "modprobe": _SILENT,
    "killall": _SILENT,
    "gzip": _SILENT,
    "ssh": _Flags("q", (), weak=False, level=r"(?i)-o ?LogLevel[= ](?:quiet|fatal)", file="-E"),
    "npm": _Flags("s", ("--silent", "--loglevel=silent"), weak=False, level=r"--loglevel (?:silent|error)"),
    "sha256sum": _Flags("", ("--status",), weak=False),
    "cmp": _Flags("s", weak=False),
    "ffmpeg": _Flags("", (), weak=False, level=r"-(?:loglevel|v) (?:quiet|panic|fatal|-8)"),
    # What spares chatter.
    **dict.fromkeys(
        ("apt", "apt-get", "aptitude", "dnf", "yum", "conda", "mamba", "cargo", "docker", "podman"), _CHATTER
    ),
    **dict.fromkeys(
        ("git", "mvn", "gradle", "unzip", "zip", "rsync", "psql", "pytest", "uv", "poetry", "bundle"), _CHATTER
    ),
    **dict.fromkeys(("systemctl", "brew", "composer", "ninja", "patch", "flake8", "ruff"), _CHATTER),
    "make": _Flags("s", ("--silent", "--quiet")),
    "tar": _Flags("", ()),
}
"""Program to its quiet flags."""
_SAME_FLAGS = {
    **dict.fromkeys(("egrep", "fgrep", "zgrep"), "grep"),
    **dict.fromkeys(("chown", "chgrp"), "chmod"),
    **dict.fromkeys(("gunzip", "bzip2", "xz"), "gzip"),
    **dict.fromkeys(("scp", "sftp"), "ssh"),
    **dict.fromkeys(("yarn", "pnpm"), "npm"),
    **dict.fromkeys(("md5sum", "sha1sum", "sha512sum"), "sha256sum"),
    **dict.fromkeys(("ffprobe", "ffplay"), "ffmpeg"),
    "gmake": "make",
}
"""Programs with the flags of another one."""
_ANSWERS = {"grep", "egrep", "fgrep", "zgrep", "rg", "diff", "tty", "sh", "bash", "dash", "python", "python3", "sed"}
_ANSWERS |= {"tar", "head", "tail", "sort", "true", "echo", "printf", "xargs", "find", "dpkg", "dpkg-deb"}
"""Programs whose `--quiet` asks for a status, or that have none (they only pass words on)."""
_VARIABLES = re.compile(
    r"\w*(?:QUIET|SILENT)\w*|PYTHONWARNINGS|DEBIAN_FRONTEND|NODE_NO_WARNINGS|APT_LISTCHANGES_FRONTEND"
)
_LEVELS = re.compile(r"\w*LOG_?LEVEL|npm_config_loglevel|TF_CPP_MIN_LOG_LEVEL|RUST_LOG")
_MAKE_FLAGS = re.compile(r"(?:^|\s)(?:-?[a-z]*s[a-z]*|--silent|--quiet)(?:\s|$)")


def quiet_variable(name: str, value: str) -> bool:
    """Whether an assignment silences programs: `PIP_QUIET=1`, `MAKEFLAGS=-s`, `PYTHONWARNINGS=ignore`."""
    if name in ("MAKEFLAGS", "GNUMAKEFLAGS", "MFLAGS"):
        return _MAKE_FLAGS.search(value) is not None
    if _LEVELS.fullmatch(name):
        return re.fullmatch(r"(?i)quiet|silent|errors?|critical|fatal|off|none|[2-9]", value) is not None
    return _VARIABLES.fullmatch(name) is not None and value not in ("", "0", "false", "no", "default", "dialog")


def find_quiet_flags(words: Sequence[str]) -> Iterator[QuietFlag]:
    """Flags that silence the program `words[0]`.

    `[*find_quiet_flags(["curl", "-fs", "URL"])]` is `[QuietFlag(1, 1, "-f", weak=False)]`.
    """
    if not words:
        return
    name = words[0].rsplit("/", 1)[-1]
    if re.fullmatch(r"pip[\d.]*|pipx", name):
        yield from _flags_of_pip(words, 1)
    elif re.fullmatch(r"python[\d.]*", name) and words[1:2] == ["-m"] and len(words) > 2:
        module = words[2]
        if module == "pip":
            yield from _flags_of_pip(words, 3)
        elif module in _PROGRAMS:
            yield from (flag._replace(first=flag.first + 2, last=flag.last + 2) for flag in find_quiet_flags(words[2:]))
    elif name in _PROGRAMS or name in _SAME_FLAGS:
        yield from _flags_in_table(_SAME_FLAGS.get(name, name), words)
    elif name not in _ANSWERS and not name.endswith((".run", ".bin")):
        # Of a program that we do not know, only the long flags are sure to mean silence.
        for i, word in enumerate(words[1:], 1):
            if word in ("--silent", "--quiet"):
                yield QuietFlag(i, i, "", True)


def _flags_in_table(name: str, words: Sequence[str]) -> Iterator[QuietFlag]:
    """Of a program that is in the table."""
    flags = _PROGRAMS[name]
    clusters = [
        (i, word, _option_letters(name, word)) for i, word in enumerate(words[1:], 1) if re.match(r"-[A-Za-z]", word)
    ]
    weak = flags.weak
    if name == "curl" and ("--show-error" in words or any("S" in letters for _, _, letters in clusters)):
        weak = True
    for i, word, letters in clusters:
        if flags.level and i + 1 < len(words) and re.fullmatch(flags.level, f"{word} {words[i + 1]}"):
            yield QuietFlag(i, i + 1, "", weak)
        elif flags.level and re.fullmatch(flags.level, word):
            yield QuietFlag(i, i, "", weak)
        elif flags.letter and flags.letter in letters:
            rest = "-" + letters.replace(flags.letter, "") + word[1 + len(letters) :]
            yield QuietFlag(i, i, "" if rest == "-" else rest, weak)
    if flags.file:
        yield from _files_of_messages(name, flags.file, words)
    for i, word in enumerate(words[1:], 1):
        if word in flags.long:
            yield QuietFlag(i, i, "", weak)
        elif flags.level and word.startswith("--") and re.fullmatch(flags.level, " ".join(words[i : i + 2])):
            yield QuietFlag(i, i + 1, "", weak)


def _files_of_messages(name: str, flag: str, words: Sequence[str]) -> Iterator[QuietFlag]:
    """Flags by which a program writes its messages to a file: `wget -nvo FILE`, `wget --output-file=FILE`."""
    for i, word in enumerate(words[1:], 1):
        letters = _option_letters(name, word)
        option, equals, argument = word.partition("=")
        if letters and re.fullmatch(flag, f"-{letters[-1]}"):
            equals, argument, rest = "", word[1 + len(letters) :], f"-{letters[:-1]}"
        elif re.fullmatch(flag, option) and option.startswith("--"):
            rest = "-"
        else:
            continue
        last = i if argument or equals else i + 1
        argument = argument if last == i else "".join(words[last : last + 1])
        if last < len(words) and argument != "-" and argument not in VISIBLE_TARGETS:
            yield QuietFlag(i, last, "" if rest == "-" else rest, weak=False)


_TAKE_ARGUMENTS = {
    "curl": "ACDEFHKPQTUXYbcdehmortuwxyz",
    "wget": "ABDIOPQRTUXaeilotw",
    "grep": "ABCDdefm",
    "ssh": "BDEFIJLOQRSWbceilmopw",
    "make": "CfIjloW",
    "ffmpeg": "abcdefghijklmnopqrstuvwxyz",
    "psql": "cdfhpUv",
    "git": "cCmbBuX",
    "apt-get": "cot",
    "apt": "cot",
    "docker": "HfltvewpucaD",
    "pytest": "kmncpoW",
    "mvn": "DPfpl",
    "unzip": "dx",
}
"""Letters after which the rest of a word, or the next one, is an argument: `-qO-`."""


def _option_letters(name: str, word: str) -> str:
    """The option letters of a word such as `-fsSLo/tmp/x`: those up to the first that takes an argument."""
    letters = re.match(r"-([A-Za-z]*)", word)
    taking = re.search(f"[{_TAKE_ARGUMENTS.get(name, '-')}]", letters[1]) if letters else None
    return "" if letters is None else letters[1][: taking.end()] if taking else letters[1]


def _flags_of_pip(words: Sequence[str], start: int) -> Iterator[QuietFlag]:
    """pip's first `-q` drops notices, the second warnings; only the third drops errors."""
    quiet = [i for i, word in enumerate(words) if i >= start and re.fullmatch(r"-q+|--quiet", word)]
    count = sum(words[i].count("q") if words[i] != "--quiet" else 1 for i in quiet)
    for i in quiet:
        yield QuietFlag(i, i, "", count < 3)
