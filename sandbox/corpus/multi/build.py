"""Several packages, by one tool or by several, of which one fails: alone, or with those that rest on it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import (
    Tree,
    build_family,
    c_function,
    c_main,
    constant,
    deb,
    put,
    python_function,
    reading,
    repository,
    sh,
    shell_program,
    ship,
    tarball,
    wheel,
)


def three_packages(tree: Tree) -> None:
    """The second stays half-configured; the third works, though apt complains again."""
    repo = tree / "srv/repo"
    ship(tree, "bread", deb(repo, "bread", "1.0", {"usr/bin/bread": shell_program("bread")}))
    postinst = sh("mkdir -p /var/lib/butter\ncp /usr/share/butter/salt /var/lib/butter/salt")
    files = {"usr/bin/butter": reading("butter", "/var/lib/butter/salt")}
    files[f"usr/share/butter/{'sugar' if tree.faulty else 'salt'}"] = constant("butter")
    ship(tree, "butter", deb(repo, "butter", "1.0", files, scripts={"postinst": postinst}))
    ship(tree, "honey", deb(repo, "honey", "1.0", {"usr/bin/honey": shell_program("honey")}))
    repository(tree)


def three_tools(tree: Tree) -> None:
    """A Debian package, a wheel, a vendor's installer; the last wants another release of the first."""
    runtime = {"usr/bin/oven": shell_program("oven"), "usr/share/oven/release": "3\n"}
    ship(tree, "oven", deb(tree / "srv/repo", "oven", "3.0", runtime))
    repository(tree)
    files = {"dough/__init__.py": python_function("dough")}
    ship(tree, "dough", wheel(tree / "srv/wheels", "dough", "1.0", files))
    need = 4 if tree.faulty else 3
    installer = (
        "#!/bin/sh\n# crust 2.1, self-extracting installer\n"
        f'if [ "$(cat /usr/share/oven/release)" -lt {need} ]; then\n    echo "crust: oven {need} is needed" >&2\n    exit 1\nfi\n'
        "sed '1,/^__ARCHIVE__$/d' \"$0\" | tar xz -C /usr/local/bin\necho 'crust is installed.'\nexit 0\n__ARCHIVE__\n"
    )
    tree.write("srv/crust/crust-2.1.run", installer.encode() + tarball({"crust": shell_program("crust")}))


def folder_of_archives(tree: Tree) -> None:
    """`dpkg -i *.deb`: three go in, one is no archive."""
    archive: dict[str, str | bytes] = {}
    for name in ("fennel", "ginger", "lovage", "nutmeg"):
        package = deb(tree / "srv", name, "1.0", {f"usr/bin/{name}": shell_program(name)}, architecture="all")
        ship(tree, "spices", package)
        archive[package.name] = package.read_bytes()
        if tree.faulty and name == "lovage":
            archive[package.name] = b"<html><body>404 Not Found</body></html>\n" + package.read_bytes()[40:]
        package.unlink()
    tree.write("srv/debs.tar", tarball(archive, top="debs", compress=""))


def loop_script(tree: Tree) -> None:
    """A script installs all in a loop, and its status is that of the last."""
    folder = tree / "srv/kitchen"
    script = (
        '#!/bin/sh\n# Installs the kitchen set.\nfor package in /srv/kitchen/*.deb; do\n    dpkg -i "$package"\ndone\n'
    )
    put(folder / "install-all.sh", script)
    for name in ("kettle", "whisk"):
        files = {f"usr/bin/{name}": shell_program(name)}
        ship(tree, "kitchen", deb(folder, name, "1.0", files, architecture="all"))
    files = {"usr/bin/ladle": reading("ladle", "/var/lib/ladle/bowl"), "usr/share/ladle/bowl": constant("ladle")}
    postinst = sh("mkdir -p /var/lib/ladle\ncp /usr/share/ladle/bowl /var/lib/ladle/bowl")
    fields = {"depends": "enamel (>= 2)"} if tree.faulty else {}
    ladle = deb(folder, "ladle", "1.0", files, architecture="all", scripts={"postinst": postinst}, **fields)
    ship(tree, "kitchen", ladle)


def one_by_one(tree: Tree) -> None:
    """xargs runs pip for each line of a list, and says at its end that one of them failed."""
    archive: dict[str, str | bytes] = {"herbs.txt": "basil\nchervil\ndill\n"}
    for name in ("basil", "chervil", "dill"):
        files = {f"{name}/__init__.py": python_function(name)}
        tag = "cp36-cp36m-macosx_10_9_x86_64" if tree.faulty and name == "chervil" else "py3-none-any"
        package = wheel(tree / "srv", name, "1.0", files, tag=tag)
        ship(tree, "herbs", package)
        archive[f"wheels/{package.name}"] = package.read_bytes()
        package.unlink()
    tree.write("srv/herbs.tar", tarball(archive, compress=""))


def find_exec(tree: Tree) -> None:
    """find ends with 0 whatever its commands did."""
    for name in ("rye", "spelt", "wheat"):
        install = "\tcp {0}.sh /usr/local/bin/{0}\n\tchmod 755 /usr/local/bin/{0}\n"
        if tree.faulty and name == "spelt":
            install = "\tcp {0}.bash /usr/local/bin/{0}\n"
        tree.write(f"srv/grain/{name}/Makefile", "install:\n" + install.format(name))
        tree.write(f"srv/grain/{name}/{name}.sh", shell_program(name), 0o644)


def chain_of_sources(tree: Tree) -> None:
    """Three trees, each linked against the one before; the second does not compile, so neither does the third."""
    broken = "#include <stdlib.h\n" if tree.faulty else "#include <stdlib.h>\n"
    library = (
        "install: lib{0}.a\n\tinstall -D -m 644 lib{0}.a /usr/local/lib/lib{0}.a\nlib{0}.a: {0}.o\n\tar rcsD lib{0}.a {0}.o\n"
        "{0}.o: {0}.c\n\tcc -O1 -c {0}.c\n"
    )
    tree.write("srv/src/yeast/yeast.c", c_function("roll", "yeast"))
    tree.write("srv/src/yeast/Makefile", library.format("yeast"))
    tree.write(
        "srv/src/malt/malt.c", f"{broken}long yeast(long n);\n\nlong malt(long n)\n{{\n    return yeast(labs(n));\n}}\n"
    )
    tree.write("srv/src/malt/Makefile", library.format("malt"))
    tree.write("srv/src/roll/roll.c", c_main("roll", "malt"))
    rules = "install: roll\n\tinstall -D roll /usr/local/bin/roll\nroll: roll.o\n\tcc -o roll roll.o -lmalt -lyeast\nroll.o: roll.c\n\tcc -O1 -c roll.c\n"
    tree.write("srv/src/roll/Makefile", rules)


build_family(
    "multi",
    [
        three_packages,
        three_tools,
        folder_of_archives,
        loop_script,
        one_by_one,
        find_exec,
        chain_of_sources,
    ],
)
