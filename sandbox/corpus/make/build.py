"""Source trees for make, configure and cmake, and what goes wrong between them and the compiler."""

import difflib
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, c_function, c_main, cc, foreign_elf, key, put, tarball

MAKEFILE = """\
CC = cc
CFLAGS = -O1 -Wall
PREFIX = /usr/local
OBJECTS = {objects}

{name}: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS) {libraries}

{rules}install: {name}
\tinstall -D {name} $(DESTDIR)$(PREFIX)/bin/{name}
{install}
clean:
\trm -f {name} $(OBJECTS)
"""


def project(
    tree: Tree,
    name: str,
    *,
    files: dict[str, str | bytes] | None = None,
    objects: str = "main.o checksum.o",
    libraries: str = "",
    rules: str = "",
    install: str = "",
) -> None:
    """`/srv/src/NAME`: a program in two files with a Makefile, changed by what is given."""
    makefile = MAKEFILE.format(name=name, objects=objects, libraries=libraries, rules=rules, install=install)
    sources: dict[str, str | bytes] = {
        "Makefile": makefile,
        "main.c": c_main(name),
        "checksum.c": c_function(name),
        "README": f"{name}: make && make install\n",
    }
    for path, content in (sources | (files or {})).items():
        tree.write(f"srv/src/{name}/{path}", content)


def reader(name: str, path: str, message: str) -> str:
    """A program that reads one of its constants from the file at `path`."""
    return (
        "#include <stdio.h>\n#include <stdlib.h>\n\nint main(int argc, char **argv)\n{\n"
        f'    long addend;\n    FILE *file = fopen("{path}", "r");\n'
        f'    if (!file || fscanf(file, "%ld", &addend) != 1) {{\n        fprintf(stderr, "{name}: {message}\\n");\n'
        f"        return 1;\n    }}\n    long n = argc > 1 ? atol(argv[1]) : 1;\n"
        f'    printf("{name} %ld\\n", (n * {key(name)[0]} + addend) % 1000003);\n    return 0;\n}}\n'
    )


def compile_error(tree: Tree) -> None:
    code = c_function("alder")
    project(tree, "alder", files={"checksum.c": code.replace("n *", "number *") if tree.faulty else code})


def warnings_are_errors(tree: Tree) -> None:
    code = c_function("spruce").replace("{\n", "{\n    int carry;\n" if tree.faulty else "{\n", 1)
    project(tree, "spruce", files={"checksum.c": code, "config.mk": ""}, rules="CFLAGS += -Wextra -Werror\n\n")


def failing_check(tree: Tree) -> None:
    a, b = key("beech")
    code = c_function("beech").replace(f"+ {b}", f"- {b}") if tree.faulty else c_function("beech")
    check = f'#!/bin/sh\ngot=$(./beech 7)\n[ "$got" = "beech {(7 * a + b) % 1000003}" ] && echo "PASS: 7" && exit 0\n'
    check += 'echo "FAIL: checksum of 7: wrong result: $got" >&2\nexit 1\n'
    project(tree, "beech", files={"checksum.c": code, "check.sh": check}, rules="check: beech\n\t./check.sh\n\n")


def ignored_error(tree: Tree) -> None:
    """The plug-in is built and installed by lines with a `-` prefix."""
    header = "cedar/plugin.h" if tree.faulty else "sys/resource.h"
    plugin = f"#include <{header}>\n\n" + c_function("cedar", "plugin")
    before = (
        '    void *plugin = dlopen("/usr/local/lib/cedar/checksum.so", RTLD_NOW);\n'
        '    long (*checksum)(long) = plugin ? (long (*)(long))dlsym(plugin, "plugin") : NULL;\n'
        '    if (!checksum) {\n        fprintf(stderr, "cedar: no plug-in for this: checksum\\n");\n        return 1;\n    }\n'
    )
    main = "#include <dlfcn.h>\n" + c_main("cedar", before=before).replace("long checksum(long n);\n\n", "")
    rules = "cedar: checksum.so\nchecksum.so: plugin.c\n\t-$(CC) $(CFLAGS) -shared -fPIC -o $@ plugin.c\n\n"
    install = "\t-install -D -m 644 checksum.so $(DESTDIR)$(PREFIX)/lib/cedar/checksum.so\n"
    project(tree, "cedar", files={"main.c": main, "plugin.c": plugin}, objects="main.o", rules=rules, install=install)


def wrong_prefix(tree: Tree) -> None:
    prefix = "/usr/local/stow/elm-2.1" if tree.faulty else "/usr/local"
    project(tree, "elm", files={"config.mk": f"PREFIX = {prefix}\n"}, rules="include config.mk\n\n")


CONFIGURE = """\
#!/bin/sh
# Looks for what the build needs and writes config.mk and config.h.
printf 'checking for the C compiler... '
echo 'int main(void) {{ return 0; }}' > conftest.c
cc -o conftest conftest.c || {{ echo "configure: error: the C compiler does not work" >&2; exit 77; }}
echo cc
printf 'checking for {header}... '
echo '#include <{header}>' > conftest.c
if cc -E conftest.c > conftest.i 2> config.log; then
    echo yes
    echo '#define HAVE 1' > config.h
else
    echo no
{missing}
fi
rm -f conftest*
echo 'CONFIGURED = yes' > config.mk
echo 'configure: creating config.mk'
"""


def configure_missing(tree: Tree) -> None:
    missing = '    echo "configure: error: fircone.h is needed (Debian: libfircone-dev)" >&2\n    exit 1'
    main = "#include <fircone.h>\n" + c_main("fir")
    configure = CONFIGURE.format(header="fircone.h", missing=missing)
    project(tree, "fir", files={"configure": configure, "main.c": main}, rules="include config.mk\n\n")
    part = "fircone/cone.h" if tree.faulty else "sys/resource.h"
    tree.write("usr/local/include/fircone.h", f"#include <{part}>\n#define FIRCONE_VERSION 3\n")


def configure_drops_feature(tree: Tree) -> None:
    missing = (
        '    echo "configure: WARNING: hazelnut.h not found, building without the shell index" >&2\n    echo > config.h'
    )
    a, b = key("hazel")
    main = (
        '#include "config.h"\n#include <stdio.h>\n#include <stdlib.h>\n\nint main(int argc, char **argv)\n{\n#ifdef HAVE\n'
        f'    printf("hazel %ld\\n", (atol(argv[1]) * {a} + {b}) % 1000003);\n    return 0;\n#else\n'
        '    fprintf(stderr, "hazel: built without the shell index\\n");\n    return 1;\n#endif\n}\n'
    )
    configure = CONFIGURE.format(header="hazelnut.h", missing=missing)
    project(
        tree, "hazel", files={"configure": configure, "main.c": main}, objects="main.o", rules="include config.mk\n\n"
    )
    part = "hazelnut/nut.h" if tree.faulty else "sys/resource.h"
    tree.write("usr/local/include/hazelnut.h", f"#include <{part}>\n#define HAZELNUT 1\n")


def link_error(tree: Tree) -> None:
    project(tree, "juniper", objects="main.o" if tree.faulty else "main.o checksum.o")


def lost_status(tree: Tree) -> None:
    """A loop of the shell over sub-folders: only the last one's status counts."""
    data = "\tcp table.txt table.out\n" if not tree.faulty else "\tcp table.src table.out\n"
    top = "all install:\n\t@for part in data program; do $(MAKE) --no-print-directory -C $$part $@; done\n"
    files = {
        "Makefile": top,
        "data/Makefile": f"all: table.out\ntable.out:\n{data}install: all\n\tinstall -D -m 644 table.out /usr/local/share/larch/table\n",
        "data/table.txt": f"{key('larch')[1]}\n",
        "program/Makefile": "all: larch\nlarch: larch.c\n\tcc -O1 -o larch larch.c\ninstall: all\n\tinstall -D larch /usr/local/bin/larch\n",
        "program/larch.c": reader("larch", "/usr/local/share/larch/table", "cannot read the table"),
    }
    for path, content in files.items():
        tree.write(f"srv/src/larch/{path}", content)


def missing_tool(tree: Tree) -> None:
    """A source file is generated; the sound tree takes it as it was shipped, the faulty one generates it anew."""
    again = ".PHONY: checksum.c\n" if tree.faulty else ""
    files: dict[str, str | bytes] = {"checksum.rl": "%% machine checksum;\n"}
    project(tree, "maple", files=files, rules=f"{again}checksum.c: checksum.rl\n\tragel -C -o $@ checksum.rl\n\n")


def foreign_object(tree: Tree) -> None:
    """The vendor ships one object file ready-made, for another processor."""
    code = cc("-c", "core.c", sources={"core.c": c_function("oak")})
    vendor = tarball({"core.o": foreign_elf(code) if tree.faulty else code}, compress="")
    rules = "core.o: core.tar\n\ttar -xmf core.tar\n\n"
    project(tree, "oak", files={"core.tar": vendor}, objects="main.o core.o", rules=rules)
    (tree / "srv/src/oak/checksum.c").unlink()


def lost_in_a_pipe(tree: Tree) -> None:
    code = c_function("pine")
    script = (
        "#!/bin/sh\n# Builds and installs pine, keeping a log.\ncd /srv/src/pine\nmake 2>&1 | tee build.log\n"
        'for program in pine; do\n    [ -e "$program" ] && install -D "$program" "/usr/local/bin/$program"\ndone\n'
        'echo "pine: done, see build.log"\n'
    )
    files = {"checksum.c": code.replace(";\n}", "\n}") if tree.faulty else code, "build-and-install.sh": script}
    project(tree, "pine", files=files)


def patch_fails(tree: Tree) -> None:
    """A patch of the packager no longer fits the source."""
    fixed = c_function("rowan")
    released = fixed.replace("1000003", "1000033")
    diff = "".join(
        difflib.unified_diff(released.splitlines(True), fixed.splitlines(True), "a/checksum.c", "b/checksum.c")
    )
    source = released.replace("long n)", "long m)").replace("n *", "m *")
    project(
        tree,
        "rowan",
        files={"checksum.c": source if tree.faulty else released, "modulus.patch": diff},
        rules="checksum.o: .patched\n.patched: modulus.patch\n\tpatch -p1 < modulus.patch\n\t@echo > .patched\n\n",
    )


def digest_check(tree: Tree) -> None:
    table = f"{key('aspen')[1]}\n"
    digest = hashlib.sha256((table + ("\n" if tree.faulty else "")).encode()).hexdigest()
    files: dict[str, str | bytes] = {
        "main.c": reader("aspen", "/usr/local/share/aspen/table", "cannot read the table"),
        "table.dat": table,
        "SHA256SUMS": f"{digest}  table.dat\n",
    }
    rules = "aspen: verified\nverified: SHA256SUMS table.dat\n\tsha256sum -c SHA256SUMS\n\t@echo > verified\n\n"
    install = "\tinstall -D -m 644 table.dat $(DESTDIR)$(PREFIX)/share/aspen/table\n"
    project(tree, "aspen", files=files, objects="main.o", rules=rules, install=install)


def library_folder(tree: Tree) -> None:
    """The library goes where the loader does not look."""
    folder = "lib64/cypress" if tree.faulty else "lib"
    rules = "cypress: libcypress.so.1\nlibcypress.so.1: checksum.c\n\t$(CC) $(CFLAGS) -shared -fPIC -Wl,-soname,$@ -o $@ checksum.c\n\n"
    install = f"\tinstall -D libcypress.so.1 $(DESTDIR)$(PREFIX)/{folder}/libcypress.so.1\n\tldconfig\n"
    project(tree, "cypress", objects="main.o", libraries="-L. -l:libcypress.so.1", rules=rules, install=install)


CMAKE = """\
cmake_minimum_required(VERSION 3.13)
project({name} C)
{before}
add_executable({name} {sources})
install(TARGETS {name} DESTINATION bin)
{after}
"""


def cmake_requirement(tree: Tree) -> None:
    wanted = "catkin/catkin.h" if tree.faulty else "catkin.h"
    before = (
        f"find_path(CATKIN_INCLUDE_DIR {wanted})\nif(NOT CATKIN_INCLUDE_DIR)\n"
        '  message(FATAL_ERROR "catkin.h not found: install the catkin headers")\nendif()\n'
        "include_directories(${CATKIN_INCLUDE_DIR})"
    )
    tree.write("srv/src/willow/CMakeLists.txt", CMAKE.format(name="willow", before=before, sources="main.c", after=""))
    tree.write("srv/src/willow/main.c", "#include <catkin.h>\n" + c_main("willow") + "\n" + c_function("willow"))
    tree.write("usr/local/include/catkin.h", "#define CATKIN 1\n")


def cmake_optional(tree: Tree) -> None:
    """A data file that is installed only if it is there."""
    name = "tables.txt" if tree.faulty else "table.txt"
    after = f"install(FILES {name} DESTINATION share/yew OPTIONAL)"
    tree.write("srv/src/yew/CMakeLists.txt", CMAKE.format(name="yew", before="", sources="main.c", after=after))
    tree.write("srv/src/yew/main.c", reader("yew", "/usr/local/share/yew/table.txt", "cannot read its table"))
    tree.write("srv/src/yew/table.txt", f"{key('yew')[1]}\n")


def library_then_program(tree: Tree) -> None:
    """Two trees; the program refuses the interface of the library."""
    put(tree / "srv/src/libash/ash.h", "#define ASH_INTERFACE 2\nlong ash(long n);\n")
    put(tree / "srv/src/libash/ash.c", c_function("ash", "ash"))
    put(
        tree / "srv/src/libash/Makefile",
        "libash.a: ash.c\n\tcc -O1 -c ash.c\n\tar rcsD libash.a ash.o\n"
        "install: libash.a\n\tinstall -D -m 644 libash.a /usr/local/lib/libash.a\n\tinstall -D -m 644 ash.h /usr/local/include/ash.h\n",
    )
    need = 3 if tree.faulty else 2
    guard = f'#include <ash.h>\n#if ASH_INTERFACE < {need}\n#error "ash interface {need} needed"\n#endif\n'
    project(tree, "ash", files={"main.c": guard + c_main("ash", "ash")}, objects="main.o", libraries="-lash")
    (tree / "srv/src/ash/checksum.c").unlink()


def helper_not_executable(tree: Tree) -> None:
    """The build runs a script that lost its executable bit on the way."""
    script = f"#!/bin/sh\ncat <<'END'\n{c_function('hornbeam')}END\n"
    tools = tarball({"gen.sh": script}, modes={"gen.sh": 0o644 if tree.faulty else 0o755}, compress="")
    rules = "gen.sh: tools.tar\n\ttar -xmf tools.tar\n\nchecksum.c: gen.sh\n\t./gen.sh > checksum.c\n\n"
    project(tree, "hornbeam", files={"tools.tar": tools}, rules=rules)
    (tree / "srv/src/hornbeam/checksum.c").unlink()


build_family(
    "make",
    [
        compile_error,
        warnings_are_errors,
        failing_check,
        ignored_error,
        wrong_prefix,
        configure_missing,
        configure_drops_feature,
        link_error,
        lost_status,
        missing_tool,
        foreign_object,
        lost_in_a_pipe,
        patch_fails,
        digest_check,
        library_folder,
        cmake_requirement,
        cmake_optional,
        library_then_program,
        helper_not_executable,
    ],
)
