"""Whether an agent could know which build its box holds before it tries anything: both builds, seen from outside."""

from itertools import zip_longest

from devnull.sandbox.build_layout import lay_out_build
from devnull.sandbox.runtime import Limits, Runtime
from devnull.sandbox.session import HARNESS_SECONDS
from devnull.sandbox.task import Instance

_LOOK = r"""echo "shell $_ $OLDPWD $(history) $(hash)"
export -p; du -s /srv /opt /etc /usr/local /root /var
own=yes; grep -q '^overlay / .*upperdir=/' /proc/mounts && own=  # the box's disk, or one shared with other boxes
[ -z "$own" ] || { echo "process $$"; df --output=used,iused /; }
sed -n '/^Size\|^Installed-Size/p' /srv/repo/Packages 2>&1
/usr/bin/python3 -I -B - $own <<'END'
import hashlib, os, stat, sys, time

up = float(open("/proc/uptime").read().split()[0])
ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
early = 2 if len(sys.argv) > 1 else 10  # seconds before PID 1 in which a box is made; a daemon takes longer
began = time.time() - up + ticks / os.sysconf("SC_CLK_TCK") - early
mounts = {line.split()[4] for line in open("/proc/self/mountinfo")} - {"/", "/tmp", "/dev/shm"}
others = hashlib.sha256()


def when(seconds):
    return "since the box began" if seconds > began else f"{seconds:.9f}"


def kind(path):
    # What `file` goes by: the first bytes of a binary, the interpreter and the encoding of a text.
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] == b"\x7fELF":
        return data[:20].hex()
    for magic in (b"PK\3\4", b"\x1f\x8b\x08", b"!<arch>\ndebian-binary   ", b"!<arch>\n", b"SQLite format 3\0"):
        if data.startswith(magic):
            return f"{magic!r} {data[60:64].hex() if magic[:6] == b'SQLite' else ''}"
    if data[257:262] == b"ustar":
        return "tar"
    line = data[:200].partition(b"\n")[0]
    language = line.decode("latin-1") if data[:2] == b"#!" else "#include" if b"#include" in data else ""
    for encoding in ("ascii", "utf-8"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        marks = "\r" in text, "\0" in text, max(map(len, text.split("\n"))) > 300
        return f"{language} {encoding} CRLF NUL long lines: {marks}"
    return language + " binary"


def look(folder):
    for entry in os.scandir(folder):
        path, found = entry.path, entry.stat(follow_symlinks=False)
        if path in mounts:
            continue
        size = f"{found.st_size} {found.st_blocks}"
        what = f"{stat.filemode(found.st_mode)} {found.st_nlink} {found.st_uid} {found.st_gid} {size} {path}"
        if entry.is_symlink():
            what += f" -> {os.readlink(path)} {os.path.exists(path)}"
        what += f", modified {when(found.st_mtime)}, {' '.join(os.listxattr(path, follow_symlinks=False))}"
        if found.st_ctime <= began:
            others.update(f"{what} {found.st_ctime:.9f}\n".encode())
        else:
            inode = found.st_ino if len(sys.argv) > 1 else ""
            print(what, inode, kind(path) if entry.is_file(follow_symlinks=False) else "")
        if entry.is_dir(follow_symlinks=False):
            look(path)


look("/")
print("everything else", others.hexdigest())
END
"""
"""Prints all that can be seen without trying: shell, disk, and of every file, in the order in which its folder has
them, what `ls -l`, `stat`, `du` and `file` tell. Of times since the box began, only that they are. Process ids, inodes
and the space taken are compared where they are the box's own; on a shared disk they are another's noise."""


def differences_of_builds(instances: tuple[Instance, Instance], runtime: Runtime) -> list[str]:
    """What tells these two instances of one task apart before anything is tried, a line each; at most six.

    Looks at each in a fresh box, and again where they differ: what differs by chance (files that were unpacked seconds
    ago) tells nothing. Raises what `lay_out_build` and `Runtime.start` raise.
    """
    found = _differences(instances, runtime)
    again = set(_differences(instances, runtime)) if found else set()
    return [line for line in found if line in again][:6]


def _look(instance: Instance, runtime: Runtime) -> list[str]:
    session = runtime.start(Limits())
    try:
        lay_out_build(session, instance)
        result = session.run(_LOOK, timeout=HARNESS_SECONDS)
        return [*result.shown.splitlines(), f"exit status {result.exit_code}"]
    finally:
        session.close()


def _differences(instances: tuple[Instance, Instance], runtime: Runtime) -> list[str]:
    first, second = (_look(instance, runtime) for instance in instances)
    return [f"{one!r} / {other!r}" for one, other in zip_longest(first, second) if one != other]
