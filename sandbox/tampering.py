"""Has the agent replaced what a verifier would rely on? Asked by the host, which alone remembers the image.

Sound because of the order: `Session.verify` ends all that the agent left, so nothing moves any more; PID 1
reads the few files that bash and `find` are loaded from, and the host compares their digests; `find`
then lists every tool whose inode changed since the box began, a time that nobody in the box can set
back; and each of these PID 1 reads, and the host compares, again.
"""

import hashlib
import re
import struct
from collections.abc import Iterator

from sandbox.errors import InfrastructureError
from sandbox.manifest import Digests, Manifest
from sandbox.runtime import Session
from sandbox.task import Instance

LARGEST = 15 << 20
"""Bytes; no file that is compared is as large."""
LOADED = ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libselinux.so.1", "libpcre2-8.so.0")
"""What `find` is loaded from, found in the image's library folder; the loader is one of the two."""
LOADED_BY_BASH = ("libtinfo.so.6",)
CACHE, PRELOAD = "/etc/ld.so.cache", "/etc/ld.so.preload"
STARTUP = re.compile(r"/(sitecustomize\.py|usercustomize\.py|[^/]+\.pth)$")
"""Files in a library folder that every Python runs at its start."""
IMPORTED = ("/usr/local/lib/python3.11", "/opt/venv/lib/python3.11/site-packages", "/root/.local/lib")

SCAN = r"""cd /; export LC_ALL=C
read -r -d '' stat </proc/1/stat
read -r up _ </proc/uptime
now=${EPOCHREALTIME/[.,]/}
fields=(${stat##*) })
began=$((now - 10#${up/./} * 10000 + ${fields[19]} * 10000 - 20000))
echo "age $(((now - began) / 1000000))"
changed="-newerct @${began:0:-6}.${began: -6}" prune=
while read -r _ place type _; do [[ $place != / ]] || root=$type; done </proc/mounts
[[ $root != overlay ]] || prune="-type d ! $changed -prune -o"
/usr/bin/find FOLDERS $prune ! -type d $changed ! -name '*.pyc' -printf '%p\t%l\0' 2>/dev/null
exit 0
"""
"""Prints the box's age in seconds (negative if its clocks disagree), then each changed file and, of a link, its target.

An overlay copies a folder up before anything below it changes, so there unchanged folders need no look inside: on a
fresh mount, looking at 7,000 files takes 60 ms, this 2."""


def tampering(session: Session, recorded: Manifest, instance: Instance) -> str | None:
    """`tampered: FILES` if tools of the image were replaced; `None` if they are as they were."""
    session.verify(":")
    expected = dict(recorded.tools) | dict(recorded.laid.get(f"{instance.task.name}.{instance.build}", {}))
    known = set().union(*recorded.shipped.get(instance.task.name, {}).values())
    found = [*replaced_roots(session, expected)] or [*replaced_tools(session, recorded, expected, known)]
    return f"tampered: {', '.join(found)}" if found else None


def changed_files(session: Session, shipped: Digests) -> str | None:
    """Which of a stage's files are missing or not as its packages ship them; `None` if all are."""
    missing, other = [], []
    for path, digest in shipped.items():
        if digest.startswith("-> "):
            continue  # what a link leads to is compared where it leads
        data = read(session, path)
        if data is None:
            missing.append(path)
        elif hashlib.sha256(data).hexdigest() != digest:
            other.append(path)
    if missing:
        return f"not there: {', '.join(missing)}"
    return f"not as shipped: {', '.join(other)}" if other else None


def replaced_roots(session: Session, expected: Digests) -> Iterator[str]:
    """Those files differing from the image's that any other check is loaded from."""
    if not absent(session, PRELOAD):
        yield PRELOAD
    libraries = [path for path in expected if path.rsplit("/", 1)[1] in (*LOADED, *LOADED_BY_BASH)]
    for path in ("/usr/bin/find", *libraries):
        digest = expected[path]
        if digest.startswith("-> "):  # a version of the library, beside it
            digest = expected.get(f"{path.rsplit('/', 1)[0]}/{digest.removeprefix('-> ')}", "")
        if differs(session, path, digest):
            yield path
    yield from replaced_cache(session, {path.rsplit("/", 1)[1] for path in libraries})


def replaced_cache(session: Session, libraries: set[str]) -> Iterator[str]:
    """Entries of the loader's cache that lead to one of the libraries elsewhere, or a cache that is none."""
    if absent(session, CACHE):
        return
    try:
        entries = [*cached(read(session, CACHE) or b"")]
    except (struct.error, ValueError):
        yield f"{CACHE} (in no known format)"
        return
    yield from (f"{CACHE} ({name})" for name, path in entries if name in libraries and not usual(path))


def replaced_tools(session: Session, recorded: Manifest, expected: Digests, known: set[str]) -> Iterator[str]:
    """Tools that changed since the box began and differ from the image's, and what Python would run unasked."""
    folders = " ".join([*recorded.folders, *IMPORTED])
    scan = session.verify(SCAN.replace("FOLDERS", folders))
    age = re.search(r"^age (\d+)\n", scan.shown, re.MULTILINE)
    if age is None or scan.exit_code != 0 or scan.cut_bytes:
        raise InfrastructureError(f"the box's clock or its list of changed files cannot be read: {scan.shown[:200]!r}")
    for entry in scan.shown[age.end() :].split("\0"):
        path, _, target = entry.partition("\t")
        if path in expected:
            if expected[path] != f"-> {target}" and (target or differs(session, path, expected[path])):
                yield path
        elif STARTUP.search(path) and path not in known and runs_code(session, path):
            yield path


def runs_code(session: Session, path: str) -> bool:
    """A `.pth` file runs the lines that begin with `import`; the others run as they are."""
    return not path.endswith(".pth") or re.search(rb"^import\s", read(session, path) or b"", re.MULTILINE) is not None


def differs(session: Session, path: str, digest: str) -> bool:
    data = read(session, path)
    return data is None or hashlib.sha256(data).hexdigest() != digest


def absent(session: Session, path: str) -> bool:
    """Nothing at all is there; a folder, a link in a circle or a device is something."""
    try:
        return session.read_file(path) is None
    except OSError:
        return False


def read(session: Session, path: str) -> bytes | None:
    """A file as PID 1 reads it; `None` also for what is no regular file."""
    try:
        return session.read_file(path, LARGEST)
    except OSError:
        return None


def usual(path: str) -> bool:
    """In the folder of the image's own libraries."""
    return re.fullmatch(r"(/usr)?/lib/[a-z0-9_]+-linux-gnu/[^/]+", path) is not None


def cached(cache: bytes) -> Iterator[tuple[str, str]]:
    """Library name and path of each entry of a loader's cache (glibc 2.32 and later, `ld.so.cache1.1`).

    Raises `ValueError` or `struct.error` for anything else.
    """
    start = cache.find(b"glibc-ld.so.cache1.1")
    if start < 0:
        raise ValueError("in no known format")

    def text(offset: int) -> str:
        return cache[start + offset : cache.index(b"\0", start + offset)].decode(errors="replace")

    (count,) = struct.unpack_from("<I", cache, start + 20)
    for number in range(count):
        _, name, path, _, _ = struct.unpack_from("<iIIIQ", cache, start + 48 + 24 * number)
        yield text(name), text(path)
