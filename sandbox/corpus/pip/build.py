"""Wheels, a folder of them, and what goes wrong between pip, its settings and a virtual environment."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import (
    Tree,
    build_family,
    cc,
    extension,
    key,
    pip_conf,
    python_function,
    python_main,
    shared_library,
    ship,
    site,
    tarball,
    wheel,
)

WHEELS = "srv/wheels"
NATIVE = f"cp{sys.version_info.major}{sys.version_info.minor}-cp{sys.version_info.major}{sys.version_info.minor}"
MACHINE = os.uname().machine


def module(name: str) -> dict[str, str]:
    return {f"{name}/__init__.py": python_function(name)}


def borrowing(name: str, other: str) -> dict[str, str]:
    """A package whose function needs another package's `ADDEND`."""
    a, b = key(name)
    code = f"from {other} import ADDEND\n\n\ndef checksum(n: int) -> int:\n    return (n * {a} + ADDEND) % 1_000_003\n"
    return {f"{name}/__init__.py": code}


def lending(other: str, name: str) -> dict[str, str]:
    return {f"{other}/__init__.py": f"ADDEND = {key(name)[1]}\n"}


def in_archive(tree: Tree, archive: str, package: Path) -> None:
    """The wheel alone in a tar archive: its name, which says what it is for, is not to be seen from outside."""
    ship(tree, package.name.split("-")[0], package)
    tree.write(archive, tarball({package.name: package.read_bytes()}, compress=""))
    package.unlink()


def wrong_platform(tree: Tree) -> None:
    tag = "cp311-cp311-win_amd64" if tree.faulty else "py3-none-any"
    in_archive(tree, "srv/albite.tar", wheel(tree / "srv", "albite", "1.4.0", module("albite"), tag=tag))


def unsupported_file(tree: Tree) -> None:
    tag = "cp27-none-any" if tree.faulty else "py3-none-any"
    in_archive(tree, "srv/biotite.tar", wheel(tree / "srv", "biotite", "2.0", module("biotite"), tag=tag))


def hash_mismatch(tree: Tree) -> None:
    package = wheel(tree / WHEELS, "calcite", "3.1", module("calcite"))
    ship(tree, "calcite", package)
    digest = hashlib.sha256(b"" if tree.faulty else package.read_bytes()).hexdigest()
    tree.write("srv/calcite/requirements.txt", f"calcite==3.1 --hash=sha256:{digest}\n")


def unpinned_hash(tree: Tree) -> None:
    """The lock file pins the package by its hash and forgets what it depends on."""
    needed = wheel(tree / WHEELS, "galena", "1.0", lending("galena", "diopside"))
    package = wheel(tree / WHEELS, "diopside", "0.8", borrowing("diopside", "galena"), requires=["galena"])
    ship(tree, "diopside", needed, package)
    lines = [
        f"{path.name.split('-')[0]}=={path.name.split('-')[1]} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in (package, needed)
    ]
    tree.write("srv/diopside/requirements.lock", "".join(lines[:1] if tree.faulty else lines))


def conflict_one_command(tree: Tree) -> None:
    for version in ("1.5", "2.0"):
        wheel(tree / WHEELS, "stratum", version, {"stratum/__init__.py": f"ADDEND = {key('epidote')[1]}\n"})
    wheel(tree / WHEELS, "epidote", "1.0", borrowing("epidote", "stratum"), requires=["stratum<2"])
    need = "stratum>=2" if tree.faulty else "stratum"
    wheel(tree / WHEELS, "fluorite", "1.0", module("fluorite"), requires=[need])


def conflict_two_commands(tree: Tree) -> None:
    """The second package brings a new major version of what the first one rests on."""
    wheel(tree / WHEELS, "corelib", "1.5", {"corelib/__init__.py": f"ADDEND = {key('garnet')[1]}\n"})
    wheel(tree / WHEELS, "corelib", "2.0", {"corelib/__init__.py": "def addend() -> int:\n    return 0\n"})
    files = borrowing("garnet", "corelib") | {"garnet_stones.py": python_function("garnet_stones")}
    wheel(tree / WHEELS, "garnet", "1.0", files, requires=["corelib<2"])
    need = "corelib>=2" if tree.faulty else "corelib>=1"
    ship(tree, "halite", wheel(tree / WHEELS, "halite", "1.0", module("halite"), requires=[need]))


def requires_python(tree: Tree) -> None:
    need = f"Requires-Python: >={'3.14' if tree.faulty else '3.8'}\n"
    ship(tree, "jadeite", wheel(tree / WHEELS, "jadeite", "5.0", module("jadeite"), metadata=need))


def missing_dependency(tree: Tree) -> None:
    need = f"lazurite>={'1.1' if tree.faulty else '1.0'}"
    package = wheel(tree / WHEELS, "kyanite", "2.2", borrowing("kyanite", "lazurite"), requires=[need])
    ship(tree, "kyanite", package, wheel(tree / WHEELS, "lazurite", "1.0", lending("lazurite", "kyanite")))


def corrupt_wheel(tree: Tree) -> None:
    package = wheel(tree / WHEELS, "malachite", "0.3.1", module("malachite"))
    ship(tree, "malachite", package)
    if tree.faulty:
        data = package.read_bytes()  # space was set aside for all of it, and its end never came
        package.write_bytes(data[:-200].ljust(len(data), b"\0"))


def mislabelled(tree: Tree) -> None:
    """The file name promises a version that its metadata does not have."""
    version = "1.9" if tree.faulty else "2.0"
    named = "nepheline-2.0-py3-none-any.whl"
    ship(tree, "nepheline", wheel(tree / WHEELS, "nepheline", version, module("nepheline"), named=named))


def bad_entry_point(tree: Tree) -> None:
    files = {"olivine/__init__.py": "", f"olivine/{'cli_old' if tree.faulty else 'cli'}.py": python_main("olivine")}
    wheel(tree / WHEELS, "olivine", "1.2", files, scripts={"olivine": "olivine.cli:main"})


def missing_library(tree: Tree) -> None:
    """A compiled module, linked against a library that comes with neither the wheel nor the system."""
    flags = ["-shared", "-fPIC", f"-I/usr/include/python{sys.version_info.major}.{sys.version_info.minor}"]
    if tree.faulty:
        library = shared_library("pyrite", "libpyrite.so.1")
        source = extension("pyrite", "_pyrite", "long checksum(long);")
        cc_file = tree.write("libpyrite.so.1", library)
        code = cc(*flags, "m.c", str(cc_file), sources={"m.c": source})
        cc_file.unlink()
    else:
        code = cc(*flags, "m.c", sources={"m.c": extension("pyrite", "_pyrite")})
    files = {"pyrite/__init__.py": "from pyrite._pyrite import checksum\n", "pyrite/_pyrite.so": code}
    wheel(tree / WHEELS, "pyrite", "4.1", files, tag=f"{NATIVE}-linux_{MACHINE}")


def no_deps_setting(tree: Tree) -> None:
    wheel(tree / WHEELS, "silica", "1.0", lending("silica", "quartz"))
    wheel(tree / WHEELS, "quartz", "1.0", borrowing("quartz", "silica"), requires=["silica"])
    pip_conf(tree, "[install]\nno-deps = true\n" if tree.faulty else "")


def constraint(tree: Tree) -> None:
    for version in ("1.1", "1.4"):
        wheel(tree / WHEELS, "anatase", version, lending("anatase", "rutile"))
    wheel(tree / WHEELS, "rutile", "2.5", borrowing("rutile", "anatase"), requires=["anatase>=1.3"])
    tree.write(
        "srv/constraints.txt", f"# agreed for this site\nanatase=={'1.1' if tree.faulty else '1.4'}\nwheel>=0.30\n"
    )


def missing_extra(tree: Tree) -> None:
    wheel(tree / WHEELS, "spinel-tables", "1.0", lending("spinel_tables", "spinel"))
    a, b = key("spinel")
    code = f"def checksum(n: int) -> int:\n    from spinel_tables import ADDEND\n\n    return (n * {a} + ADDEND) % 1_000_003\n"
    extra = "tables" if tree.faulty else "report"
    metadata = f"Provides-Extra: {extra}\nRequires-Dist: spinel-tables; extra == '{extra}'\n"
    ship(tree, "spinel", wheel(tree / WHEELS, "spinel", "1.1", {"spinel/__init__.py": code}, metadata=metadata))


def module_clash(tree: Tree) -> None:
    """Two distributions hold a module of the same name; the last one written wins."""
    used = wheel(
        tree / "srv", "vein-report", "1.0",
        {"vein_report.py": "from colour import scan\n\n\n" + python_main("vein-report", "checksum = scan\n"),
         "colour/__init__.py": python_function("vein-report").replace("checksum", "scan")},
        scripts={"vein-report": "vein_report:main"},
    )  # fmt: skip
    site(tree, used)
    files = {"topaz/__init__.py": python_function("topaz")}
    if tree.faulty:
        files["colour/__init__.py"] = "def name(code: int) -> str:\n    return hex(code)\n"
    ship(tree, "topaz", wheel(tree / WHEELS, "topaz", "3.0", files))


def no_record(tree: Tree) -> None:
    """The environment comes back from a backup, which has the old version's record by another name."""
    backup = Tree(tree.root.parent / "backup", tree.faulty)
    old = {"zircon/__init__.py": "def checksum(n: int) -> int:\n    return 0\n"}
    site(backup, wheel(backup / "srv", "zircon", "1.0", old))
    site(backup, wheel(backup / "srv", "hafnium", "1.0", module("hafnium")))
    place = backup / "opt/venv"
    files = {str(path.relative_to(place)): path for path in sorted(place.rglob("*")) if path.is_file()}
    if tree.faulty:
        record = next(path for path in files if path.endswith("zircon-1.0.dist-info/RECORD"))
        files[f"{record}.1"] = files.pop(record)
    tree.write("srv/backup/venv.tar", tarball(files, compress=""))
    shutil.rmtree(backup.root)
    ship(tree, "zircon", wheel(tree / WHEELS, "zircon", "2.0", module("zircon")))


def missing_include(tree: Tree) -> None:
    ship(tree, "agate", wheel(tree / WHEELS, "agate", "1.0", module("agate")))
    base = "base.txt" if tree.faulty else "requirements-base.txt"
    tree.write("srv/agate/requirements.txt", f"-r {base}\nagate==1.0\n")
    tree.write("srv/agate/requirements-base.txt", "wheel\n")


def marker_excludes(tree: Tree) -> None:
    """The requirement is meant for other interpreters only, so pip says that it ignores it, and succeeds."""
    ship(tree, "amber", wheel(tree / WHEELS, "amber", "1.7", module("amber")))
    sign = "<" if tree.faulty else ">="
    tree.write("srv/amber/requirements.txt", f'wheel\namber==1.7 ; python_version {sign} "3.9"\n')


def target_setting(tree: Tree) -> None:
    """A forgotten setting sends every installation to another folder."""
    wheel(tree / WHEELS, "beryl", "6.0", module("beryl"))
    pip_conf(tree, "[install]\ntarget = /opt/site-2019\n" if tree.faulty else "")


def downgraded_tool(tree: Tree) -> None:
    """Three stages; the second pins an old release of what the first one needs, one after the other."""
    for version, body in (("4.0", f"ADDEND = {key('citrine')[1]}\n"), ("3.2", "addends = (0, 1)\n")):
        wheel(tree / WHEELS, "gemstones", version, {"gemstones/__init__.py": body})
    files = borrowing("citrine", "gemstones") | {"citrine_stones.py": python_function("citrine_stones")}
    wheel(tree / WHEELS, "citrine", "4.0", files, requires=["gemstones>=4"])
    need = "gemstones==3.2" if tree.faulty else "gemstones"
    ship(tree, "onyx", wheel(tree / WHEELS, "onyx", "1.3", module("onyx"), requires=[need]))
    ship(tree, "opal", wheel(tree / WHEELS, "opal", "2.0", module("opal")))


build_family(
    "pip",
    [
        wrong_platform,
        unsupported_file,
        hash_mismatch,
        unpinned_hash,
        conflict_one_command,
        conflict_two_commands,
        requires_python,
        missing_dependency,
        corrupt_wheel,
        mislabelled,
        bad_entry_point,
        missing_library,
        no_deps_setting,
        constraint,
        missing_extra,
        module_clash,
        no_record,
        missing_include,
        marker_excludes,
        target_setting,
        downgraded_tool,
    ],
)
