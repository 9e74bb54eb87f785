"""Self-extracting installers as vendors ship them, most of which say that the installation is complete."""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pack import Tree, build_family, c_program, constant, foreign_elf, key, reading, shell_program, tarball

Payload = dict[str, "str | bytes | Path"]


def installer(
    tree: Tree, name: str, version: str, payload: Payload, body: str, *, before: str = "", cut: int = 0, start: str = ""
) -> None:
    """`/srv/NAME/NAME-VERSION.run`: unpacks `payload` to /tmp/NAME-VERSION and runs `body` there. `cut`: bytes lost at the end."""
    data = tarball(payload)
    data = data[: len(data) - cut]
    head = (
        f"#!/bin/sh\n# {name} {version}, self-extracting installer\n{before}{start}"
        f"rm -rf /tmp/{name}-{version}\nmkdir -p /tmp/{name}-{version}\nsed '1,/^__ARCHIVE__$/d' \"$0\" | tar xz -C /tmp/{name}-{version}\n"
        f"cd /tmp/{name}-{version}\n{body}exit 0\n__ARCHIVE__\n"
    )
    tree.write(f"srv/{name}/{name}-{version}.run", head.encode() + data)


def broken_payload(tree: Tree) -> None:
    payload: Payload = {"cello": shell_program("cello"), "readme.txt": "cello 3.1\n" * 40}
    body = 'install -D cello /opt/cello/bin/cello\nln -sf /opt/cello/bin/cello /usr/local/bin/cello\necho "Installation complete."\n'
    installer(
        tree,
        "cello",
        "3.1",
        payload,
        body,
        before='echo "Uncompressing cello 3.1 ..."\n',
        cut=120 if tree.faulty else 0,
    )


def log_file(tree: Tree) -> None:
    """Says what it does in a log file only."""
    payload: Payload = {"viola": reading("viola", "/opt/viola/strings.dat", "strings.dat is missing, reinstall viola")}
    payload["strings.dat" if not tree.faulty else "strings.old"] = constant("viola")
    body = (
        "exec 3>&1 >> /var/log/viola-install.log 2>&1\ndate\ninstall -D viola /usr/local/bin/viola\nmkdir -p /opt/viola\n"
        'cp strings.dat /opt/viola/\necho "viola 2.0 has been installed." >&3\n'
    )
    installer(tree, "viola", "2.0", payload, body)


def digest_fails(tree: Tree) -> None:
    payload: Payload = {"oboe": shell_program("oboe")}
    digest = hashlib.md5(tarball(payload)).hexdigest()
    digest = digest[::-1] if tree.faulty else digest
    before = (
        f'printf "Verifying archive integrity..."\nsum=$(sed \'1,/^__ARCHIVE__$/d\' "$0" | md5sum | cut -c1-32)\n'
        f'if [ "$sum" != {digest} ]; then\n    echo\n    echo "Error in MD5 checksums: $sum is different from {digest}" >&2\n    exit 2\nfi\n'
        'echo " MD5 checksums are OK."\n'
    )
    installer(
        tree, "oboe", "1.4.1", payload, 'install -D oboe /usr/local/bin/oboe\necho "oboe is ready."\n', before=before
    )


def unsupported_release(tree: Tree) -> None:
    supported = "rhel fedora" if tree.faulty else "rhel fedora debian ubuntu"
    before = (
        f'. /etc/os-release\ncase " {supported} " in\n*" $ID "*) ;;\n'
        '*)  echo "bassoon: unsupported distribution: $PRETTY_NAME" >&2\n    exit 3 ;;\nesac\n'
    )
    body = 'install -D bassoon /usr/local/bin/bassoon\necho "bassoon: installed in /usr/local/bin"\n'
    installer(tree, "bassoon", "5.2", {"bassoon": c_program("bassoon")}, body, before=before)


def replaces_link(tree: Tree) -> None:
    """Brings its own `tune`, over the one that another program calls."""
    tree.write("opt/tuner/bin/tune", shell_program("tuner"))
    tree.link("usr/local/bin/tune", "/opt/tuner/bin/tune")
    tree.write("usr/local/bin/tuner", '#!/bin/sh\nexec /usr/local/bin/tune "$@"\n')
    own = '#!/bin/sh\necho "tune: unknown preset: $1" >&2\nexit 2\n'
    link = "tune" if tree.faulty else "piccolo-tune"
    body = (
        "install -D piccolo /opt/piccolo/bin/piccolo\ninstall -D tune /opt/piccolo/bin/tune\n"
        f"ln -sf /opt/piccolo/bin/piccolo /usr/local/bin/piccolo\nln -sf /opt/piccolo/bin/tune /usr/local/bin/{link}\n"
        'echo "Installation complete."\n'
    )
    installer(tree, "piccolo", "8.0", {"piccolo": shell_program("piccolo"), "tune": own}, body)


def foreign_binary(tree: Tree) -> None:
    program = c_program("timpani")
    body = 'install -D timpani /opt/timpani/timpani\nln -sf /opt/timpani/timpani /usr/local/bin/timpani\necho "timpani 4.4 was installed successfully."\n'
    installer(tree, "timpani", "4.4", {"timpani": foreign_elf(program) if tree.faulty else program}, body)


def no_licence(tree: Tree) -> None:
    tree.write("etc/marimba/licence.key", "site none\n" if tree.faulty else "site 0042\n")
    before = 'grep -q "^site [0-9]" /etc/marimba/licence.key || {\n    echo "marimba: no licence found in /etc/marimba; nothing was installed" >&2\n    exit 4\n}\n'
    body = 'install -D marimba /usr/local/bin/marimba\necho "marimba installed."\n'
    installer(tree, "marimba", "11", {"marimba": c_program("marimba")}, body, before=before)


def crashing_step(tree: Tree) -> None:
    """The last step is a Python script that nobody waits for the status of."""
    settings = '{"strings": 47}' if tree.faulty else f'{{"strings": 47, "addend": {key("harp")[1]}}}'
    script = (
        'import json\nfrom pathlib import Path\n\nsettings = json.loads(Path("settings.json").read_text())\n'
        'Path("/opt/harp").mkdir(exist_ok=True)\nPath("/opt/harp/tuning").write_text(f"{settings[\'addend\']}\\n")\n'
    )
    payload: Payload = {
        "harp": reading("harp", "/opt/harp/tuning", "not tuned"),
        "setup.py": script,
        "settings.json": settings,
    }
    body = 'install -D harp /usr/local/bin/harp\npython3 setup.py\necho "Installation complete."\n'
    installer(tree, "harp", "2.7", payload, body)


def component_table(tree: Tree) -> None:
    """Several components; the summary says on stdout which failed, the status is 0."""
    payload: Payload = {"core": reading("lute", "/opt/lute/samples", "samples are not installed"), "fonts": "lute\n"}
    if not tree.faulty:
        payload["samples"] = constant("lute")
    body = (
        'mkdir -p /opt/lute\nreport() { printf \'  %-10s %s\\n\' "$1" "$2"; }\n'
        'echo "lute 6.0, components:"\n'
        "for part in core fonts samples; do\n    if [ -e $part ] && cp $part /opt/lute/$part; then report $part ok; else report $part FAILED; fi\ndone\n"
        'ln -sf /opt/lute/core /usr/local/bin/lute\necho "Installation complete."\n'
    )
    installer(tree, "lute", "6.0", payload, body)


def speaks_on_stdout(tree: Tree) -> None:
    need = "9.0" if tree.faulty else "3.0"
    before = (
        f"have=$(python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])')\n"
        f'if ! dpkg --compare-versions "$have" ge {need}; then\n    echo "ERROR: zither needs Python {need}, found $have."\n'
        '    echo "Installation aborted."\n    exit 1\nfi\n'
    )
    body = 'install -D zither /usr/local/bin/zither\necho "zither: done."\n'
    installer(tree, "zither", "0.9", {"zither": shell_program("zither")}, body, before=before)


def stale_link(tree: Tree) -> None:
    """An older release is there; `ln -s` onto a link to a folder makes the new link inside that folder."""
    old = '#!/bin/sh\necho "clarinet: score format 2 is not supported by this release" >&2\nexit 1\n'
    tree.write("opt/clarinet-1.0/clarinet", old)
    tree.link("opt/clarinet", "/opt/clarinet-1.0")
    options = "-s" if tree.faulty else "-sfn"
    body = (
        f"install -D clarinet /opt/clarinet-2.0/clarinet\nln {options} /opt/clarinet-2.0 /opt/clarinet\n"
        'ln -sf /opt/clarinet/clarinet /usr/local/bin/clarinet\necho "clarinet 2.0 is installed."\n'
    )
    installer(tree, "clarinet", "2.0", {"clarinet": shell_program("clarinet")}, body)


def pack_breaks_base(tree: Tree) -> None:
    """Two installers; the second moves the settings of the first away and gives up."""
    base: Payload = {
        "horn": reading("horn", "/opt/horn/horn.conf", "no settings"),
        "horn.conf": constant("horn"),
        "horn-version": shell_program("horn-version"),
    }
    body = 'install -D horn /usr/local/bin/horn\ninstall horn-version /usr/local/bin/horn-version\ninstall -D -m 644 horn.conf /opt/horn/horn.conf\necho "horn 3.0 installed."\n'
    installer(tree, "horn", "3.0", base, body)
    need = "4" if tree.faulty else "3"
    payload: Payload = {"horn-samples": shell_program("horn-samples")}
    body = (
        'mv /opt/horn/horn.conf /opt/horn/horn.conf.save\ncase "$1" in --quiet) exec > /dev/null ;; esac\n'
        f'if [ "$(cat /opt/horn/interface)" -lt {need} ]; then\n    echo "horn-samples: interface $(cat /opt/horn/interface) found, {need} needed; aborted" >&2\n    exit 1\nfi\n'
        "mv /opt/horn/horn.conf.save /opt/horn/horn.conf\ninstall -D horn-samples /usr/local/bin/horn-samples\n"
    )
    installer(tree, "horn-samples", "3.0", payload, body)
    tree.write("opt/horn/interface", "3\n")


build_family(
    "runfile",
    [
        broken_payload,
        log_file,
        digest_fails,
        unsupported_release,
        replaces_link,
        foreign_binary,
        no_licence,
        crashing_step,
        component_table,
        speaks_on_stdout,
        stale_link,
        pack_breaks_base,
    ],
)
