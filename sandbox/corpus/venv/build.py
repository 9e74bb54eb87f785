"""Virtual environments: made, moved, half-made, and the settings that decide where pip may install."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, entry_script, key, pip_conf, python_function, python_main, tarball, wheel

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def environment(tree: Tree, name: str, interpreter: str = "/usr/bin/python3", shebang: str | None = None) -> None:
    """`/srv/NAME.tar`: an environment as `python3 -m venv --system-site-packages` makes it, its pip the system's own."""
    version = sys.version.split()[0]
    files = {
        "pyvenv.cfg": f"home = /usr/bin\ninclude-system-site-packages = true\nversion = {version}\n",
        "bin/pip": entry_script(shebang or f"/opt/{name}/bin/python3", "pip._internal.cli.main", "main"),
        f"lib/{VERSION}/site-packages/README.txt": "Packages of this environment.\n",
    }
    links = {"bin/python3": interpreter, "bin/python": "python3"}
    tree.write(f"srv/{name}.tar", tarball(files, top=name, links=links, compress=""))


def module(tree: Tree, name: str) -> None:
    wheel(tree / "srv/wheels", name, "1.0", {f"{name}/__init__.py": python_function(name)})


def broken_bundle(tree: Tree) -> None:
    """The wheel of pip that the standard library puts into a new environment is damaged."""
    module(tree, "euler")
    source = next(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    data = source.read_bytes()
    tree.write(str(source), data[: len(data) // 3].ljust(len(data), b"\0") if tree.faulty else data)


def place_is_taken(tree: Tree) -> None:
    """A file stands where the environment is to be."""
    package = wheel(tree / "srv", "gauss", "1.0", {"gauss/__init__.py": python_function("gauss")})
    note = "opt/gauss" if tree.faulty else "opt/README"
    files = {f"srv/wheels/{package.name}": package.read_bytes(), note: "environment of gauss: see the wiki\n"}
    tree.write("srv/gauss.tar", tarball(files, compress=""))
    package.unlink()


def moved(tree: Tree) -> None:
    """The environment was made elsewhere: its scripts call an interpreter that is not there."""
    module(tree, "noether")
    environment(tree, "noether", shebang="/home/build/noether/bin/python3" if tree.faulty else None)


def dangling_python(tree: Tree) -> None:
    """The Python that it was made with is gone."""
    module(tree, "cauchy")
    environment(tree, "cauchy", interpreter="/usr/local/bin/python3.9" if tree.faulty else "/usr/bin/python3")


def externally_managed(tree: Tree) -> None:
    """Debian's Python is Debian's; only a setting of the site allows pip in."""
    module(tree, "fermat")
    pip_conf(tree, "" if tree.faulty else "[install]\nbreak-system-packages = true\n")


def user_setting(tree: Tree) -> None:
    module(tree, "jacobi")
    pip_conf(tree, "[install]\nuser = true\n" if tree.faulty else "")


def require_environment(tree: Tree) -> None:
    """A setting forbids pip outside of environments, even into a folder of its own."""
    module(tree, "kepler")
    pip_conf(tree, "require-virtualenv = true\n" if tree.faulty else "")


def hidden_system_package(tree: Tree) -> None:
    """The application borrows a module of the system, which its new environment may not see."""
    a, b = key("laplace")
    code = f"from orrery import ADDEND\n\n\ndef checksum(n: int) -> int:\n    return (n * {a} + ADDEND) % 1_000_003\n"
    wheel(
        tree / "srv/wheels",
        "laplace",
        "1.0",
        {"laplace/__init__.py": python_main("laplace", code)},
        requires=[] if tree.faulty else ["orrery"],
        scripts={"laplace": "laplace:main"},
    )
    wheel(tree / "srv/wheels", "orrery", "1.0", {"orrery.py": f"ADDEND = {b}\n"})
    tree.write("usr/lib/python3/dist-packages/orrery.py", f"ADDEND = {b}\n")


build_family(
    "venv",
    [
        broken_bundle,
        place_is_taken,
        moved,
        dangling_python,
        externally_managed,
        user_setting,
        require_environment,
        hidden_system_package,
    ],
)
