"""`/etc/ld.so.cache`: which library the loader takes for a name. Read here as the agent may have left it."""

import struct
from collections.abc import Iterator

_MAGIC = b"glibc-ld.so.cache1.1"
_COUNT = struct.Struct("<I")
_ENTRY = struct.Struct("<iIIIQ")
_FIRST_ENTRY = 48
_LARGEST = 1 << 20
"""Bytes; the image's has 20,000."""
_PATH_MAX = 4096
_FLAGS = (0x0303, 0x0A03)
"""Of a usual entry: an ELF library of this architecture, x86-64 or aarch64."""


def loader_cache_entries(cache: bytes) -> Iterator[tuple[str, str, bool]]:
    """Library name and path of each entry of a loader's cache (glibc 2.32 and later, `ld.so.cache1.1`), and whether
    it is a plain one, for any processor of this kind.

    Raises `ValueError` for anything else.
    """
    start = cache.find(_MAGIC)
    if start < 0 or len(cache) > _LARGEST:
        raise ValueError("in no known format")

    def text(offset: int) -> str:
        end = cache.find(b"\0", start + offset, start + offset + _PATH_MAX)
        if end < 0:
            raise ValueError("a name that does not end")
        return cache[start + offset : end].decode(errors="replace")

    try:
        (count,) = _COUNT.unpack_from(cache, start + len(_MAGIC))
        for number in range(count):
            at = start + _FIRST_ENTRY + _ENTRY.size * number
            flags, name, path, version, capabilities = _ENTRY.unpack_from(cache, at)
            yield text(name), text(path), flags in _FLAGS and not version and not capabilities
    except struct.error as error:
        raise ValueError(f"it breaks off: {error}") from None
