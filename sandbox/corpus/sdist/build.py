"""Python packages with C extensions, built on the spot, and what goes wrong between setuptools and the compiler."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, c_function, extension, key, put, python_function

PYPROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
SETUP = """\
from setuptools import Extension, setup
{before}
setup(
    name="{name}",
    version="{version}",
    packages=["{name}"],
    ext_modules=[Extension("{name}._core", {sources}{options})],{more}
)
"""


def project(
    tree: Tree,
    name: str,
    *,
    code: str | None = None,
    package: str | None = None,
    version: str = "1.0",
    before: str = "",
    sources: str = '["core.c"]',
    options: str = "",
    more: str = "",
    pyproject: str = PYPROJECT,
) -> None:
    """`/srv/src/NAME`: a Python package whose `checksum` is in C, changed by what is given."""
    folder = tree / f"srv/src/{name}"
    fields = {"before": before, "sources": sources, "options": options, "more": more, "version": version}
    put(folder / "setup.py", SETUP.format(name=name, **fields))
    put(folder / "pyproject.toml", pyproject)
    put(folder / "core.c", extension(name, "_core") if code is None else code)
    put(folder / name / "__init__.py", f"from {name}._core import checksum\n" if package is None else package)


def missing_header(tree: Tree) -> None:
    include = "#include <cobalt/blue.h>" if tree.faulty else ""
    project(tree, "cobalt", code=extension("cobalt", "_core", include=include))


def optional_extension(tree: Tree) -> None:
    """setuptools may leave the extension out; the package then has no fast path, and says so when asked for it."""
    code = extension("nickel", "_core", include="#include <nickel/simd.h>" if tree.faulty else "")
    package = (
        "try:\n    from nickel._core import checksum\nexcept ImportError:\n"
        '    def checksum(n: int) -> int:\n        raise RuntimeError("nickel: no fast path in this build")\n'
    )
    project(tree, "nickel", code=code, package=package, options=", optional=True")


def removed_interface(tree: Tree) -> None:
    """Written for Python 2: the function it calls is gone."""
    code = extension("argon", "_core")
    if tree.faulty:
        code = code.replace("PyLong_AsLong", "PyInt_AsLong")
    project(tree, "argon", code=code, options=', extra_compile_args=["-Werror=implicit-function-declaration"]')


def missing_link_library(tree: Tree) -> None:
    project(tree, "boron", options=', libraries=["borax"]' if tree.faulty else ', libraries=["m"]')


def missing_backend(tree: Tree) -> None:
    backend = '[build-system]\nrequires = ["cesium_build"]\nbuild-backend = "cesium_build.api"\n'
    project(tree, "cesium", pyproject=backend if tree.faulty else PYPROJECT)


def setup_refuses(tree: Tree) -> None:
    tool = "irc" if tree.faulty else "cc"
    before = (
        f'import shutil\n\nif shutil.which("{tool}") is None:\n'
        f'    raise SystemExit("iridium: the compiler {tool} was not found; set IRIDIUM_CC")\n'
    )
    project(tree, "iridium", before=before)


def silent_probe(tree: Tree) -> None:
    """setup.py looks for a header and, without it, quietly builds a stub."""
    a, b = key("osmium")
    stub = f"long checksum(long n)\n{{\n#ifdef HAVE_OSM\n    return (n * {a} + {b}) % 1000003;\n#else\n    return -1;\n#endif\n}}\n"
    place = "/usr/include/osm.h" if tree.faulty else "/usr/local/include/osm.h"
    before = f'import os\n\nhave = os.path.exists("{place}")\n'
    options = ', define_macros=[("HAVE_OSM", "1")] if have else []'
    package = (
        "from osmium import _core\n\n\ndef checksum(n: int) -> int:\n    value = _core.checksum(n)\n"
        '    if value < 0:\n        raise RuntimeError("osmium: built without libosm")\n    return value\n'
    )
    project(tree, "osmium", code=extension("osmium", "_core", stub), package=package, before=before, options=options)
    tree.write("usr/local/include/osm.h", "#define OSM_VERSION 1\n")


def data_left_out(tree: Tree) -> None:
    more = "" if tree.faulty else '\n    package_data={"radon": ["table.txt"]},'
    a = key("radon")[0]
    package = (
        "from pathlib import Path\n\nfrom radon import _core\n\n"
        'ADDEND = int((Path(__file__).parent / "table.txt").read_text())\n\n\n'
        f"def checksum(n: int) -> int:\n    assert _core.checksum(1)\n    return (n * {a} + ADDEND) % 1_000_003\n"
    )
    project(tree, "radon", package=package, more=more)
    put(tree / "srv/src/radon/radon/table.txt", f"{key('radon')[1]}\n")


def undefined_symbol(tree: Tree) -> None:
    """One of two source files is not listed: a shared object links all the same, and cannot be loaded."""
    sources = '["core.c"]' if tree.faulty else '["core.c", "sum.c"]'
    project(tree, "xenon", code=extension("xenon", "_core", "long checksum(long);"), sources=sources)
    put(tree / "srv/src/xenon/sum.c", c_function("xenon"))


def build_import(tree: Tree) -> None:
    module = "kryptontools" if tree.faulty else "setuptools"
    project(tree, "krypton", before=f"import {module}\n")


def editable_layout(tree: Tree) -> None:
    """A checkout to be installed in place; its package is in `src/`, and setup.py may believe otherwise."""
    folder = tree / "srv/src/helium"
    place = "lib" if tree.faulty else "src"
    setup = f'from setuptools import setup\n\nsetup(name="helium", version="0.1", py_modules=["helium"], package_dir={{"": "{place}"}})\n'
    put(folder / "setup.py", setup)
    put(folder / "pyproject.toml", PYPROJECT)
    put(folder / "src/helium.py", python_function("helium"))
    put(folder / "lib/README", "Libraries of helium.\n")


def library_then_binding(tree: Tree) -> None:
    """A C library, then a binding that asks pkg-config for it; the library's own installation leaves out its .pc file."""
    pc = "Name: neon\nDescription: neon\nVersion: 1.2\nLibs: -L/usr/local/lib -lneon\nCflags: -I/usr/local/include\n"
    library = tree / "srv/src/libneon"
    put(library / "neon.c", c_function("neon", "neon"))
    put(library / "neon.h", "long neon(long n);\n")
    put(library / "neon.pc", pc)
    rules = "libneon.a: neon.c\n\tcc -O1 -fPIC -c neon.c\n\tar rcsD libneon.a neon.o\ninstall: libneon.a\n"
    rules += (
        "\tinstall -D -m 644 libneon.a /usr/local/lib/libneon.a\n\tinstall -D -m 644 neon.h /usr/local/include/neon.h\n"
    )
    if not tree.faulty:
        rules += "\tinstall -D -m 644 neon.pc /usr/local/lib/pkgconfig/neon.pc\n"
    else:
        rules += "\tinstall -D -m 644 neon.pc /usr/local/lib/neon/neon.pc\n"
    put(library / "Makefile", rules)
    before = (
        "import subprocess\nimport sys\n\n"
        'found = subprocess.run(["pkg-config", "--libs", "neon"], capture_output=True, text=True)\n'
        "if found.returncode:\n    sys.exit(found.stderr)\n"
    )
    options = ", extra_link_args=found.stdout.split()"
    project(
        tree,
        "neon",
        code=extension("neon", "_core", "#define checksum neon\n#include <neon.h>\n"),
        before=before,
        options=options,
    )


build_family(
    "sdist",
    [
        missing_header,
        optional_extension,
        removed_interface,
        missing_link_library,
        missing_backend,
        setup_refuses,
        silent_probe,
        data_left_out,
        undefined_symbol,
        build_import,
        editable_layout,
        library_then_binding,
    ],
)
