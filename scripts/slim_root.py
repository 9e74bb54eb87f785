"""Copies of the box's root file system what some families need: slim_root.py OUT GLOB... [--packages NAME...]

Writes `OUT/root` and `OUT/manifest.json`, as `devnull image export` lays them out, with Debian's essential packages,
those named and what they depend on, and the builds of the tasks that match. Then every family is played in both root
file systems, each build: a difference in what the terminal shows or in how the stages end is an error.
"""

import argparse
import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devnull.sandbox.image.acceptance import read_manifest
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.image.rootfs import ensure_rootfs, remove_tree, rootfs_manifest
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.task import BUILDS, Task
from devnull.sandbox.task_check import run_commands
from devnull.sandbox.tasks import load_tasks

_MERGED = re.compile(r"^/(bin|sbin|lib|lib64)/")
_PACKAGES = ("procps", "xz-utils", "passwd")
_LEFT_OUT = {"usrmerge", "perl", "libperl5.36", "perl-modules-5.36"}
"""Dependencies that only installing those packages would need."""
_UNREAD = re.compile(
    r"^/(opt/venv|var/(cache|log)|usr/(include|src)|usr/lib/(python3|gcc|locale/(?!C\.)|\w+-linux-gnu/gconv)"
    r"|usr/libexec/gcc|usr/local/lib/python|usr/share/(doc|man|info|locale|zoneinfo|i18n|lintian|bash-completion|perl5?"
    r"|pixmaps|gcc|cmake|python-wheels|python3))(/|$)"
)
_INSTALLED = re.compile(r"\d+ files and directories currently installed")
"""What dpkg says of the root file system itself."""
_EMPTY = ("var/cache/apt/archives/partial", "var/cache/debconf", "var/log/apt")


class _Dpkg:
    """What dpkg of a root file system knows: its packages and whose each file is."""

    def __init__(self, root: Path) -> None:
        self.info = root / "var/lib/dpkg/info"
        self.paragraphs: dict[str, str] = {}
        self._fields: dict[str, dict[str, str]] = {}
        self._providers: dict[str, str] = {}
        for paragraph in (root / "var/lib/dpkg/status").read_text().strip().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+): ?(.*)$", paragraph, re.M))
            name = fields["Package"]
            self.paragraphs[name], self._fields[name] = paragraph, fields
            for provided in re.findall(r"[a-z0-9][a-z0-9.+-]+", re.sub(r"\([^)]*\)", "", fields.get("Provides", ""))):
                self._providers.setdefault(provided, name)

    def closure(self, names: tuple[str, ...]) -> set[str]:
        """The essential packages, those of the names, and all that they depend on."""
        owed = [name for name, fields in self._fields.items() if fields.get("Essential") == "yes"] + list(names)
        kept: set[str] = set()
        while owed:
            name = owed.pop()
            name = name if name in self._fields else self._providers.get(name, "")
            if not name or name in kept | _LEFT_OUT:
                continue
            kept.add(name)
            needs = ",".join(self._fields[name].get(field, "") for field in ("Depends", "Pre-Depends"))
            for alternatives in filter(None, map(str.strip, needs.split(","))):
                choices = [re.sub(r"[ (:].*", "", one.strip()) for one in alternatives.split("|")]
                owed += [one for one in choices if one in self._fields or one in self._providers][:1]
        return kept

    def files(self, names: set[str]) -> set[str]:
        """Absolute paths, folders included, as they lie in a merged `/usr`."""
        lists = [path for path in self.info.glob("*.list") if package_of(path.name) in names]
        return {_MERGED.sub(r"/usr/\1/", line) for path in lists for line in path.read_text().splitlines()}


def package_of(name: str) -> str:
    """Of a file of dpkg's `info` folder."""
    return name.rsplit(".", 1)[0].split(":")[0]


def copy_slim(source: Path, target: Path, packages: tuple[str, ...], tasks: set[str]) -> None:
    """The root file system `source` without other packages' files and other tasks' builds."""
    dpkg = _Dpkg(source)
    kept = dpkg.closure(packages)
    mine, owned = dpkg.files(kept), dpkg.files(set(dpkg.paragraphs))

    def left_out(folder: str, names: list[str]) -> set[str]:
        at = "" if folder == str(source) else f"/{os.path.relpath(folder, source)}"
        if at == "/var/lib/dpkg/info":
            return {name for name in names if package_of(name) not in kept and name != "format"}
        return {
            name
            for name in names
            if _UNREAD.match(path := f"{at}/{name}") or path == BUILDS or (path in owned and path not in mine)
        }

    shutil.copytree(source, target, symlinks=True, ignore=left_out)
    for path in [target, *target.rglob("*")]:
        before = (source / path.relative_to(target)).lstat()
        os.chown(path, before.st_uid, before.st_gid, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(before.st_mode & 0o7777)  # a change of owner takes the set-user-id bit off
    for folder in _EMPTY:
        (target / folder).mkdir(parents=True, exist_ok=True)
    for link in [path for path in target.rglob("*") if path.is_symlink()]:
        if not os.path.lexists(_end(target, link)) and os.path.lexists(_end(source, source / link.relative_to(target))):
            link.unlink()
    text = "\n\n".join(dpkg.paragraphs[name] for name in sorted(kept))
    (target / "var/lib/dpkg/status").write_text(f"{text}\n\n")
    subprocess.run(["chroot", str(target), "/sbin/ldconfig"], check=True)
    (target / "var/cache/ldconfig/aux-cache").unlink(missing_ok=True)
    _copy_builds(source / BUILDS.lstrip("/"), target, tasks)


def _end(root: Path, link: Path) -> Path:
    to = link.readlink()
    return root / to.relative_to("/") if to.is_absolute() else link.parent / to


def _copy_builds(source: Path, target: Path, tasks: set[str]) -> None:
    """Of the archive of builds those of the tasks, and what its manifest says of them and of folders still there."""
    with (
        tarfile.open(source) as builds,
        tarfile.open(target / BUILDS.lstrip("/"), "w", format=tarfile.GNU_FORMAT) as out,
    ):
        listing = builds.extractfile("manifest.json")
        assert listing is not None
        table = json.load(listing)
        table["shipped"] = {name: files for name, files in table["shipped"].items() if name in tasks}
        table["laid"] = {name: files for name, files in table["laid"].items() if name.rsplit(".", 1)[0] in tasks}
        table["folders"] = [path for path in table["folders"] if (target / path.lstrip("/")).exists()]
        data = json.dumps(table, indent=0, sort_keys=True).encode()
        for entry in builds:
            if entry.name == "manifest.json":
                entry.size = len(data)
                out.addfile(entry, io.BytesIO(data))
            elif entry.name.rsplit(".", 2)[0] in tasks:
                out.addfile(entry, builds.extractfile(entry))


def differences(full: Path, slim: Path, manifest: Manifest, tasks: list[Task]) -> list[str]:
    """What the tasks show or leave otherwise in the slim root file system than in the full one, a line each."""
    pair = RootlessRuntime(full, manifest=rootfs_manifest(full)), RootlessRuntime(slim, manifest=manifest)

    def play(task: Task) -> list[str]:
        found = []
        for faulty in (False, True):
            commands = [stage.command for stage in task.stages]
            (before, ending), (after, ended) = (
                run_commands(task, runtime, faulty=faulty, commands=commands) for runtime in pair
            )
            for one, other in zip(before, after, strict=True):
                if (_INSTALLED.sub("", one.shown), one.exit_code) != (_INSTALLED.sub("", other.shown), other.exit_code):
                    found.append(f"{task.name}: {one.command}: {one.shown[-200:]!r} became {other.shown[-200:]!r}")
            if ending.stages != ended.stages or ended.tampered:
                found.append(f"{task.name}: {ending.stages} became {ended.stages}, tampered: {ended.tampered}")
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for lines in pool.map(play, tasks) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("globs", nargs="+")
    parser.add_argument("--packages", nargs="*", default=[])
    args = parser.parse_args()
    full = ensure_rootfs(lambda line: print(line, file=sys.stderr))
    tasks = [task for name, task in load_tasks().items() if any(fnmatch.fnmatch(name, glob) for glob in args.globs)]
    remove_tree(args.out)
    args.out.mkdir(parents=True, mode=0o700)
    slim = args.out / "root"
    copy_slim(full, slim, (*_PACKAGES, *args.packages), {task.name for task in tasks})
    manifest = read_manifest(RootlessRuntime(slim, manifest=NO_MANIFEST))
    sample = list({(task.family, len(task.stages), task.fault.stage): task for task in tasks}.values())
    wrong = differences(full, slim, manifest, sample)
    if wrong:
        sys.exit("the slim root file system is not as the full one:\n" + "\n".join(wrong))
    (args.out / "manifest.json").write_text(manifest.to_json())
    print(
        f"{len(tasks)} tasks, {len(manifest.tools)} tools; {len(sample)} tasks played in both, alike", file=sys.stderr
    )


if __name__ == "__main__":
    main()
