"""Where the system says no: full and read-only file systems, limits of processes, permissions, another processor.

`/dev/shm` is the small file system: no runtime gives it more than 64 MiB, so 80 MiB fill it.
"""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import (
    FOREIGN,
    Tree,
    build_family,
    c_program,
    constant,
    deb,
    foreign_elf,
    key,
    python_function,
    reading,
    repository,
    sh,
    shared_library,
    shell_program,
    ship,
    tarball,
    wheel,
)


def installer(tree: Tree, name: str, script: str, files: dict[str, "str | bytes"]) -> None:
    """`/srv/NAME/install.sh` and the files it installs."""
    tree.write(f"srv/{name}/install.sh", f"#!/bin/sh\n# installs {name}\nset -e\ncd /srv/{name}\n{script}")
    for path, content in files.items():
        tree.write(f"srv/{name}/{path}", content)


def small_disk(tree: Tree) -> None:
    """The table is kept in memory, on a file system that is too small for it."""
    size = 80 if tree.faulty else 2
    script = (
        "mkdir -p /dev/shm/anvil\necho 'Expanding the table ...'\n"
        f"head -c {size}M /dev/zero > /dev/shm/anvil/table\ncp addend /dev/shm/anvil/addend\n"
        "install anvil /usr/local/bin/anvil\necho 'anvil is installed.'\n"
    )
    files = {"anvil": reading("anvil", "/dev/shm/anvil/addend", "no table"), "addend": constant("anvil")}
    installer(tree, "anvil", script, files)


def small_disk_pip(tree: Tree) -> None:
    """The same, met by pip in the middle of its work."""
    size = (80 if tree.faulty else 1) << 20
    noise = b"".join(hashlib.sha256(f"bellows {n}".encode()).digest() for n in range(2500))  # compressed, as large
    files: dict[str, str | bytes] = {"bellows/__init__.py": python_function("bellows")}
    files["bellows/table.bin"] = (b"" if tree.faulty else noise).ljust(size, b"\0")
    wheel(tree / "srv/wheels", "bellows", "2.0", files)


def small_disk_postinst(tree: Tree) -> None:
    size = 80 if tree.faulty else 1
    postinst = sh(
        f"mkdir -p /dev/shm/chisel\ndd if=/dev/zero of=/dev/shm/chisel/cache bs=1M count={size} status=none\n"
        "cp /usr/share/chisel/addend /dev/shm/chisel/addend"
    )
    files = {
        "usr/bin/chisel": reading("chisel", "/dev/shm/chisel/addend", "no cache"),
        "usr/share/chisel/addend": constant("chisel"),
    }
    ship(tree, "chisel", deb(tree / "srv/repo", "chisel", "1.3", files, scripts={"postinst": postinst}))
    repository(tree)


def file_size_limit(tree: Tree) -> None:
    """A site setting limits the size of files; the kernel ends who writes more."""
    tree.write("etc/site/limits", f"# Limits of this site\nFILE_BLOCKS={64 if tree.faulty else 65536}\n")
    script = (
        '. /etc/site/limits\nulimit -f "$FILE_BLOCKS"\nmkdir -p /opt/forge\ncp table.bin /opt/forge/table.bin\n'
        "cp addend /opt/forge/addend\ninstall forge /usr/local/bin/forge\necho 'forge: installed'\n"
    )
    files = {
        "forge": reading("forge", "/opt/forge/addend", "no table"),
        "table.bin": b"\0" * 200_000,
        "addend": constant("forge"),
    }
    installer(tree, "forge", script, files)


def memory_limit(tree: Tree) -> None:
    tree.write("etc/site/limits", f"# Limits of this site\nMEMORY_KB={48_000 if tree.faulty else 500_000}\n")
    index = (
        f"words = [bytes(1 << 20) for _ in range(64)]\nopen('/opt/gimlet/index', 'w').write('{key('gimlet')[1]}\\n')\n"
        "print(len(words), 'pages indexed')\n"
    )
    script = (
        '. /etc/site/limits\nmkdir -p /opt/gimlet\ninstall gimlet /usr/local/bin/gimlet\nulimit -v "$MEMORY_KB"\n'
        "/usr/bin/python3 index.py\necho 'gimlet: installed'\n"
    )
    installer(tree, "gimlet", script, {"gimlet": reading("gimlet", "/opt/gimlet/index", "no index"), "index.py": index})


def open_files_limit(tree: Tree) -> None:
    tree.write("etc/site/limits", f"# Limits of this site\nOPEN_FILES={24 if tree.faulty else 256}\n")
    merge = (
        "parts = [open(f'parts/{number:02}') for number in range(40)]\n"
        "open('/opt/hatchet/addend', 'w').write(''.join(part.read().strip() for part in parts) + '\\n')\n"
    )
    files: dict[str, str | bytes] = {
        "hatchet": reading("hatchet", "/opt/hatchet/addend", "parts are not merged"),
        "merge.py": merge,
    }
    digits = constant("hatchet").strip()
    for number in range(40):
        files[f"parts/{number:02}"] = (digits[number] if number < len(digits) else "") + "\n"
    script = (
        '. /etc/site/limits\nmkdir -p /opt/hatchet\ninstall hatchet /usr/local/bin/hatchet\nulimit -n "$OPEN_FILES"\n'
        "/usr/bin/python3 merge.py\necho 'hatchet: installed'\n"
    )
    installer(tree, "hatchet", script, files)


def read_only_setting(tree: Tree) -> None:
    """The installer wants to change a setting of the kernel, which is mounted read-only."""
    script = "cp addend /etc/jigsaw.conf\n"
    if tree.faulty:
        script += "echo core > /proc/sys/kernel/core_pattern\n"
    script += "install jigsaw /usr/local/bin/jigsaw\necho 'jigsaw: installed'\n"
    installer(
        tree,
        "jigsaw",
        script,
        {"jigsaw": reading("jigsaw", "/etc/jigsaw.conf", "not configured"), "addend": constant("jigsaw")},
    )


def not_executable(tree: Tree) -> None:
    script = "#!/bin/sh\nset -e\ninstall /srv/lathe/lathe /usr/local/bin/lathe\necho 'lathe: installed'\n"
    files: dict[str, str | bytes] = {"install.sh": script, "lathe": c_program("lathe")}
    modes = {"install.sh": 0o644 if tree.faulty else 0o755}
    tree.write("srv/lathe.tar", tarball(files, top="lathe", modes=modes, compress=""))


def installed_without_x(tree: Tree) -> None:
    """Everything is copied, and nothing can be run."""
    mode = "644" if tree.faulty else "755"
    script = f"install -m {mode} mallet /usr/local/bin/mallet\necho 'mallet: installed in /usr/local/bin'\n"
    installer(tree, "mallet", script, {"mallet": shell_program("mallet")})


def foreign_deb(tree: Tree) -> None:
    program = c_program("pincers")
    folder = tree / "srv/debs"
    package = deb(folder, "pincers", "1.0", {"usr/bin/pincers": foreign_elf(program) if tree.faulty else program},
                  **({"architecture": FOREIGN} if tree.faulty else {}))  # fmt: skip
    ship(tree, "pincers", package)
    package.rename(folder / "pincers.deb")


def foreign_library(tree: Tree) -> None:
    """A wheel for every platform, it says, with a library for one."""
    library = shared_library("ratchet", "libratchet.so")
    code = (
        "import ctypes\nfrom pathlib import Path\n\n"
        '_library = ctypes.CDLL(str(Path(__file__).parent / "libratchet.so"))\n_library.checksum.restype = ctypes.c_long\n\n\n'
        "def checksum(n: int) -> int:\n    return _library.checksum(ctypes.c_long(n))\n"
    )
    files = {"ratchet/__init__.py": code, "ratchet/libratchet.so": foreign_elf(library) if tree.faulty else library}
    wheel(tree / "srv/wheels", "ratchet", "0.4", files)


def file_in_the_way(tree: Tree) -> None:
    """A plain file, first in the archive, stands where a folder is to be."""
    note = {"sander" if tree.faulty else "README": "The sander, release 1.\n"}
    files = note | {"sander/bin/sander": shell_program("sander"), "sander/share/grit": "80\n"}
    tree.write("srv/sander.tar.gz", tarball(files))


def link_loop(tree: Tree) -> None:
    """Two links that lead to each other."""
    script = (
        "tar -xf folders.tar -C /opt\ninstall trowel /usr/local/bin/trowel\n"
        "cp addend /opt/trowel/current/addend\necho 'trowel: installed'\n"
    )
    links = {"trowel/current": "/opt/trowel/latest", "trowel/latest": "/opt/trowel/v1"}
    if tree.faulty:
        links["trowel/latest"] = "/opt/trowel/current"
    files: dict[str, str | bytes] = {
        "trowel": reading("trowel", "/opt/trowel/current/addend", "no data"),
        "addend": constant("trowel"),
        "folders.tar": tarball({"trowel/v1/README": "trowel 1\n"}, links=links, compress=""),
    }
    installer(tree, "trowel", script, files)


def full_device(tree: Tree) -> None:
    """The state file leads to a device that is always full; the installer shrugs."""
    script = (
        "tar -xf folders.tar -C /opt\ninstall vise /usr/local/bin/vise\n"
        "cat addend > /opt/vise/state/addend || echo 'vise: state not saved, continuing' >&2\necho 'vise: installed'\n"
    )
    links = {"vise/state/addend": "/dev/full"} if tree.faulty else {}
    files: dict[str, str | bytes] = {
        "vise": reading("vise", "/opt/vise/state/addend", "state is empty"),
        "addend": constant("vise"),
        "folders.tar": tarball({"vise/state/README": "state of vise\n"}, links=links, compress=""),
    }
    installer(tree, "vise", script, files)


build_family(
    "limits",
    [
        small_disk,
        small_disk_pip,
        small_disk_postinst,
        file_size_limit,
        memory_limit,
        open_files_limit,
        read_only_setting,
        not_executable,
        installed_without_x,
        foreign_deb,
        foreign_library,
        file_in_the_way,
        link_loop,
        full_device,
    ],
)
