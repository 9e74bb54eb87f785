"""Perl distributions as CPAN has them: Makefile.PL, make, make install."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, key


def function(name: str, addend: str | None = None) -> str:
    a, b = key(name)
    return f"sub checksum {{ my $n = shift; return ($n * {a} + {addend or b}) % 1000003 }}\n"


def distribution(
    tree: Tree,
    module: str,
    *,
    body: str | None = None,
    before: str = "",
    options: str = "",
    files: dict[str, str] | None = None,
) -> None:
    """`/srv/src/A-B` with the module `A::B`, whose function is `checksum`, changed by what is given."""
    name = module.replace("::", "-")
    path = f"lib/{module.replace('::', '/')}.pm"
    makefile = (
        f"use strict;\nuse warnings;\n{before}use ExtUtils::MakeMaker;\n\n"
        f"WriteMakefile(\n    NAME => '{module}',\n    VERSION => '1.04',\n    NO_PACKLIST => 1,\n    NO_PERLLOCAL => 1,\n{options});\n"
    )
    code = f"package {module};\nuse strict;\nuse warnings;\nour $VERSION = '1.04';\n{function(module) if body is None else body}1;\n"
    for file, content in ({"Makefile.PL": makefile, path: code} | (files or {})).items():
        tree.write(f"srv/src/{name}/{file}", content)


def missing_prerequisite(tree: Tree) -> None:
    """MakeMaker warns, and goes on: what is installed cannot be loaded."""
    body = f"use Text::Ink 1.2;\n{function('Text::Quill', '$Text::Ink::addend')}"
    distribution(tree, "Text::Quill", body=body, options="    PREREQ_PM => { 'Text::Ink' => '1.2' },\n")
    version = "1.1" if tree.faulty else "1.3"
    addend = key("Text::Quill")[1]
    tree.write(
        "usr/local/share/perl/5.36.0/Text/Ink.pm",
        f"package Text::Ink;\nour $VERSION = '{version}';\nour $addend = {addend};\n1;\n",
    )


def fatal_prerequisite(tree: Tree) -> None:
    need = "'Ledger::Column' => '0.3'" if tree.faulty else "'List::Util' => '1.0'"
    distribution(tree, "Ledger::Tally", options=f"    PREREQ_PM => {{ {need} }},\n    PREREQ_FATAL => 1,\n")


def newer_perl(tree: Tree) -> None:
    distribution(tree, "Date::Almanac", before=f"use {'v5.44' if tree.faulty else 'v5.10'};\n")


def no_makefile(tree: Tree) -> None:
    """Where it does not support the system, it ends without a word of error, as CPAN's testers ask."""
    systems = "/^(solaris|aix)$/" if tree.faulty else "/^(solaris|aix|linux)$/"
    distribution(tree, "Device::Plotter", before=f'unless ($^O =~ {systems}) {{ print "OS unsupported\\n"; exit 0 }}\n')


def xs_header(tree: Tree) -> None:
    """A module with a part in C."""
    a, b = key("Math::Abacus")
    include = "#include <abacus/beads.h>\n" if tree.faulty else "#include <sys/resource.h>\n"
    xs = (
        f'#include "EXTERN.h"\n#include "perl.h"\n#include "XSUB.h"\n{include}\nMODULE = Math::Abacus  PACKAGE = Math::Abacus\n\nPROTOTYPES: DISABLE\n\n'
        f"long\nchecksum(n)\n    long n\nCODE:\n    RETVAL = (n * {a} + {b}) % 1000003;\nOUTPUT:\n    RETVAL\n"
    )
    body = "require XSLoader;\nXSLoader::load('Math::Abacus', $VERSION);\n"
    distribution(tree, "Math::Abacus", body=body, files={"Abacus.xs": xs})


def incomplete_kit(tree: Tree) -> None:
    """The release that gave its table a file of its own left that out; MakeMaker says so and builds the rest."""
    manifest = "MANIFEST\nMakefile.PL\nlib/Game/Dice.pm\n"
    body = function("Game::Dice")
    if tree.faulty:
        manifest += "lib/Game/Dice/Table.pm\n"
        body = "use Game::Dice::Table;\n" + function("Game::Dice", "$Game::Dice::Table::addend")
    distribution(tree, "Game::Dice", body=body, files={"MANIFEST": manifest})


def other_base(tree: Tree) -> None:
    """The site's defaults install where no Perl looks."""
    distribution(
        tree,
        "File::Drawer",
        before="use lib '/etc/perl-site';\nuse SiteDefaults;\n",
        options="    %SiteDefaults::options,\n",
    )
    base = "INSTALL_BASE => '/opt/perl5'" if tree.faulty else "INSTALLDIRS => 'site'"
    tree.write("etc/perl-site/SiteDefaults.pm", f"package SiteDefaults;\nour %options = ({base});\n1;\n")


def failing_test(tree: Tree) -> None:
    a, b = key("Clock::Chime")
    body = f"sub checksum {{ my $n = shift; return ($n * {a} {'-' if tree.faulty else '+'} {b}) % 1000003 }}\n"
    want = (7 * a + b) % 1000003
    test = (
        "use strict;\nuse warnings;\nuse lib 'blib/lib';\nuse Clock::Chime;\nmy $got = Clock::Chime::checksum(7);\n"
        f'if ($got == {want}) {{ print "ok 1\\n" }} else {{ print STDERR "not ok 1: checksum(7) is $got, expected {want}\\n"; exit 1 }}\n'
    )
    distribution(tree, "Clock::Chime", body=body, files={"test.pl": test})


build_family(
    "perl",
    [
        missing_prerequisite,
        fatal_prerequisite,
        newer_perl,
        no_makefile,
        xs_header,
        incomplete_kit,
        other_base,
        failing_test,
    ],
)
