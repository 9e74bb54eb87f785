"""The image's recipe, and what is said when it cannot be built."""

import gc
import importlib.util
import json
import os
import tarfile
import warnings
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from devnull.cli.main import main
from devnull.sandbox.cache import cache_folder, digest_files
from devnull.sandbox.docker_client import connect_docker
from devnull.sandbox.errors import HostDiskFull, ImageBuildFailed, ImageMissing, RuntimeUnavailable
from devnull.sandbox.image.docker_image import build_error, ensure_image, find_image
from devnull.sandbox.image.manifest import load_manifest
from devnull.sandbox.image.recipe import pack_context, recipe_files, rootfs_folder
from devnull.sandbox.image.rootfs import ensure_rootfs
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


@pytest.mark.rootless
def test_the_image_holds_every_task_and_nothing_outside_it(rootless_runtime):
    recorded = load_manifest()
    assert set(recorded.shipped) >= set(load_tasks())
    assert "/usr/bin/python3.11" in recorded.tools
    session = rootless_runtime.start()
    try:
        sources = session.run("cat /etc/apt/sources.list; ls /etc/apt/sources.list.d; pip config list").shown
    finally:
        session.close()
    assert "http" not in sources
    assert Path(rootfs_folder(), "usr/lib/devnull/supervisor").exists()


@pytest.mark.docker
def test_an_image_that_is_there_is_not_built_again(docker_runtime):
    logged = []
    assert ensure_image(logged.append) == find_image()
    assert logged == []
