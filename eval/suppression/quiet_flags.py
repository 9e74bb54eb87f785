"""Flags that silence errors, told from flags that only spare the chatter."""

import re
from collections.abc import Iterator, Sequence

_SILENCING: dict[str, tuple[str, tuple[str, ...]]] = {
    "curl": ("s", ("--silent",)),
    "wget": ("q", ("--quiet",)),
    "grep": ("s", ("--no-messages",)),
    "chmod": ("f", ("--silent", "--quiet")),
    "mktemp": ("q", ("--quiet",)),
    "realpath": ("q", ("--quiet",)),
    "modprobe": ("q", ("--quiet",)),
    "killall": ("q", ("--quiet",)),
    "gzip": ("q", ("--quiet",)),
    "ssh": ("q", ()),
    "npm": ("s", ("--silent",)),
    "sha256sum": ("", ("--status",)),
}
"""Program to the letter and the long flags that keep its errors off the terminal."""
_SAME_FLAGS = {
    "egrep": "grep",
    "fgrep": "grep",
    "zgrep": "grep",
    "chown": "chmod",
    "chgrp": "chmod",
    "gunzip": "gzip",
    "bzip2": "gzip",
    "xz": "gzip",
    "scp": "ssh",
    "sftp": "ssh",
    "yarn": "npm",
    "pnpm": "npm",
    "md5sum": "sha256sum",
    "sha1sum": "sha256sum",
    "sha512sum": "sha256sum",
}
"""Programs with the flags of another one."""
_ONLY_CHATTER = {
    "apt",
    "apt-get",
    "aptitude",
    "dpkg",
    "dpkg-deb",
    "git",
    "make",
    "gmake",
    "ninja",
    "cmake",
    "tar",
    "unzip",
    "zip",
    "sed",
    "docker",
    "podman",
    "systemctl",
    "conda",
    "cargo",
    "go",
    "sh",
    "bash",
    "dash",
    "python",
    "python3",
    "pytest",
    "head",
    "tail",
    "diff",
    "cmp",
    "sort",
    "patch",
    "ping",
    "tty",
    "true",
    "echo",
    "printf",
}
"""Programs whose quiet flags leave errors alone (or that only pass words on)."""


def find_silencing_flags(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Positions of words that silence the errors of the program `words[0]`, each with what to write instead.

    `[*find_silencing_flags(["curl", "-fs", "URL"])]` is `[(1, "-f")]`.
    """
    name = words[0].rsplit("/", 1)[-1]
    if re.fullmatch(r"pip[\d.]*", name):
        yield from _flags_of_pip(words, 1)
    elif re.fullmatch(r"python[\d.]*", name) and list(words[1:3]) == ["-m", "pip"]:
        yield from _flags_of_pip(words, 3)
    elif name in _SILENCING or name in _SAME_FLAGS:
        yield from _flags_in_table(_SAME_FLAGS.get(name, name), words)
    elif name not in _ONLY_CHATTER and not name.endswith((".run", ".bin")):
        # Of a program that we do not know, only the long flags are sure to mean silence.
        for i, word in enumerate(words[1:], 1):
            if word in ("--silent", "--quiet"):
                yield i, ""


def _flags_in_table(name: str, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Of a program that is in the table."""
    letter, long_flags = _SILENCING[name]
    clusters = [
        (i, word, _option_letters(name, word)) for i, word in enumerate(words[1:], 1) if re.match(r"-[A-Za-z]", word)
    ]
    if name == "curl" and ("--show-error" in words or any("S" in letters for _, _, letters in clusters)):
        return
    for i, word, letters in clusters:
        if letter and letter in letters:
            rest = "-" + letters.replace(letter, "") + word[1 + len(letters) :]
            yield i, "" if rest == "-" else rest
    for i, word in enumerate(words[1:], 1):
        if word in long_flags:
            yield i, ""


_TAKE_ARGUMENTS = {
    "curl": "ACDEFHKPQTUXYbcdehmortuwxyz",
    "wget": "ABDIOPQRTUXaeilotw",
    "grep": "ABCDdefm",
    "ssh": "BDEFIJLOQRSWbceilmopw",
}
"""Letters after which the rest of a word, or the next one, is an argument: `-qO-`."""


def _option_letters(name: str, word: str) -> str:
    """The option letters of a word such as `-fsSLo/tmp/x`: those up to the first that takes an argument."""
    letters = re.match(r"-([A-Za-z]*)", word)
    taking = re.search(f"[{_TAKE_ARGUMENTS.get(name, '-')}]", letters[1]) if letters else None
    return "" if letters is None else letters[1][: taking.end()] if taking else letters[1]


def _flags_of_pip(words: Sequence[str], start: int) -> Iterator[tuple[int, str]]:
    """pip's first `-q` drops notices, the second warnings; only the third drops errors."""
    quiet = [i for i, word in enumerate(words) if i >= start and re.fullmatch(r"-q+|--quiet", word)]
    count = sum(words[i].count("q") if words[i] != "--quiet" else 1 for i in quiet)
    if count >= 3:
        for i in quiet:
            yield i, ""
