"""Daemons with their configuration: everything is installed, and then it does not start, or not as it should.

Each daemon is a Python program that answers one number with another on a socket; `service NAME start` runs
it by start-stop-daemon, as on any Debian without systemd.
"""

import base64
import hashlib
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, deb, key, put, repository, sh, shell_program, ship

DAEMON = '''\
#!/usr/bin/python3
"""{name}: answers a number with its checksum on a Unix socket."""
import socket
import sys
from pathlib import Path
{imports}

def settings(path):
    found = {{}}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        key, _, value = line.partition("=")
        if key.strip() not in {known}:
            sys.exit(f"{name}d: {{path}}:{{number}}: unknown directive {{key.strip()!r}}")
        found[key.strip()] = value.strip()
    return found


def main():
    conf = settings("/etc/{name}/{name}.conf")
{start}
    path = Path(conf.get("socket", "/run/{name}.sock"))
    if "--check" in sys.argv:
        return
    server = socket.socket(socket.AF_UNIX)
    place = path.with_suffix(".new")
    place.unlink(missing_ok=True)
    server.bind(str(place))
    server.listen()
    place.rename(path)
    while True:
        connection, _ = server.accept()
        n = int(connection.recv(32))
        connection.sendall(b"{name} %d\\n" % ((n * {a} + int(conf["addend"])) % 1000003))
        connection.close()


main()
'''

CLIENT = '''\
#!/usr/bin/python3
"""Asks {name}d for the checksum of a number."""
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect("/run/{name}.sock")
except OSError as error:
    sys.exit(f"{name}-ask: cannot reach {name}d: {{error.strerror}}")
connection.sendall(sys.argv[1].encode())
print(connection.recv(64).decode(), end="")
'''

INIT = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides: {name}
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop:
# Short-Description: {name}
### END INIT INFO
case "$1" in
start)
{before}    {check}
    start-stop-daemon --start --quiet --background --make-pidfile --pidfile /run/{name}.pid {options}--exec /usr/sbin/{name}d || exit 1
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -S /run/{name}.sock ] && break; sleep 0.1; done
    echo "Starting {name}: {name}d."
    ;;
stop)
    start-stop-daemon --stop --quiet --oknodo --remove-pidfile --name {name}d --pidfile /run/{name}.pid
    rm -f /run/{name}.sock
    ;;
*)
    echo "usage: $0 start|stop" >&2
    exit 2
    ;;
esac
"""


def daemon(
    tree: Tree,
    name: str,
    *,
    conf: str = "",
    known: tuple[str, ...] = ("addend", "socket", "workers"),
    imports: str = "",
    start: str = "",
    before: str = "",
    check: str | None = None,
    options: str = "",
    files: dict[str, "str | bytes"] | None = None,
    scripts: dict[str, str] | None = None,
    **fields: str,
) -> None:
    """A package NAME in the repository: daemon, client, init script, configuration."""
    a, b = key(name)
    contents: dict[str, str | bytes | Path] = {
        f"usr/sbin/{name}d": DAEMON.format(name=name, a=a, known=known, imports=imports, start=start),
        f"usr/bin/{name}-ask": CLIENT.format(name=name),
        f"etc/init.d/{name}": INIT.format(
            name=name,
            before=before,
            check=f"/usr/sbin/{name}d --check || exit 1" if check is None else check,
            options=options,
        ),
        f"etc/{name}/{name}.conf": f"# {name}d\naddend = {b}\n{conf}",
        **(files or {}),
    }
    deb(tree / "srv/repo", name, "1.0", contents, architecture="all", scripts=scripts, **fields)
    repository(tree)


def unknown_directive(tree: Tree) -> None:
    daemon(tree, "tern", conf="worker_count = 4\n" if tree.faulty else "workers = 4\n")


def silent_death(tree: Tree) -> None:
    """The init script does not look whether the daemon lives; what it said went nowhere."""
    start = '    Path("/run/skua.ready").write_text(Path("/usr/share/skua/banner").read_text())'
    banner = "usr/share/skua/banner.txt" if tree.faulty else "usr/share/skua/banner"
    daemon(tree, "skua", start=start, check=":", files={banner: "welcome\n"})


def port_out_of_range(tree: Tree) -> None:
    """The port is a digit too long."""
    start = '    probe = socket.socket()\n    probe.bind(("127.0.0.1", int(conf["port"])))\n    probe.close()'
    port = "70443" if tree.faulty else "7043"
    daemon(tree, "gull", conf=f"port = {port}\n", known=("addend", "socket", "port"), start=start)


def missing_user(tree: Tree) -> None:
    user = "auk-daemon" if tree.faulty else "root"
    daemon(tree, "auk", options=f"--chuid {user} ", check=":")


def ed25519_key(name: str) -> str:
    """A private key drawn from a name."""
    code = bytes.fromhex("302e020100300506032b657004220420") + hashlib.sha256(name.encode()).digest()
    return f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(code).decode()}\n-----END PRIVATE KEY-----\n"


def certificate(name: str, private_key: str) -> bytes:
    """Signed with its own key; `openssl ca` alone takes the dates, so that each build gives the same bytes."""
    settings = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\nnew_certs_dir = .\npolicy = names\n"
    settings += "default_md = default\n[names]\ncommonName = supplied\n"
    with tempfile.TemporaryDirectory() as folder:
        for file, text in {"key": private_key, "settings": settings, "index": "", "serial": "01\n"}.items():
            put(Path(folder, file), text)
        request = ["req", "-new", "-key", "key", "-subj", f"/CN={name}", "-out", "request"]
        sign = ["ca", "-batch", "-notext", "-config", "settings", "-selfsign", "-keyfile", "key", "-in", "request",
                "-startdate", "20231114000000Z", "-enddate", "21231114000000Z", "-out", "certificate"]  # fmt: skip
        for arguments in (request, sign):
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        return Path(folder, "certificate").read_bytes()


def certificate_mismatch(tree: Tree) -> None:
    """Certificate and key are of two pairs."""
    pair, other = ed25519_key("petrel"), ed25519_key("petrel of another site")
    files: dict[str, str | bytes] = {
        "etc/petrel/petrel.crt": certificate("petrel", pair),
        "etc/petrel/petrel.key": other if tree.faulty else pair,
    }
    start = (
        "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        '    context.load_cert_chain("/etc/petrel/petrel.crt", "/etc/petrel/petrel.key")'
    )
    daemon(tree, "petrel", imports="import ssl\n", start=start, files=files)


def unset_variable(tree: Tree) -> None:
    """The init script wants a setting of /etc/default."""
    default = "# FULMAR_HOME=/var/lib/fulmar\n" if tree.faulty else "FULMAR_HOME=/var/lib/fulmar\n"
    before = '    . /etc/default/fulmar\n    mkdir -p "${FULMAR_HOME:?is not set in /etc/default/fulmar}"\n'
    daemon(tree, "fulmar", before=before, files={"etc/default/fulmar": default})


def old_schema(tree: Tree) -> None:
    """Its database is of another version; the package's migration runs at start."""
    start = (
        '    Path("/var/lib/noddy").mkdir(exist_ok=True)\n    base = sqlite3.connect("/var/lib/noddy/jobs.db")\n'
        '    base.execute("CREATE TABLE IF NOT EXISTS settings (addend)")\n'
        '    version = base.execute("SELECT version FROM schema").fetchone()[0]\n'
        '    if version > 2:\n        base.execute("SELECT count(*) FROM jobs_v2").fetchone()\n    base.close()'
    )
    daemon(tree, "noddy", imports="import sqlite3\n", start=start)
    place = tree / "var/lib/noddy/jobs.db"
    place.parent.mkdir(parents=True)
    base = sqlite3.connect(place)
    base.execute("CREATE TABLE jobs (name)")
    base.execute("CREATE TABLE schema (version)")
    base.execute("INSERT INTO schema VALUES (?)", (3 if tree.faulty else 2,))
    base.commit()
    base.close()


def dropped_in_override(tree: Tree) -> None:
    """A file in conf.d, left from another site, moves the socket to where no client looks."""
    start = '    for part in sorted(Path("/etc/jaeger/conf.d").glob("*.conf")):\n        conf |= settings(part)'
    socket = "/run/jaeger-site2.sock" if tree.faulty else "/run/jaeger.sock"
    tree.write("etc/jaeger/conf.d/50-site.conf", f"# Of this site\nsocket = {socket}\n")
    daemon(tree, "jaeger", start=start)


def start_in_postinst(tree: Tree) -> None:
    """The package starts its daemon when it is configured, and the configuration is no good."""
    scripts = {"postinst": sh("/etc/init.d/murre start")}
    daemon(tree, "murre", conf="workers = 2\nlog-level = debug\n" if tree.faulty else "workers = 2\n", scripts=scripts)


def addon_breaks_server(tree: Tree) -> None:
    """Two stages: the server, then an add-on whose settings the server cannot read."""
    start = '    for part in sorted(Path("/etc/puffin/addons").glob("*.json")):\n        json.loads(part.read_text())\n'
    daemon(
        tree,
        "puffin",
        imports="import json\n",
        start=start,
        files={"usr/bin/puffin-version": shell_program("puffin-version")},
    )
    addon = '{"name": "beak", "level": 2,}\n' if tree.faulty else '{"name": "beak", "level": 2}\n'
    files = {"etc/puffin/addons/beak.json": addon, "usr/bin/puffin-beak": shell_program("puffin-beak")}
    postinst = sh("/etc/init.d/puffin stop\n/etc/init.d/puffin start")
    package = deb(
        tree / "srv/repo",
        "puffin-beak",
        "1.0",
        files,
        architecture="all",
        depends="puffin",
        scripts={"postinst": postinst},
    )
    ship(tree, "addon", package)
    repository(tree)


build_family(
    "service",
    [
        unknown_directive,
        silent_death,
        port_out_of_range,
        missing_user,
        certificate_mismatch,
        unset_variable,
        old_schema,
        dropped_in_override,
        start_in_postinst,
        addon_breaks_server,
    ],
)
