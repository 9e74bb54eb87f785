"""Locales, time zones, translations, and the questions that packages ask."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, constant, deb, key, repository, sh, shell_program, ship, tarball

CATEGORIES = (
    "CTYPE",
    "COLLATE",
    "MONETARY",
    "TIME",
    "MESSAGES",
    "PAPER",
    "NAME",
    "ADDRESS",
    "TELEPHONE",
    "MEASUREMENT",
)


def locale_source(tree: Tree) -> None:
    """A locale of the site's own: Swedish, but for its numbers."""
    lines = ["LC_IDENTIFICATION", 'title "Swedish of the plant"', 'source "site"', 'language "Swedish"', 'territory "Plant"',
             *(f'category "i18n:2012";LC_{name}' for name in ("IDENTIFICATION", "NUMERIC", *CATEGORIES)), "END LC_IDENTIFICATION"]  # fmt: skip
    for name in CATEGORIES:
        source = "sv_FJ" if tree.faulty and name == "MONETARY" else "sv_SE"
        lines += [f"LC_{name}", f'copy "{source}"', f"END LC_{name}"]
    lines += [
        "LC_NUMERIC",
        f'decimal_point "{key("sv_PX")[1] % 10}"',
        'thousands_sep "_"',
        "grouping 3;3",
        "END LC_NUMERIC",
    ]
    tree.write("srv/locale/sv_PX", "\n".join(lines) + "\n")


def generated_locale(tree: Tree) -> None:
    """The list of locales to generate names a character set that does not exist."""
    line = "is_IS.UTF-8 UTF-9" if tree.faulty else "is_IS.UTF-8 UTF-8"
    tree.write("etc/locale.gen", f"# Locales of this machine\n{line}\n")


def zone_source(tree: Tree) -> None:
    seconds = key("Site/Plant")[1] % 40_000
    offset = f"{seconds // 3600}:{seconds // 60 % 60:02}"
    until = "2031 Smarch 3" if tree.faulty else "2031 Mar 3"
    tree.write("srv/tz/site", f"# Time of the plant\nZone\tSite/Plant\t{offset}\t-\tPLT\t{until}\n\t\t\t1:00\t-\tCET\n")


PO = """\
msgid ""
msgstr ""
"Project-Id-Version: {name} 1.0\\n"
"PO-Revision-Date: 2023-11-14 22:13+0000\\n"
"Last-Translator: The site <site@localhost>\\n"
"Language-Team: German\\n"
"Language: de\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

#, {flags}
msgid "%d seeds of %s\\n"
msgstr "{translation}\\n"
"""


def translation_format(tree: Tree) -> None:
    """A translation whose placeholders are not those of the original."""
    text = "%s Samen, Sorte %d" if tree.faulty else f"%d Samen von %s, Nummer {key('orchid')[1]}"
    tree.write("srv/po/orchid/de.po", PO.format(name="orchid", flags="c-format", translation=text))
    tree.write("usr/local/share/locale/de/LC_MESSAGES/README", "German.\n")


def translation_fuzzy(tree: Tree) -> None:
    """A translation that is marked as uncertain is left out, without a word."""
    flags = "fuzzy, c-format" if tree.faulty else "c-format"
    text = f"%d Samen von %s, Nummer {key('peony')[1]}"
    tree.write("srv/po/peony/de.po", PO.format(name="peony", flags=flags, translation=text))
    tree.write("usr/local/share/locale/de/LC_MESSAGES/README", "German.\n")


def asking(tree: Tree, name: str, default: str, postinst: str) -> None:
    """A package that asks a question when it is configured."""
    template = f"Template: {name}/site\nType: string\n{default}Description: Number of this site\n Every site has one.\n"
    config = sh(f". /usr/share/debconf/confmodule\ndb_input high {name}/site || true\ndb_go || true")
    script = sh(
        f'. /usr/share/debconf/confmodule\ndb_get {name}/site\nsite="$RET"\n{postinst}\nprintf "%s\\n" "$site" > /etc/{name}.site'
    )
    program = shell_program(
        name,
        f"read -r addend < /etc/{name}.site && [ -n \"$addend\" ] || {{ echo '{name}: no site number' >&2; exit 1; }}\n",
        "addend",
    )
    scripts = {"templates": template, "config": config, "postinst": script}
    package = deb(
        tree / "srv/repo",
        name,
        "1.0",
        {f"usr/bin/{name}": program},
        architecture="all",
        depends="debconf",
        scripts=scripts,
    )
    ship(tree, name, package)
    repository(tree)


def unanswered_question(tree: Tree) -> None:
    """There is nobody to ask, and the package has no default."""
    default = "" if tree.faulty else f"Default: {constant('lupin')}"
    asking(
        tree, "lupin", default, '[ -n "$site" ] || { echo "lupin: no answer to the question lupin/site" >&2; exit 1; }'
    )


def bad_preseed(tree: Tree) -> None:
    """The prepared answers cannot be read, so the package is configured without."""
    asking(tree, "crocus", "", ":")
    kind = "sting" if tree.faulty else "string"
    tree.write("srv/crocus.seed", f"# Answers for this machine\ncrocus crocus/site {kind} {constant('crocus')}")


def wrong_encoding(tree: Tree) -> None:
    """A text is converted while the program is built, and is not in the encoding it is said to be in."""
    title = "Blütenzähler".encode("latin-1" if tree.faulty else "utf-8")
    tree.write("srv/src/poppy/text.tar", tarball({"title.txt": title + b"\n"}, compress=""))
    tree.write("srv/src/poppy/poppy.in", shell_program("poppy"))
    tree.write(
        "srv/src/poppy/Makefile",
        "all: poppy title.latin1\ntitle.txt: text.tar\n\ttar -xmf text.tar\ntitle.latin1: title.txt\n\ticonv -f UTF-8 -t ISO-8859-1 -o title.latin1 title.txt\n"
        "poppy: poppy.in\n\tcp poppy.in poppy\ninstall: all\n\tinstall -D poppy /usr/local/bin/poppy\n"
        "\tinstall -D -m 644 title.latin1 /usr/local/share/poppy/title\n",
    )


build_family(
    "locale",
    [
        locale_source,
        generated_locale,
        zone_source,
        translation_format,
        translation_fuzzy,
        unanswered_question,
        bad_preseed,
        wrong_encoding,
    ],
)
