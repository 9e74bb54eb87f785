"""Two builds of one size: what is padded, how, and that what reads the file does not mind."""

import gzip
import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("padding", ROOT / "sandbox/box/padding.py")
assert _spec and _spec.loader
padding = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(padding)


def zipped(text: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a.py", text)
    return whole.getvalue()


def installer(text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return b"#!/bin/sh\nsed '1,/^__ARCHIVE__$/d' \"$0\" | tar xzO\nexit 0\n__ARCHIVE__\n" + packed.getvalue()


def read_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.read("a.py").decode()


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


SHORT, LONG = "x = 1\n", "import os, sys, json\nx = 2\n" + "y = 3\n" * 30
KINDS = {
    "a.whl": (zipped, read_zip),
    "a.tar.gz": (lambda text: gzip.compress(text.encode()), lambda path: gzip.decompress(path.read_bytes()).decode()),
    "a.gz": (lambda text: gzip.compress(text.encode()), lambda path: output("gzip", "-dc", str(path))),
    "a.run": (installer, lambda path: output("sh", str(path))),
    "a.py": (str.encode, lambda path: output(sys.executable, "-c", f"exec(open({str(path)!r}).read()); print(x)")),
    "a.toml": (lambda text: f"x = {10 ** len(text)}".encode(), lambda path: str(tomllib.loads(path.read_text()))),
    "Makefile": (
        lambda text: f"all:\n\t@echo {len(text)}".encode(),
        lambda path: output("make", "-s", "-C", str(path.parent)),
    ),
    "site.conf": (lambda text: b"# settings\n" + text.encode(), lambda path: path.read_text().splitlines()[1]),
    "tool": (lambda text: b"#!/bin/sh\n" + b"echo 1\n" * len(text), lambda path: output("sh", str(path))),
}


@pytest.mark.parametrize("name", KINDS)
def test_both_are_padded_to_one_size_and_read_as_before(name: str, tmp_path: Path) -> None:
    write, read = KINDS[name]
    before, after = [], []
    for build, text in (("ok", SHORT), ("faulty", LONG)):
        (tmp_path / build).mkdir()
        path = tmp_path / build / name
        path.write_bytes(write(text))
        before.append((path.stat().st_size, read(path)))
    padding.pad_alike(tmp_path / "ok", tmp_path / "faulty")
    for build in ("ok", "faulty"):
        path = tmp_path / build / name
        after.append((path.stat().st_size, read(path)))
    assert after[0][0] == after[1][0]
    assert all(new > old for (old, _), (new, _) in zip(before, after, strict=True)), "both get a comment"
    assert [text for _, text in before] == [text for _, text in after]


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_c_source_compiles_as_before(tmp_path: Path) -> None:
    for build, lines in (("ok", 1), ("faulty", 9)):
        (tmp_path / build).mkdir()
        (tmp_path / build / "a.c").write_text("int main(void) { return 0; }" + "\n" * lines)
    padding.pad_alike(tmp_path / "ok", tmp_path / "faulty")
    assert len({(tmp_path / build / "a.c").stat().st_size for build in ("ok", "faulty")}) == 1
    for build in ("ok", "faulty"):
        subprocess.run(["cc", "-Wall", "-Werror", "-c", "a.c", "-o", "a.o"], cwd=tmp_path / build, check=True)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("table", b"47\n"),
        ("table.csv", b"# a,b\n1,2\n"),
        ("core.o", b"\x7fELF#\n"),
        ("a.xs", b"#include <a.h>\n"),
        ("a.html", b"<p>\n#\n"),
    ],
)
def test_what_no_rule_fits_is_left_alone(name: str, data: bytes, tmp_path: Path) -> None:
    for build, content in (("ok", data), ("faulty", data + b"1\n")):
        (tmp_path / build).mkdir()
        (tmp_path / build / name).write_bytes(content)
    padding.pad_alike(tmp_path / "ok", tmp_path / "faulty")
    assert (tmp_path / "ok" / name).read_bytes() == data
    assert (tmp_path / "faulty" / name).read_bytes() == data + b"1\n"


def test_files_of_one_size_links_and_files_of_one_build_are_left_alone(tmp_path: Path) -> None:
    for build in ("ok", "faulty"):
        (tmp_path / build).mkdir()
        (tmp_path / build / "a.py").write_text(f"# {build[:2]}\n")
        (tmp_path / build / "b.py").symlink_to("/" + build)
    (tmp_path / "ok/c.py").write_text("#\n")
    padding.pad_alike(tmp_path / "ok", tmp_path / "faulty")
    assert (tmp_path / "ok/a.py").read_text() == "# ok\n"
    assert (tmp_path / "ok/c.py").read_text() == "#\n"
    assert (tmp_path / "faulty/b.py").is_symlink()
