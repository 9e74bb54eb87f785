"""Debian packages, a repository of them, and what goes wrong between apt, dpkg and maintainer scripts."""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import (
    ARCHITECTURE,
    Tree,
    build_family,
    c_program,
    constant,
    copy_of,
    deb,
    foreign_elf,
    installed,
    key,
    linked,
    packages,
    reading,
    repository,
    sh,
    shared_library,
    shell_program,
    ship,
)

REPO = "srv/repo"


def unmet_dependency(tree: Tree) -> None:
    version = "1.4" if tree.faulty else "2.1"
    files = {"usr/share/kestrel/addend": constant("kestrel")}
    data = deb(
        tree / REPO, "libkestrel-data", version, files, architecture="all", named="libkestrel-data_all.deb"
    )
    program = {"usr/bin/kestrel": reading("kestrel", "/usr/share/kestrel/addend")}
    ship(tree, "kestrel", data, deb(tree / REPO, "kestrel", "3.0", program, depends="libkestrel-data (>= 2.0)"))
    repository(tree)


def no_such_package(tree: Tree) -> None:
    """The index knows the documentation only; the program is there for another processor, which apt passes over."""
    program = c_program("shrike")
    architecture = {"amd64": "arm64", "arm64": "amd64"}[ARCHITECTURE] if tree.faulty else ARCHITECTURE
    package = deb(
        tree / REPO,
        "shrike",
        "5.4",
        {"usr/bin/shrike": foreign_elf(program) if tree.faulty else program},
        architecture=architecture,
        named="shrike_5.4.deb",
    )
    ship(tree, "shrike", package)
    deb(tree / REPO, "shrike-doc", "5.4", {"usr/share/doc/shrike/README": "See shrike --help.\n"}, architecture="all")
    repository(tree)


def dpkg_dependency(tree: Tree) -> None:
    program = {"usr/bin/merlin": reading("merlin", "/usr/share/merlin/addend")}
    folder = tree / "srv/debs"
    ship(tree, "merlin", deb(folder, "merlin", "3.2", program, architecture="all", depends="merlin-common (>= 3)"))
    version = "2.9" if tree.faulty else "3.2"
    values = constant("merlin")[::-1].strip() + "\n" if tree.faulty else constant("merlin")
    files = {"usr/share/merlin/addend": values}
    installed(tree, deb(folder, "merlin-common", version, files, architecture="all"))


def failing_postinst(tree: Tree) -> None:
    files = {"usr/bin/osprey": reading("osprey", "/var/lib/osprey/index")}
    if not tree.faulty:
        files["usr/share/osprey/species.txt"] = constant("osprey")
    postinst = sh(
        'echo "Building the species index ..."\nmkdir -p /var/lib/osprey\n'
        "cp /usr/share/osprey/species.txt /var/lib/osprey/index"
    )
    ship(tree, "osprey", deb(tree / REPO, "osprey", "1.8.2", files, scripts={"postinst": postinst}))
    repository(tree)


def swallowed_postinst(tree: Tree) -> None:
    files = {"usr/bin/harrier": reading("harrier", "/var/lib/harrier/words")}
    files["usr/share/harrier/words.in" if tree.faulty else "usr/share/harrier/words"] = constant("harrier")
    postinst = (
        "#!/bin/sh\nmkdir -p /var/lib/harrier\ncp /usr/share/harrier/words /var/lib/harrier/words || "
        'echo "harrier: warning: the word index was not built, run harrier-reindex" >&2\nexit 0\n'
    )
    ship(tree, "harrier", deb(tree / REPO, "harrier", "0.9", files, scripts={"postinst": postinst}))
    repository(tree)


def missing_library(tree: Tree) -> None:
    library = shared_library("falcon", "libfalcon.so.2")
    program = {"usr/bin/falcon": linked("falcon", library, "libfalcon.so.2")}
    version, number = ("1.9.7", 1) if tree.faulty else ("2.0.1", 2)
    deb(tree / REPO, "libfalcon", version, {f"usr/lib/libfalcon.so.{number}": library}, named="libfalcon.deb")
    ship(tree, "falcon", deb(tree / REPO, "falcon", "2.0", program, depends="libfalcon"))
    repository(tree)


def file_overwrite(tree: Tree) -> None:
    """Both packages hold the same path, and neither knows of the other."""
    installed(tree, deb(tree / REPO, "wader-tools", "1.1", {"usr/bin/wader-list": shell_program("wader-list")}))
    files = {"usr/bin/plover": shell_program("plover")}
    files["usr/bin/wader-list" if tree.faulty else "usr/bin/plover-list"] = shell_program("plover-list")
    ship(tree, "plover", deb(tree / REPO, "plover", "4.0", files))
    repository(tree)


def hash_mismatch(tree: Tree) -> None:
    """The archive was rebuilt after the index was written: one byte differs."""
    package = deb(tree / REPO, "dotterel", "2.6", {"usr/bin/dotterel": c_program("dotterel")})
    ship(tree, "dotterel", package)
    repository(tree)
    if tree.faulty:
        data = package.read_bytes()
        package.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def archive_missing(tree: Tree) -> None:
    program = {"usr/bin/lapwing": reading("lapwing", "/usr/share/lapwing/addend")}
    data = deb(
        tree / REPO, "lapwing-data", "1.2", {"usr/share/lapwing/addend": constant("lapwing")}, architecture="all"
    )
    ship(tree, "lapwing", data, deb(tree / REPO, "lapwing", "1.2", program, architecture="all", depends="lapwing-data"))
    repository(tree)
    if tree.faulty:
        index = (tree / f"{REPO}/Packages").read_text()
        packages(tree, index.replace(f"./{data.name}", f"./{data.name.replace('_all', '_any')}"))


def truncated_archive(tree: Tree) -> None:
    """The archive lost its end before the index was written, so its digest agrees."""
    lost = 10240 if tree.faulty else 0  # what a longer map adds to the archive
    files = {"usr/bin/curlew": c_program("curlew"), "usr/share/curlew/map": "~" * (9999 + lost)}
    package = deb(tree / REPO, "curlew", "7.3", files)
    ship(tree, "curlew", package)
    repository(tree)
    if tree.faulty:
        whole, cut = package.read_bytes(), package.read_bytes()[:-lost]
        package.write_bytes(cut)
        index = (tree / f"{REPO}/Packages").read_text()
        index = index.replace(hashlib.sha256(whole).hexdigest(), hashlib.sha256(cut).hexdigest())
        packages(tree, index.replace(f"Size: {len(whole)}\n", f"Size: {len(cut)}\n"))


def preinst_refuses(tree: Tree) -> None:
    need = "2.41" if tree.faulty else "2.31"
    preinst = sh(
        "have=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)\n"
        f'dpkg --compare-versions "$have" ge {need} || {{\n'
        f'    echo "dunlin: needs glibc {need} or later, this system has $have" >&2\n    exit 1\n}}'
    )
    ship(
        tree,
        "dunlin",
        deb(tree / REPO, "dunlin", "0.5", {"usr/bin/dunlin": c_program("dunlin")}, scripts={"preinst": preinst}),
    )
    repository(tree)


def wanted_version(tree: Tree) -> None:
    version = "2.0" if tree.faulty else "2.1"
    files = {"usr/bin/godwit": shell_program("godwit")}
    ship(tree, "godwit", deb(tree / REPO, "godwit", version, files, named="godwit.deb"))
    repository(tree)


def held_neighbour(tree: Tree) -> None:
    """The new program needs a newer base, and in the faulty draw it is the base that is held back."""
    base = deb(tree / "srv", "avocet-base", "1.0", {"usr/share/avocet/base": "0\n"}, architecture="all")
    installed(tree, base)
    manual = {"usr/share/doc/avocet/manual": "See avocet --help.\n"}
    installed(tree, deb(tree / "srv", "avocet-docs", "1.0", manual, architecture="all"))
    held = f"Package: avocet-{'base' if tree.faulty else 'docs'}\nStatus: "
    status = tree / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace(f"{held}install", f"{held}hold"))
    new = deb(tree / REPO, "avocet-base", "2.0", {"usr/share/avocet/base": constant("avocet")}, architecture="all")
    program = {"usr/bin/avocet": reading("avocet", "/usr/share/avocet/base")}
    ship(
        tree,
        "avocet",
        new,
        deb(tree / REPO, "avocet", "2.0", program, architecture="all", depends="avocet-base (>= 2)"),
    )
    repository(tree)


def upgrade_migration(tree: Tree) -> None:
    """Version 2 converts the records of version 1; one of them has a field too few."""
    installed(tree, deb(tree / "srv", "bittern", "1.4", {"usr/bin/bittern": shell_program("bittern-1")}))
    tree.write("var/lib/bittern/records", f"reed:12:north\nmarsh:7\nfen:{key('bittern')[1]}:west\n".replace(
        "marsh:7\n", "marsh:7 east\n" if tree.faulty else "marsh:7:east\n"
    ))  # fmt: skip
    postinst = sh(
        '[ "$1" = configure ] && dpkg --compare-versions "$2" lt 2 || exit 0\n'
        'awk -F: \'NF != 3 { printf "bittern: /var/lib/bittern/records:%d: 3 fields wanted, %d found\\n", NR, NF '
        '> "/dev/stderr"; exit 3 }\n    $1 == "fen" { print $2 }\' /var/lib/bittern/records > /var/lib/bittern/v2.new\n'
        "mv /var/lib/bittern/v2.new /var/lib/bittern/v2"
    )
    program = {"usr/bin/bittern": reading("bittern", "/var/lib/bittern/v2")}
    ship(tree, "bittern", deb(tree / REPO, "bittern", "2.0", program, scripts={"postinst": postinst}))
    repository(tree)


def trigger_failure(tree: Tree) -> None:
    """The new package drops a file that the indexer of another, already installed, cannot read."""
    index = sh(
        'if [ "$1" = triggered ]; then\n    for file in /usr/share/ruff.d/*; do\n'
        '        grep -q "^addend=[0-9]*$" "$file" || { echo "ruff-index: $file: no addend" >&2; exit 1; }\n    done\n'
        "    cat /usr/share/ruff.d/* > /var/lib/ruff.index\nfi"
    )
    neighbour = deb(
        tree / "srv",
        "ruff-index",
        "1.0",
        {"usr/bin/ruff-index": reading("ruff-index", "/usr/share/ruff.d/00base").replace("addend)", "${addend#*=})")},
        scripts={"postinst": index, "triggers": "interest /usr/share/ruff.d\n"},
    )
    installed(tree, neighbour)
    tree.write("usr/share/ruff.d/00base", f"addend={constant('ruff-index')}")
    copy_of("var/lib/dpkg/triggers/File", tree)
    with (tree / "var/lib/dpkg/triggers/File").open("a") as file:
        file.write("/usr/share/ruff.d ruff-index\n")
    line = constant("ruff") if tree.faulty else f"addend={constant('ruff')}"
    program = shell_program("ruff", ". /usr/share/ruff.d/10ruff && [ -s /var/lib/ruff.index ] || exit 1\n", "addend")
    ship(tree, "ruff", deb(tree / REPO, "ruff", "3.3", {"usr/bin/ruff": program, "usr/share/ruff.d/10ruff": line}))
    repository(tree)


def removes_neighbour(tree: Tree) -> None:
    """A conflict that apt resolves, with `-y`, by removing what is there."""
    installed(tree, deb(tree / "srv", "rail", "2.2", {"usr/bin/rail": shell_program("rail")}))
    fields = {"conflicts": "rail (<<3)"} if tree.faulty else {"suggests": "rail (>= 2)"}
    ship(tree, "snipe", deb(tree / REPO, "snipe", "1.5", {"usr/bin/snipe": c_program("snipe")}, **fields))
    repository(tree)


def unauthenticated(tree: Tree) -> None:
    ship(tree, "teal", deb(tree / REPO, "teal", "6.1", {"usr/bin/teal": shell_program("teal")}))
    repository(tree, options="" if tree.faulty else "[trusted=yes] ")


def recommends_off(tree: Tree) -> None:
    """The codec comes as a recommendation, which a site-wide setting leaves out."""
    program = {"usr/bin/pintail": reading("pintail", "/usr/lib/pintail/codec")}
    codec = deb(tree / REPO, "pintail-codec", "1.0", {"usr/lib/pintail/codec": constant("pintail")}, architecture="all")
    ship(tree, "pintail", codec, deb(tree / REPO, "pintail", "1.0", program, recommends="pintail-codec"))
    setting = "no" if tree.faulty else "on"
    tree.write("etc/apt/apt.conf.d/99site", f'APT::Install-Recommends "{setting}";\n')
    repository(tree)


def stuck_base(tree: Tree) -> None:
    """What is to be installed rests on a package that was left half-configured, and fails again."""
    postinst = sh(
        "grep -q '^name=' /etc/wigeon/site || "
        '{ echo "wigeon-base: the name of the site is missing in /etc/wigeon/site" >&2; exit 1; }'
    )
    files = {"usr/share/wigeon/addend": constant("wigeon")}
    installed(tree, deb(tree / "srv", "wigeon-base", "2.0", files, architecture="all", scripts={"postinst": postinst}))
    status = tree / "var/lib/dpkg/status"
    text = status.read_text()
    stanza = "Package: wigeon-base\nStatus: install ok "
    status.write_text(text.replace(stanza + "installed", stanza + "half-configured"))
    tree.write("etc/wigeon/site", "area=north\n" if tree.faulty else "name=north\n")
    program = shell_program(
        "wigeon", "read -r addend < /usr/share/wigeon/addend && grep -q '^name=' /etc/wigeon/site || exit 1\n", "addend"
    )
    ship(tree, "wigeon", deb(tree / REPO, "wigeon", "2.0", {"usr/bin/wigeon": program}, depends="wigeon-base"))
    repository(tree)


def breaks_runtime(tree: Tree) -> None:
    """Two stages: the second rewrites the settings of the first, then fails."""
    runtime = {
        "usr/bin/grebe": reading("grebe", "/etc/grebe/runtime.conf"),
        "usr/bin/grebe-version": shell_program("grebe-version"),
        "etc/grebe/runtime.conf": constant("grebe"),
    }
    deb(tree / REPO, "grebe-runtime", "4.1", runtime)
    need = "5" if tree.faulty else "4"
    postinst = sh(
        "cp /etc/grebe/runtime.conf /etc/grebe/runtime.conf.orig\n: > /etc/grebe/runtime.conf\n"
        f"if ! dpkg --compare-versions $(dpkg-query -f '${{Version}}' -W grebe-runtime) ge {need}; then\n"
        f'    echo "grebe-sync: runtime interface 4 found, {need} needed; configuration abandoned" >&2\n    exit 1\nfi\n'
        "mv /etc/grebe/runtime.conf.orig /etc/grebe/runtime.conf\n: > /etc/grebe/sync.enabled"
    )
    program = shell_program("grebe-sync", "[ -e /etc/grebe/sync.enabled ] || exit 1\n")
    sync = deb(
        tree / REPO,
        "grebe-sync",
        "4.1",
        {"usr/bin/grebe-sync": program},
        depends="grebe-runtime",
        scripts={"postinst": postinst},
    )
    ship(tree, "sync", sync)
    repository(tree)


def pinned(tree: Tree) -> None:
    """An old version is installed; a forgotten pin keeps it, and apt says it is the newest."""
    installed(tree, deb(tree / "srv", "smew", "1.0", {"usr/bin/smew": shell_program("smew-1")}))
    ship(tree, "smew", deb(tree / REPO, "smew", "2.0", {"usr/bin/smew": shell_program("smew")}))
    version = 1 if tree.faulty else 2
    tree.write("etc/apt/preferences.d/freeze", f"Package: smew\nPin: version {version}.*\nPin-Priority: 1001\n")
    repository(tree)


def foreign_interpreter(tree: Tree) -> None:
    """A program written for an interpreter that nothing on the system provides; the package does not say so."""
    program = shell_program("phalarope")
    if tree.faulty:
        program = program.replace("#!/bin/sh", "#!/usr/bin/ksh93")
    deb(tree / REPO, "phalarope", "1.1", {"usr/bin/phalarope": program}, architecture="all")
    repository(tree)


def postrm_of_old(tree: Tree) -> None:
    """Replacing an older package runs its pre-removal script, which cannot finish, nor can its successor's."""
    refuse = (
        sh('echo "eider: spool /var/spool/eider holds unsent jobs; refusing" >&2\nexit 1') if tree.faulty else sh(":")
    )
    installed(
        tree, deb(tree / "srv", "eider", "1.0", {"usr/bin/eider": shell_program("eider-1")}, scripts={"prerm": refuse})
    )
    ship(
        tree,
        "eider",
        deb(tree / REPO, "eider", "2.0", {"usr/bin/eider": shell_program("eider")}, scripts={"prerm": refuse}),
    )
    repository(tree)


build_family(
    "apt",
    [
        unmet_dependency,
        no_such_package,
        dpkg_dependency,
        failing_postinst,
        swallowed_postinst,
        missing_library,
        file_overwrite,
        hash_mismatch,
        archive_missing,
        truncated_archive,
        preinst_refuses,
        wanted_version,
        held_neighbour,
        upgrade_migration,
        trigger_failure,
        removes_neighbour,
        unauthenticated,
        recommends_off,
        stuck_base,
        breaks_runtime,
        pinned,
        foreign_interpreter,
        postrm_of_old,
    ],
)
