"""families.py CORPUS OUT.tar: builds every family of CORPUS and packs each task's builds into one archive.

Runs inside the image while it is made: root, no network. CORPUS holds one folder a family; each has
`build.sh DEST`, which writes `DEST/<task>/{ok,faulty}/...` and perhaps `DEST/<task>/shipped/<stage>/...`.
Files of which the two builds hold different sizes are padded to one (`padding.py`).
The archive holds `<task>.<build>.tar` and `manifest.json`: digests of what a sound installation leaves of each stage
and of what each build lays down, and the folders of the box's own tools. Their digests are not taken here: the root
file system is not finished yet. It is one file because a box removes it before the agent arrives, and an overlay
removes one file faster than hundreds.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from padding import pad_alike  # type: ignore[import-not-found]  # beside this file, in the image

EPOCH = 1_700_000_000
LIBRARIES = subprocess.check_output(["gcc", "-print-multiarch"], text=True).strip()
FOLDERS = (
    "/usr/bin",
    "/usr/sbin",
    f"/usr/lib/{LIBRARIES}",
    "/usr/lib/apt",
    "/usr/lib/dpkg",
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/share/perl5",
    "/etc/alternatives",
    "/etc/nsswitch.conf",
    "/etc/python3.11",
    "/etc/ssl/openssl.cnf",
    "/opt/venv/bin",
    "/opt/venv/lib/python3.11/site-packages/_distutils_hack",
    "/opt/venv/lib/python3.11/site-packages/pip",
    "/opt/venv/pyvenv.cfg",
)
"""Folders, and some files, that a verifier runs, loads, or is told by what to load."""


def main(corpus: Path, out: Path) -> None:
    families = sorted(path.parent for path in corpus.glob("*/build.sh"))
    with tempfile.TemporaryDirectory() as scratch:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            trees = list(pool.map(lambda family: build(family, Path(scratch, f"family-{family.name}")), families))
        shipped, laid = {}, {}
        builds = Path(scratch, "builds")
        builds.mkdir()
        for tree in trees:
            for task in sorted(tree.iterdir()):
                pad_alike(task / "ok", task / "faulty")
                for draw in ("ok", "faulty"):
                    laid[f"{task.name}.{draw}"] = digests([task / draw], below=task / draw)
                    pack(task / draw, builds / f"{task.name}.{draw}.tar")
                shipped[task.name] = {
                    stage.name: digests([stage], below=stage) for stage in sorted(task.glob("shipped/*"))
                }
        manifest = {"shipped": shipped, "laid": laid, "folders": FOLDERS}
        (builds / "manifest.json").write_text(json.dumps(manifest, indent=0, sort_keys=True))
        pack(builds, out)
        print(f"{len(shipped)} tasks of {len(families)} families")


def build(family: Path, tree: Path) -> Path:
    tree.mkdir()
    done = subprocess.run(
        ["sh", str(family / "build.sh"), str(tree)],
        cwd="/",
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},  # dpkg-deb, gcc and Python then write no other time
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        sys.exit(f"family {family.name}: build.sh ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return tree


def pack(tree: Path, archive: Path) -> None:
    """The same bytes for the same tree: sorted names, one time, root as owner."""
    if not tree.is_dir():
        sys.exit(f"{tree.parent.name}: its build.sh made no {tree.name!r} build")
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            if (
                path.is_dir()
                and not path.is_symlink()
                and path.stat().st_mode & 0o7777 == 0o755
                and any(path.iterdir())
            ):
                continue  # tar makes it where it is missing, and leaves /tmp and its like as they are
            entry = tar.gettarinfo(str(path), str(path.relative_to(tree)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = EPOCH
            if entry.isfile():
                with path.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                tar.addfile(entry)


def digests(folders: list[Path], below: Path) -> dict[str, str]:
    """SHA-256 of each file in the folders, by its path from the root; of a link, `-> target`."""
    found = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            if path.suffix == ".pyc":
                continue
            name = f"/{path.relative_to(below)}"
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
