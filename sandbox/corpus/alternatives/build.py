"""Debian's alternatives and diversions: which of several programs answers to a name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, copy_of, deb, key, repository, sh, shell_program, ship, tarball


def group(tree: Tree, name: str, mode: str, path: str, priority: int) -> None:
    """A link group with one alternative, chosen."""
    tree.write(f"var/lib/dpkg/alternatives/{name}", f"{mode}\n/usr/local/bin/{name}\n\n{path}\n{priority}\n\n")
    tree.link(f"etc/alternatives/{name}", path)
    tree.link(f"usr/local/bin/{name}", f"/etc/alternatives/{name}")


def old(name: str) -> str:
    return f'#!/bin/sh\necho "{name}: this is release 1, which knows no checksums" >&2\nexit 1\n'


def registering(tree: Tree, name: str, path: str, priority: int) -> None:
    """A package whose postinst registers its program."""
    postinst = sh(f"update-alternatives --install /usr/local/bin/{name} {name} {path} {priority}")
    files = {path: shell_program(name)}
    package = deb(tree / "srv/repo", f"{name}-2", "2.0", files, architecture="all", scripts={"postinst": postinst})
    ship(tree, name, package)
    repository(tree)


def missing_path(tree: Tree) -> None:
    place = "lantern-2/lantern" if tree.faulty else "lantern-2/bin/lantern"
    tree.write("srv/lantern-2.tar", tarball({place: shell_program("lantern")}, compress=""))


def manual_mode(tree: Tree) -> None:
    """Somebody once chose by hand; a new package changes nothing then, and says nothing."""
    tree.write("opt/beacon-1/beacon", old("beacon"))
    mode, priority = ("manual", 10) if tree.faulty else ("auto", -100)
    group(tree, "beacon", mode, "/opt/beacon-1/beacon", priority)
    registering(tree, "beacon", "/usr/bin/beacon-2", 80)


def low_priority(tree: Tree) -> None:
    tree.write("opt/candle-1/candle", old("candle"))
    group(tree, "candle", "auto", "/opt/candle-1/candle", 50)
    registering(tree, "candle", "/usr/bin/candle-2", 5 if tree.faulty else 60)


def skipped_slave(tree: Tree) -> None:
    """The settings come as a slave link, of which there is no file: it is skipped."""
    program = shell_program("torch", "read -r addend < /usr/local/etc/torch.conf || exit 1\n", "addend")
    settings = "torch/torch.conf.sample" if tree.faulty else "torch/torch.conf"
    files = {"torch/bin/torch": program, settings: f"{key('torch')[1]}\n"}
    tree.write("srv/torch.tar", tarball(files, compress=""))
    tree.write("usr/local/etc/README", "Settings of local programs.\n")


def not_a_link(tree: Tree) -> None:
    """A plain file has the name; it is not replaced."""
    stray = "usr/local/bin/ember" if tree.faulty else "opt/ember/bin/ember-1"
    files = {"opt/ember/bin/ember": shell_program("ember"), stray: old("ember")}
    tree.write("srv/ember.tar", tarball(files, compress=""))


def not_registered(tree: Tree) -> None:
    """Two stages: a package registers its program, then it is to be chosen."""
    tree.write("opt/flint-1/flint", old("flint"))
    group(tree, "flint", "auto", "/opt/flint-1/flint", 90)
    path = "/usr/bin/flint-ng" if not tree.faulty else "/usr/bin/flint2"
    postinst = sh(f"update-alternatives --install /usr/local/bin/flint flint {path} 20")
    files = {path: shell_program("flint"), "usr/bin/flint-version": shell_program("flint-version")}
    deb(tree / "srv/repo", "flint-2", "2.0", files, architecture="all", scripts={"postinst": postinst})
    repository(tree)


def corrupt_state(tree: Tree) -> None:
    tree.write("opt/tinder-1/tinder", old("tinder"))
    group(tree, "tinder", "auto", "/opt/tinder-1/tinder", 10)
    if tree.faulty:
        # the name of a slave link, and there the file ends
        tree.write("var/lib/dpkg/alternatives/tinder", "auto\n/usr/local/bin/tinder\ntinder-conf-of-this-plant\n")
    registering(tree, "tinder", "/usr/bin/tinder-2", 70)


def clashing_diversion(tree: Tree) -> None:
    """The package wants to divert a program that the site diverted already."""
    tree.write("usr/local/bin/spark", shell_program("spark"))
    copy_of("var/lib/dpkg/diversions", tree)
    diverted = "/usr/bin/kindle" if tree.faulty else "/usr/bin/kettle"
    with (tree / "var/lib/dpkg/diversions").open("a") as file:
        file.write(f"{diverted}\n{diverted}.site\n:\n")
    preinst = sh(
        "dpkg-divert --quiet --package kindling --add --rename --divert /usr/bin/kindle.distrib /usr/bin/kindle"
    )
    files = {"usr/bin/kindle": shell_program("kindle"), "usr/bin/kindling": shell_program("kindling")}
    deb(tree / "srv/repo", "kindling", "1.2", files, architecture="all", scripts={"preinst": preinst})
    repository(tree)


build_family(
    "alternatives",
    [
        missing_path,
        manual_mode,
        low_priority,
        skipped_slave,
        not_a_link,
        not_registered,
        corrupt_state,
        clashing_diversion,
    ],
)
