"""The image's recipe, and what is said when it cannot be built."""

import gc
import importlib.util
import json
import os
import re
import subprocess
import tarfile
import warnings
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from devnull.cli.main import main
from devnull.sandbox.cache import cache_folder, digest_files
from devnull.sandbox.docker_client import connect_docker
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed, ImageMissing, RuntimeUnavailable
from devnull.sandbox.image import acceptance, rootfs
from devnull.sandbox.image.acceptance import accept_image, read_manifest
from devnull.sandbox.image.docker_image import build_error, ensure_image, find_image, image_manifest, manifest_file
from devnull.sandbox.image.host_tools import host_tool_error, run_mmdebstrap, unpack_command
from devnull.sandbox.image.manifest import NO_MANIFEST, Manifest
from devnull.sandbox.image.recipe import pack_context, recipe_files, rootfs_folder
from devnull.sandbox.image.rootfs import ensure_rootfs, find_rootfs, rootfs_manifest
from devnull.sandbox.runtime import Limits
from devnull.sandbox.runtimes.rootless import RootlessRuntime
from devnull.sandbox.supervisor import supervisor_folder
from devnull.sandbox.tasks import load_tasks

ROOT = Path(__file__).parent.parent


@pytest.fixture
def no_daemon(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")


def test_a_daemon_that_is_not_there_leaves_no_socket_open(no_daemon):
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeUnavailable, match=r"nothing\.sock.*No such file"):
            connect_docker()
        gc.collect()
    assert not [str(each.message) for each in caught if each.category is ResourceWarning]


def test_dockerignore_lets_the_same_files_through():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    allowed = {
        name
        for name in exclude_paths(str(ROOT), patterns, dockerfile="Dockerfile")
        if (ROOT / name).is_file() and not name.endswith(".dockerignore")
    }
    families = {path.stem for path in (ROOT / "sandbox/corpus").glob("*.toml")}
    half_made = {name for name in allowed if name.count("/") > 2 and name.split("/")[2] not in families}
    assert allowed - half_made == set(recipe_files())


def test_the_digest_is_of_names_contents_and_modes(tmp_path):
    script = tmp_path / "a.sh"
    script.write_text("echo")
    first = digest_files({"a.sh": script})
    os.utime(script, (1, 1))
    assert digest_files({"a.sh": script}) == first
    script.chmod(0o755)
    second = digest_files({"a.sh": script})
    script.write_text("echo 1")
    assert len({first, second, digest_files({"a.sh": script}), digest_files({"b.sh": script})}) == 4


def test_tasks_of_ones_own_are_part_of_the_recipe(tmp_path, monkeypatch):
    plain = recipe_files()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.toml").write_text("summary = ''")
    (tmp_path / "mine/build.sh").write_text("true")
    monkeypatch.setenv("DEVNULL_TASKS", str(tmp_path))
    assert set(recipe_files()) - set(plain) == {"sandbox/corpus/mine/build.sh"}


def test_a_packed_context_has_the_same_bytes_each_time():
    files = recipe_files()
    assert pack_context(files).getvalue() == pack_context(files).getvalue()


def families_module():
    spec = importlib.util.spec_from_file_location("families", ROOT / "sandbox/box/families.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_build_is_packed_the_same_each_time_and_touches_no_folder_that_is_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "sandbox/box")
    pack = families_module().pack
    tree = tmp_path / "ok"
    (tree / "tmp/empty").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/app").write_text("#!/bin/sh\n")
    (tree / "usr/bin/app").chmod(0o755)
    (tree / "usr/bin/link").symlink_to("app")
    (tree / "closed").mkdir(mode=0o700)
    pack(tree, tmp_path / "one.tar")
    os.utime(tree / "usr/bin/app", (1, 1))
    pack(tree, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == ["closed", "tmp/empty", "usr/bin/app", "usr/bin/link"]
        assert {(member.uid, member.uname) for member in archive} == {(0, "root")}


def test_no_daemon_is_said_with_the_fix(no_daemon):
    with pytest.raises(RuntimeUnavailable, match=r"no daemon at unix://.*--runtime rootless"):
        connect_docker()


def test_a_full_disk_has_a_kind_of_its_own():
    with pytest.raises(HostDiskFull, match="devnull image prune"):
        raise build_error("write /x: no space left on device", [])
    with pytest.raises(ImageBuildFailed, match="the last line"):
        raise build_error("returned a non-zero code: 1", ["the last line"])


def test_without_docker_and_mmdebstrap_the_one_command_is_named(no_daemon, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageMissing, match="apt-get install -y mmdebstrap"):
        ensure_rootfs(lambda line: None)
    assert not list((tmp_path / "devnull").glob("rootfs-*"))


def test_status_without_anything_built(no_daemon, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["image", "status", "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert (status["image"], status["rootfs"], status["built"]) == (None, None, False)
    assert "no daemon" in status["docker"]


def test_prune_without_a_daemon_removes_old_files_only(no_daemon, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = [cache_folder() / "rootfs-000000000000", cache_folder() / "supervisor-000000000000"]
    current = [rootfs_folder(), supervisor_folder()]
    for folder in old + current:
        (folder / "closed").mkdir(parents=True)
        (folder / "closed").chmod(0o500)
    assert main(["image", "prune"]) == 0
    assert not any(folder.exists() for folder in old)
    assert all(folder.exists() for folder in current)


# What the cache holds


@pytest.fixture
def without_docker(no_daemon, monkeypatch, tmp_path):
    """An empty cache, and mmdebstrap's part played by a small tree that a tar of it would hold."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "hosts").write_text("of the host")

    def make(root, log):
        (root / "etc").mkdir()
        (root / "etc/hosts").symlink_to(tmp_path / "hosts")
        (root / ".dockerenv").touch()

    monkeypatch.setattr(rootfs, "_make_rootfs", make)
    return tmp_path / "hosts"


def accept(open_boxes, log):
    return Manifest({}, {}, {"/usr/bin/find": str(open_boxes(NO_MANIFEST)._rootfs)}, ())


def refuse(open_boxes, log):
    raise ImageBuildFailed("family pip: tampered")


def test_a_root_file_system_and_its_manifest_appear_together(without_docker, monkeypatch):
    monkeypatch.setattr(rootfs, "accept_image", accept)
    root = ensure_rootfs(lambda line: None)
    assert rootfs_manifest(root).tools["/usr/bin/find"].endswith(".part/root")
    assert [path.name for path in cache_folder().glob("rootfs-*")] == [rootfs_folder().name]
    assert rootfs_folder().stat().st_mode & 0o777 == 0o700
    assert {path.name: path.read_text() for path in (root / "etc").iterdir() if path.name != "mtab"} == {
        "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "hostname": "box\n",
        "resolv.conf": "",
    }
    assert not (root / ".dockerenv").exists()
    assert without_docker.read_text() == "of the host"


def test_a_refused_one_leaves_nothing_and_spares_what_was_there(without_docker, monkeypatch):
    monkeypatch.setattr(rootfs, "accept_image", refuse)
    with pytest.raises(ImageBuildFailed, match="family pip"):
        ensure_rootfs(lambda line: None)
    assert not list(cache_folder().glob("rootfs-*"))
    monkeypatch.setattr(rootfs, "accept_image", accept)
    root = ensure_rootfs(lambda line: None)
    monkeypatch.setattr(rootfs, "accept_image", refuse)
    with pytest.raises(ImageBuildFailed, match="family pip"):
        ensure_rootfs(lambda line: None, again=True)
    assert find_rootfs() == root and rootfs_manifest(root).tools
    assert list(cache_folder().glob("rootfs-*")) == [root.parent]


def test_a_root_file_system_without_its_own_manifest_is_made_anew(without_docker, monkeypatch):
    """As older versions left them: the files right in the folder, one manifest for all of a recipe beside it."""
    (rootfs_folder() / "bin").mkdir(parents=True)
    rootfs_folder().with_name(rootfs_folder().name.replace("rootfs", "manifest") + ".json").write_text("{}")
    assert find_rootfs() is None
    monkeypatch.setattr(rootfs, "accept_image", accept)
    assert ensure_rootfs(lambda line: None) == rootfs_folder() / "root"
    assert not (rootfs_folder() / "bin").exists()


def test_nothing_of_the_host_reaches_what_mmdebstrap_runs(monkeypatch, tmp_path):
    (tmp_path / "mmdebstrap").write_text('#!/bin/sh\nfor last; do :; done\n{ umask; env; } >"$last"\n')
    (tmp_path / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("SOURCE_DATE_EPOCH", "PYTHONPATH", "LC_ALL", "PIP_INDEX_URL", "http_proxy"):
        monkeypatch.setenv(name, "1")
    before = os.umask(0o077)
    try:
        run_mmdebstrap(tmp_path / "out")
    finally:
        os.umask(before)
    mask, *variables = (tmp_path / "out").read_text().splitlines()
    assert mask == "0022"
    assert {line.partition("=")[0] for line in variables} - {"PWD", "_", "SHLVL", "OLDPWD", "TMPDIR"} == {
        "HOME", "PATH", "http_proxy",
    }  # fmt: skip


def test_unpacking_keeps_modes_and_leaves_out_devices_only(tmp_path):
    (tmp_path / "to").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, mode in {"./dev/null": 0o666, "./tmp": 0o1777, "./usr/lib/dev/x": 0o2775}.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.type = mode, tarfile.DIRTYPE
            archive.addfile(entry)
    before = os.umask(0o077)
    try:
        subprocess.run([*unpack_command(tmp_path / "to"), "-f", tmp_path / "a.tar"], check=True)
    finally:
        os.umask(before)
    assert not (tmp_path / "to/dev/null").exists()
    assert (tmp_path / "to/tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "to/usr/lib/dev/x").stat().st_mode & 0o7777 == 0o2775


# What a box begins as


@pytest.mark.rootless
def test_the_image_holds_every_task_and_nothing_outside_it(rootless_runtime):
    recorded = rootless_runtime.manifest
    assert set(recorded.shipped) >= set(load_tasks())
    assert "/usr/bin/python3.11" in recorded.tools
    session = rootless_runtime.start()
    try:
        sources = session.run("cat /etc/apt/sources.list; ls /etc/apt/sources.list.d; pip config list").shown
    finally:
        session.close()
    assert "http" not in sources
    assert Path(find_rootfs(), "usr/lib/devnull/supervisor").exists()


@pytest.fixture(
    params=[pytest.param("rootless", marks=pytest.mark.rootless), pytest.param("docker", marks=pytest.mark.docker)]
)
def runtime(request):
    return request.getfixturevalue(f"{request.param}_runtime")


def printed(runtime, script):
    with runtime.start() as session:
        return session.verify(script).shown


STALE = """
import importlib.util, os, pathlib, struct
for compiled in pathlib.Path("/").glob("[!ps]*/**/*.pyc"):
    flags, time, size = struct.unpack("<III", compiled.read_bytes()[4:16])
    source = os.stat(importlib.util.source_from_cache(str(compiled)))
    if flags == 0 and (int(source.st_mtime), source.st_size) != (time, size): print(compiled)
"""


def test_nothing_that_python_compiled_is_stale_at_birth(runtime):
    assert printed(runtime, f"python3 -c '{STALE}'") == ""


def test_the_manifest_is_of_what_a_fresh_box_holds(runtime):
    """Nothing of it was there only while the box was made (`policy-rc.d`, `start-stop-daemon.REAL`)."""
    assert read_manifest(runtime).to_json() == runtime.manifest.to_json()


OF_AN_ENGINE = "cat /etc/hosts | grep -w 127.0.0.1; cat /etc/hostname; readlink /etc/mtab; stat -c %a /tmp /var/mail"


def test_a_box_is_told_what_a_container_is_told(runtime):
    assert printed(runtime, OF_AN_ENGINE).split() == ["127.0.0.1", "localhost", "box", "/proc/mounts", "1777", "2775"]


@pytest.mark.docker
def test_each_image_has_a_manifest_of_its_own(docker_runtime):
    """Two images of one recipe: a program more in the second is in the second's manifest only."""
    client = connect_docker()
    container = client.containers.create(docker_runtime._image, entrypoint=["/usr/bin/touch", "/usr/bin/of-this-image"])
    try:
        container.start()
        container.wait()
        image = container.commit()
    finally:
        container.remove(force=True)
    try:
        assert set(image_manifest(image.id).tools) - set(docker_runtime.manifest.tools) == {"/usr/bin/of-this-image"}
        assert image_manifest(docker_runtime._image).to_json() == docker_runtime.manifest.to_json()
    finally:
        client.images.remove(image.id)
        manifest_file(image.id).unlink()


class SpoiledRuntime:
    """Boxes in which a script ran before anyone else saw them: what a bad build makes."""

    name = "spoiled"

    def __init__(self, runtime, script):
        self.runtime, self.script = runtime, script

    def start(self, limits=Limits()):
        session = self.runtime.start(limits)
        assert session.run(self.script).exit_code == 0
        return session


PIP = "/opt/venv/lib/python3.11/site-packages/pip"
SPOILED = {
    "what python compiled is stale": (
        f"find {PIP} -name '*.py' -exec touch {{}} +",
        "",
        r"family pip: .*tampered: .*\.pyc",
    ),
    "the manifest was read while hooks were at work": (
        "",
        "cd /usr/sbin; echo exit 101 >policy-rc.d; mv start-stop-daemon start-stop-daemon.REAL",
        r"family service: .*tampered: .*policy-rc\.d",
    ),
    "packages cannot be unpacked": ("rm /usr/bin/dpkg-deb", "", "family apt: .*/usr/bin/dpkg"),
    "no compiler": ("rm /usr/bin/cc /usr/bin/gcc", "", "family make: "),
    "no builds": ("rm /srv/builds.tar", "", "cannot be read: .*builds"),
}


@pytest.mark.rootless
@pytest.mark.parametrize("kind", SPOILED)
def test_a_box_that_judges_wrongly_is_refused(kind, rootless_runtime, monkeypatch):
    """`always`: how each box begins; `at_first`: how the one began from which the manifest was read."""
    always, at_first, says = SPOILED[kind]
    family = re.match(r"family (\w+)|", says)[1] or "make"
    tried = {name: task for name, task in load_tasks().items() if task.family == family}
    monkeypatch.setattr(acceptance, "load_tasks", lambda folder=None: tried)

    def open_boxes(manifest):
        boxes = RootlessRuntime(rootless_runtime._rootfs, manifest=manifest)
        return SpoiledRuntime(boxes, always + "\n" + (at_first if manifest is NO_MANIFEST else ""))

    with pytest.raises(ImageBuildFailed, match=says):
        accept_image(open_boxes, lambda line: None)


@pytest.mark.rootless
def test_of_ones_own_families_a_line_tells(rootless_runtime, monkeypatch):
    task = load_tasks()["make-compile-error"].model_copy(update={"name": "mine-1", "family": "mine"})
    monkeypatch.setattr(acceptance, "load_tasks", lambda folder=None: {} if folder else {"mine-1": task})
    logged = []
    manifest = accept_image(
        lambda manifest: RootlessRuntime(rootless_runtime._rootfs, manifest=manifest), logged.append
    )
    assert manifest.tools
    assert "family mine: mine-1: the ok build cannot be laid out" in logged[-1]
    assert "devnull tasks check mine-1" in logged[-1]


@pytest.mark.docker
def test_an_image_that_is_there_is_not_built_again(docker_runtime):
    logged = []
    assert ensure_image(logged.append) == find_image()
    assert logged == []


def test_a_user_without_subordinate_ids_is_told_what_to_have_done() -> None:
    error = host_tool_error(
        "mmdebstrap", "E: unable to pick chroot mode automatically (use --mode for manual selection)"
    )
    assert "usermod --add-subuids" in str(error) and "\n" not in str(error)
