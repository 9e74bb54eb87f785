"""Makes the packages of the corpus, laid out as an episode finds them.

Runs inside the image while it is built: root, no network, only what the image holds. Each family's
`build.py` has one function a task; `build_family` calls it for both draws with a `Tree` to fill.
Everything is a function of names, so two builds give the same bytes.
"""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

EPOCH = 1_700_000_000
"""Time stamp of every file in every package."""
os.environ["SOURCE_DATE_EPOCH"] = str(EPOCH)
ARCHITECTURE = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
FOREIGN = "ia64"
"""An architecture that no host is, and that no emulator registered with the kernel would pick up."""

Files = Mapping[str, "str | bytes | Path"]
"""Path inside the package → its content; a mode is read from the content: `#!` and ELF are executable."""


class Tree:
    """The files one draw of one task lays over `/`."""

    def __init__(self, root: Path, faulty: bool) -> None:
        self.root = root
        self.faulty = faulty

    def write(self, path: str, content: str | bytes | Path, mode: int | None = None) -> Path:
        return put(self.root / path.lstrip("/"), content, mode)

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def __truediv__(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def build_family(family: str, layers: Iterable[Callable[[Tree], None]]) -> None:
    """Fills `sys.argv[1]/<family>-<function name>/{ok,faulty}` for each function."""
    for layer in layers:
        for draw in ("ok", "faulty"):
            root = Path(sys.argv[1]) / f"{family}-{layer.__name__.replace('_', '-')}" / draw
            root.mkdir(parents=True)
            layer(Tree(root, draw == "faulty"))


def put(place: Path, content: str | bytes | Path, mode: int | None = None) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    data = (
        content.read_bytes() if isinstance(content, Path) else content.encode() if isinstance(content, str) else content
    )
    place.write_bytes(data)
    place.chmod(mode if mode is not None else 0o755 if data[:2] == b"#!" or data[:4] == b"\x7fELF" else 0o644)
    return place


# Programs: each maps a number to another with constants drawn from its name. The verifier asks for two
# of these numbers, so printing what an installer prints, or any fixed text, does not pass.


def key(name: str) -> tuple[int, int]:
    digest = hashlib.sha256(f"devnull corpus {name}".encode()).digest()
    return 1 + int.from_bytes(digest[:4], "big") % 1_000_002, int.from_bytes(digest[4:8], "big") % 1_000_003


def shell_program(name: str, before: str = "", addend: str | None = None) -> str:
    """A script printing `NAME NUMBER`; `addend` replaces the constant by an expression of the shell."""
    a, b = key(name)
    return f'#!/bin/sh\n{before}echo "{name} $(( (${{1:-1}} * {a} + {addend or b}) % 1000003 ))"\n'


def constant(name: str) -> str:
    """The second constant of a program that reads it from a file."""
    return f"{key(name)[1]}\n"


def reading(name: str, path: str, message: str | None = None) -> str:
    """A script that reads it from the file at `path`, and says `message` if it is not there."""
    check = f'[ -s {path} ] || {{ echo "{name}: {message}" >&2; exit 1; }}\n' if message else ""
    return shell_program(name, f"{check}read -r addend < {path} || exit 1\n", "addend")


def python_function(name: str) -> str:
    a, b = key(name)
    return f"def checksum(n: int) -> int:\n    return (n * {a} + {b}) % 1_000_003\n"


def python_main(name: str, body: str | None = None) -> str:
    """A module with `checksum` and a `main` printing `NAME NUMBER`."""
    return (body if body is not None else python_function(name)) + (
        f'\n\ndef main() -> None:\n    import sys\n\n    print("{name}", checksum(int(sys.argv[1])))\n'
    )


def c_function(name: str, function: str = "checksum") -> str:
    a, b = key(name)
    return f"long {function}(long n)\n{{\n    return (n * {a} + {b}) % 1000003;\n}}\n"


def c_main(name: str, function: str = "checksum", before: str = "") -> str:
    return (
        "#include <stdio.h>\n#include <stdlib.h>\n\n"
        f"long {function}(long n);\n\nint main(int argc, char **argv)\n{{\n{before}"
        f'    printf("{name} %ld\\n", {function}(argc > 1 ? atol(argv[1]) : 1));\n    return 0;\n}}\n'
    )


def cc(*arguments: str, sources: Mapping[str, str]) -> bytes:
    """Compiles `sources` with `cc ARGUMENTS -o OUT`; in the arguments a source goes by its name."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sources.items():
            put(Path(folder, name), text)
        subprocess.run(["cc", "-O1", "-s", *arguments, "-o", "OUT"], cwd=folder, check=True)
        return Path(folder, "OUT").read_bytes()


def shared_library(name: str, soname: str, function: str = "checksum") -> bytes:
    return cc("-shared", "-fPIC", f"-Wl,-soname,{soname}", "f.c", sources={"f.c": c_function(name, function)})


def linked(name: str, library: bytes, soname: str, function: str = "checksum") -> bytes:
    """A program that prints `NAME NUMBER`, the function in a shared library of its own."""
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder, soname), library)
        return cc(f"-L{folder}", "m.c", f"-l:{soname}", sources={"m.c": c_main(name, function)})


def c_program(name: str) -> bytes:
    return cc("a.c", sources={"a.c": c_function(name) + c_main(name)})


def foreign_elf(elf: bytes) -> bytes:
    """The same ELF file marked as made for Itanium."""
    return elf[:18] + (50).to_bytes(2, "little") + elf[20:]


# Debian packages


def deb(
    folder: Path,
    name: str,
    version: str,
    files: Files,
    *,
    architecture: str = ARCHITECTURE,
    scripts: Mapping[str, str] | None = None,
    control: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
    named: str | None = None,
    **fields: str,
) -> Path:
    """Builds `folder/NAME_VERSION_ARCH.deb`. `fields`: `depends="libc6"`; `scripts`: other members of `DEBIAN/`.

    `named`: file name instead of that, for a package whose version or architecture is the fault. Not compressed, so that two builds whose files differ by a few bytes are of one size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stanza = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "Packages of the corpus <corpus@localhost>",
        "Section": "misc",
        "Priority": "optional",
        **{field.replace("_", "-").title(): value for field, value in fields.items()},
        **(control or {}),
    }
    stanza.setdefault("Description", f"{name}, a small program")
    out = folder / (named or f"{name}_{version.replace(':', '%3a')}_{architecture}.deb")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        put(root / "DEBIAN/control", "".join(f"{field}: {value}\n" for field, value in stanza.items()))
        for member, text in (scripts or {}).items():
            put(root / "DEBIAN" / member, text)
        for path, content in files.items():
            put(root / path.lstrip("/"), content, (modes or {}).get(path))
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "-b", scratch, str(out)], check=True, stdout=subprocess.DEVNULL
        )
    return out


def sh(body: str) -> str:
    """A maintainer script that stops at the first error."""
    return f"#!/bin/sh\nset -e\n{body}\n"


def repository(tree: Tree, *, options: str = "[trusted=yes] ") -> None:
    """Indexes `/srv/repo` and makes it apt's only source, lists already read."""
    entries = []
    for package in sorted((tree / "srv/repo").glob("*.deb")):
        control = subprocess.check_output(["dpkg-deb", "-f", str(package)], text=True).strip()
        data = package.read_bytes()
        place = f"Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        entries.append(f"{control}\n{place}")
    packages(tree, "\n".join(entries), options=options)


def packages(tree: Tree, index: str, *, options: str = "[trusted=yes] ") -> None:
    """Writes the index where the repository has it, and where `apt-get update` would put it."""
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = f"Suite: local\nDate: Tue, 14 Nov 2023 22:13:20 UTC\nSHA256:\n {digest} {len(index.encode())} Packages\n"
    for name, content in (("Packages", index), ("Release", release)):
        tree.write(f"srv/repo/{name}", content)
        tree.write(f"var/lib/apt/lists/_srv_repo_._{name}", content)
    # Without progress lines, of which there are more the slower the machine.
    tree.write("etc/apt/apt.conf.d/80quiet", 'quiet "1";\n')
    tree.write("etc/apt/sources.list", f"deb {options}file:/srv/repo ./\n")


def installed(tree: Tree, package: Path) -> None:
    """Lays a package out as if dpkg had installed it long ago (its postinst not run), and deletes the archive."""
    status = tree / "var/lib/dpkg/status"
    if not status.exists():
        put(status, Path("/var/lib/dpkg/status"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(tree.root)], check=True)
    stanza = subprocess.check_output(["dpkg-deb", "-f", str(package)], text=True).strip()
    name = re.search(r"^Package: (\S+)", stanza, re.M)
    assert name
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["dpkg-deb", "-e", str(package), scratch], check=True)
        members = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    conffiles = members.get("conffiles", b"").decode().split()
    sums = [f" {path} {hashlib.md5((tree / path).read_bytes()).hexdigest()}" for path in conffiles]
    extra = ("\nConffiles:\n" + "\n".join(sums)) if sums else ""
    first, _, rest = stanza.partition("\n")
    with status.open("a") as file:
        file.write(f"{first}\nStatus: install ok installed\n{rest}{extra}\n\n")
    listing = subprocess.check_output(
        ["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -t', "sh", str(package)], text=True
    )
    paths = [line.rstrip("/").removeprefix(".") or "/." for line in listing.splitlines()]
    tree.write(f"var/lib/dpkg/info/{name[1]}.list", "\n".join(paths) + "\n")
    sums_of_all = ((tree / path, path) for path in paths)
    members["md5sums"] = "".join(
        f"{hashlib.md5(file.read_bytes()).hexdigest()}  {path.lstrip('/')}\n"
        for file, path in sums_of_all
        if file.is_file()
    ).encode()
    for member, data in members.items():
        if member != "control":
            tree.write(f"var/lib/dpkg/info/{name[1]}.{member}", data)
    package.unlink()


# Python packages


def wheel(
    folder: Path,
    name: str,
    version: str,
    files: Files,
    *,
    tag: str = "py3-none-any",
    requires: Iterable[str] = (),
    scripts: Mapping[str, str] | None = None,
    metadata: str = "",
    named: str | None = None,
) -> Path:
    """Builds a wheel. `scripts`: console script → `module:function`; `named`: file name where it lies."""
    snake = name.replace("-", "_")
    info = f"{snake}-{version}.dist-info"
    members = {
        path: content if isinstance(content, bytes) else str(content).encode() for path, content in files.items()
    }
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members[f"{info}/METADATA"] = (head + "".join(f"Requires-Dist: {need}\n" for need in requires) + metadata).encode()
    pure = "true" if tag.endswith("-any") else "false"
    members[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: corpus\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode()
    if scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in members.items()
    )
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / (named or f"{snake}-{version}-{tag}.whl")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            entry = zipfile.ZipInfo(path, (2023, 11, 14, 22, 13, 20))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if data[:4] == b"\x7fELF" else 0o644) << 16
            archive.writestr(entry, data)
    return out


def site(tree: Tree, package: Path, venv: str = "opt/venv") -> None:
    """Unpacks a wheel into a virtual environment as pip would have, console scripts included; deletes the wheel."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    place = tree / f"{venv}/lib/{version}/site-packages"
    with zipfile.ZipFile(package) as archive:
        archive.extractall(place)
        info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        points = (
            archive.read(f"{info}/entry_points.txt").decode()
            if f"{info}/entry_points.txt" in archive.namelist()
            else ""
        )
    put(place / info / "INSTALLER", "pip\n")
    with (place / info / "RECORD").open("a") as file:
        file.write(f"{info}/INSTALLER,,\n")
    for script, module, function in re.findall(r"^(\S+) = (\S+):(\S+)$", points, re.M):
        tree.write(f"{venv}/bin/{script}", entry_script(f"/{venv}/bin/python3", module, function))
        with (place / info / "RECORD").open("a") as file:
            file.write(f"../../../bin/{script},,\n")
    package.unlink()


def entry_script(interpreter: str, module: str, function: str) -> str:
    return f"#!{interpreter}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"


def pip_conf(tree: Tree, more: str = "") -> None:
    """pip finds packages in `/srv/wheels` and nowhere else."""
    tree.write(
        "etc/pip.conf",
        f"# Settings of this site\n[global]\nno-index = true\nfind-links = /srv/wheels\ndisable-pip-version-check = true\nroot-user-action = ignore\n{more}",
    )


def extension(name: str, module: str, code: str | None = None, include: str = "") -> str:
    """C source of a Python module `module` with `checksum(n)`."""
    function = c_function(name) if code is None else code
    return (
        f"#define PY_SSIZE_T_CLEAN\n#include <Python.h>\n{include}\n{function}\n"
        "static PyObject *py_checksum(PyObject *self, PyObject *argument)\n{\n"
        "    long n = PyLong_AsLong(argument);\n    if (n == -1 && PyErr_Occurred())\n        return NULL;\n"
        "    return PyLong_FromLong(checksum(n));\n}\n\n"
        'static PyMethodDef methods[] = {{"checksum", py_checksum, METH_O, "Checksum of a number."}, {NULL}};\n'
        f'static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "{module}", NULL, -1, methods}};\n\n'
        f"PyMODINIT_FUNC PyInit_{module}(void)\n{{\n    return PyModule_Create(&module);\n}}\n"
    )


# Archives


def tarball(
    files: Files,
    top: str = "",
    modes: Mapping[str, int] | None = None,
    compress: str = "gz",
    links: Mapping[str, str] | None = None,
) -> bytes:
    """A tar archive of `files`, and of `links` (path → target), under the folder `top`.

    What differs between two builds in a name, a mode or a link lies in such an archive, which the stage unpacks.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in files.items():
            data = (
                content.read_bytes()
                if isinstance(content, Path)
                else content.encode()
                if isinstance(content, str)
                else content
            )
            entry = tarfile.TarInfo(f"{top}/{path}".lstrip("/"))
            entry.size, entry.mtime = len(data), EPOCH
            entry.mode = (modes or {}).get(path, 0o755 if data[:2] == b"#!" or data[:4] == b"\x7fELF" else 0o644)
            archive.addfile(entry, io.BytesIO(data))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(f"{top}/{path}".lstrip("/"))
            entry.type, entry.linkname, entry.mode, entry.mtime = tarfile.SYMTYPE, target, 0o777, EPOCH
            archive.addfile(entry)
    if compress != "gz":
        return plain.getvalue()
    return subprocess.run(["gzip", "-n9"], input=plain.getvalue(), check=True, capture_output=True).stdout


def copy_of(path: str, tree: Tree) -> None:
    """Copies a file of the image into the tree, to be changed there."""
    place = tree / path
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, place)


def ship(tree: Tree, stage: str, *archives: Path) -> None:
    """Tells the verifier what a sound installation of `stage` leaves: the files of these packages (sound draw only)."""
    if tree.faulty:
        return
    for archive in archives:
        folder = tree.root.parent / "shipped" / stage
        folder.mkdir(parents=True, exist_ok=True)
        if archive.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
        else:
            place = folder / f"opt/venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
            with zipfile.ZipFile(archive) as wheel_file:
                wheel_file.extractall(place, [n for n in wheel_file.namelist() if ".dist-info/" not in n])
