"""Gives the files of a task's two builds the same sizes, so that a listing does not say which build a box holds.

A file of which the builds hold two sizes is padded in both, in a way that its kind ignores: by comment lines of
dashes in text, by the archive's own comment in zip and gzip. Both get such a comment, so having one says nothing.
What no rule fits (a binary, text without comments) stays as it is: `devnull tasks check` says so.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path

_LEAST = 8
"""Bytes that even the longer of two files gets."""
_STEP = 32
"""Sizes are rounded up to multiples of this."""
_SHARP = re.compile(
    r"(Makefile|CMakeLists\.txt|MANIFEST|sources\.list|requirements[\w-]*\.txt)$|\.(mk|py|toml|pl|PL|pm|sh|lock)$"
)
"""Files in which `#` begins a comment, wherever they have none yet."""
_OTHER = re.compile(r"\.(xs|md|csv|tsv|json|xml|html)$")
"""Text in which a line that begins with `#` is no comment."""
_PAYLOAD = b"\n__ARCHIVE__\n"
"""Ends the script of a self-extracting installer, which never reads the lines above that mark."""


def pad_alike(sound: Path, faulty: Path) -> None:
    """Pads the regular files that both folders hold, in sizes that differ, to one size each."""
    for one in sorted(sound.rglob("*")):
        other = faulty / one.relative_to(sound)
        if not all(path.is_file() and not path.is_symlink() for path in (one, other)):
            continue
        sizes = one.stat().st_size, other.stat().st_size
        if sizes[0] != sizes[1]:
            size = -(-(max(sizes) + _LEAST) // _STEP) * _STEP
            padded = [_padded(path.name, path.read_bytes(), size) for path in (one, other)]
            if None not in padded:
                for path, data in zip((one, other), padded, strict=True):
                    path.write_bytes(data or b"")


def _padded(name: str, data: bytes, size: int) -> bytes | None:
    """The same file with `size` bytes; `None` if its kind has no room for a comment."""
    n = size - len(data)
    if data[-22:-18] == b"PK\5\6" and data[-2:] == b"\0\0" and n < 1 << 16:
        return data[:-2] + struct.pack("<H", n) + _dashes(n, b"", b"")
    if data[:3] == b"\x1f\x8b\x08" and data[3] == 0:
        return data[:3] + b"\x10" + data[4:10] + _dashes(n, b"", b"\0") + data[10:]
    comment = _comment(name, data.partition(_PAYLOAD)[0])
    if comment is None:
        return None
    if _PAYLOAD in data:
        at = data.index(_PAYLOAD) + 1
        return data[:at] + comment(n) + data[at:]
    return data + comment(n) if data.endswith(b"\n") else data + b"\n" + comment(n - 1)


def _comment(name: str, data: bytes) -> Callable[[int], bytes] | None:
    """What writes comment lines of so many bytes in the language of a text; `None` if there are none in it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if re.search(r"\.[ch]$", name):
        return lambda n: _dashes(n, b"/* ", b" */\n")
    if _SHARP.search(name) or (re.search(r"^#", text, re.MULTILINE) and not _OTHER.search(name)):
        return lambda n: _dashes(n, b"#", b"\n")
    return None


def _dashes(n: int, before: bytes, after: bytes) -> bytes:
    return before + b"-" * (n - len(before) - len(after)) + after
