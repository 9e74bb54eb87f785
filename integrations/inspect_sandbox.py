"""`sandbox="devnull"` in Inspect AI: other people's tasks in our boxes, each command under the supervisor.

What a command kept off its caller is an `InfoEvent` beside Inspect's own event of it; the scorer `suppression` reads
those. Boxes have no network. The commands of one sample run one after the other.
"""

import errno
import os
import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar, overload

import anyio
import anyio.to_thread
from inspect_ai.log import transcript
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from inspect_ai.util._sandbox._cli import SANDBOX_CLI
from pydantic import BaseModel, ConfigDict, Field

from devnull.eval.formats.inspect_samples import kept_off, recording_note
from devnull.integrations.box_work import box_work
from devnull.integrations.inspect_errors import one_line_errors
from devnull.sandbox.errors import BoxDied, InputError
from devnull.sandbox.own_box import FOLDER_IN_BOX, OwnBoxes, open_own_boxes
from devnull.sandbox.run_program import ROOT, Account, Program, ProgramRun, ProgramRunner
from devnull.sandbox.runtime import Limits
from devnull.sandbox.session import HARNESS_SECONDS, BoxSession

_T = TypeVar("_T")
_SHELL, _SYSTEM_PATH = "/bin/sh", "/usr/sbin:/usr/bin:/sbin:/bin"
_BY_ANOTHER = "what exec_remote or an earlier command left running may have written it"
_READ = """[ -d "$1" ] && exit 21; [ -e "$1" ] || exit 2; set -- "$1" "$2" "$(stat -L -c '%A %s' -- "$1")"
case $3 in ?r*) ;; *) exit 13 ;; esac
[ "${3##* }" -gt "$2" ] && exit 27; exec cat -- "$1" """
_WRITE = """[ -d "$1" ] && exit 21; case $1 in */*) mkdir -p -- "${1%/*}/" || exit 13 ;; esac
[ -e "$1" ] && case $(stat -L -c %A -- "$1") in ??w*) ;; *) exit 13 ;; esac
exec cat >"$1" """
"""As the sandbox's user, and where that is root, of files that their owner may read and write."""


class BoxConfig(BaseModel):
    """The box of a sample, as `SandboxEnvironmentSpec("devnull", BoxConfig(...))` takes it. In its place stands a
    string: a folder that is there and no root file system, or else an image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = None
    """A Docker image that the daemon has, or the folder of a root file system, with bash; `None`: devnull's own, a
    Debian with build tools."""
    folder: str | None = None
    """Of this machine, copied to `/work` in each box."""
    runtime: Literal["auto", "docker", "rootless"] = "auto"
    """What makes the boxes; `auto`: docker where a daemon answers, else rootless."""
    user: str | None = None
    """Who commands run as that name no user; `None`: root."""
    memory: int = Field(default=2048, ge=1)
    """MiB of memory that the box may use."""
    disk: int = Field(default=2048, ge=1)
    """MiB that it may write."""

    @property
    def limits(self) -> Limits:
        """What a box may use."""
        return Limits(memory_bytes=self.memory << 20, disk_bytes=self.disk << 20, pids=4096, recorded_bytes=16 << 20)


class _Opened:
    """The boxes of one configuration, and how many tasks use them."""

    def __init__(self, context: AbstractContextManager[OwnBoxes]) -> None:
        self.context, self.boxes, self.tasks = context, context.__enter__(), 0


_opened: dict[BoxConfig, _Opened] = {}
_opening = Lock()


@sandboxenv(name="devnull")
class DevnullSandbox(SandboxEnvironment):
    """One box. `exec` never runs a command twice: `timeout_retry` changes nothing."""

    def __init__(self, session: BoxSession, folder: str, account: Account) -> None:
        super().__init__()
        self._session, self._folder, self._account = session, folder, account
        self._runner = ProgramRunner(session)
        self._turn = anyio.Lock()

    @classmethod
    async def task_init(cls, task_name: str, config: BaseModel | str | None) -> None:
        """Makes boxes of this configuration possible, once for all samples. Raises `PrerequisiteError`."""
        with one_line_errors():
            await _in_thread(lambda: _open(_parse(config), 1))

    @classmethod
    async def task_cleanup(cls, task_name: str, config: BaseModel | str | None, cleanup: bool) -> None:
        """The last task to use them puts away what the boxes were made of."""
        await _in_thread(lambda: _close(_parse(config)))

    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """A fresh box."""
        wanted = _parse(config)
        made = await anyio.to_thread.run_sync(lambda: _start(_open(wanted, 0), wanted))  # or nobody ends the box
        transcript().info(recording_note(_open(wanted, 0).runtime.name), source="devnull")
        return {"default": made}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Ends the box, in the middle of a command too."""
        with anyio.CancelScope(shield=True):
            for each in environments.values():
                await _in_thread(each.as_type(DevnullSandbox)._session.close)

    @classmethod
    def default_concurrency(cls) -> int | None:
        """Two boxes a processor."""
        return 2 * (os.cpu_count() or 1)

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """A configuration, as a log holds it."""
        return BoxConfig.model_validate(config)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Runs a command, and says beside it what it kept off its caller. As `SandboxEnvironment.exec`.

        Cancelled, it is ended before the next one begins.
        """
        account = self._account if user is None else await self._in_box(lambda: self._runner.account(user))
        if account is None:
            return ExecResult(False, 126, "", f"unable to find user {user}: no matching entries in passwd file")
        folder = posixpath.join(self._folder, cwd or "")
        program = Program(tuple(cmd), _bytes(input), folder, dict(env or {}), account)
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE

        def note(done: ProgramRun) -> None:
            issued_by_inspect = cmd[0] == _SHELL and program.env.get("PATH") == _SYSTEM_PATH
            if not issued_by_inspect and (hidden := kept_off(done.result)) is not None:
                if hidden["hid_error"] is False and (done.from_before or cmd[0] == SANDBOX_CLI):
                    hidden |= {"hid_error": None, "why": _BY_ANOTHER}
                transcript().info(hidden, source="devnull")

        try:
            done = await self._run(program, timeout, limit, note)
        except ValueError as refusal:  # a zero byte, or a lone surrogate: no program takes it
            return ExecResult(False, 126, "", f"the command cannot be run: {refusal}")
        stdout, stderr = (part[:limit].decode("utf-8", "replace") for part in (done.stdout, done.stderr))
        note(done)
        if done.result.timed_out:
            error = TimeoutError(f"Command timed out after {timeout} seconds")
            error.truncated_output = stdout + stderr  # type: ignore[attr-defined]
            raise error
        if max(len(done.stdout), len(done.stderr)) > limit:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, stdout + stderr)
        status = done.result.exit_code
        if status == 126 and not done.started:
            raise PermissionError(errno.EACCES, "Permission denied", cmd[0])
        return ExecResult(status == 0, -1 if status is None else status, stdout, stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Writes a file and the folders above it, as the sandbox's user. As `SandboxEnvironment.write_file`."""
        await self._file(_WRITE, file, _bytes(contents), 0)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Reads a file as the sandbox's user. As `SandboxEnvironment.read_file`."""
        content = await self._file(_READ, file, b"", SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        return content.decode("utf-8") if text else content

    async def _file(self, script: str, file: str, content: bytes, limit: int) -> bytes:
        argv = (_SHELL, "-c", script, _SHELL, posixpath.join(self._folder, file), str(limit))
        program = Program(argv, content, "/", {"PATH": _SYSTEM_PATH}, self._account)
        done = await self._run(program, None, max(limit, 1 << 16))
        status = done.result.exit_code
        complaint = done.stderr.decode("utf-8", "replace").strip()
        if status == 27 or len(done.stdout) > max(limit, 1 << 16):
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        if "No space left" in complaint:
            status = errno.ENOSPC
        elif "ermission denied" in complaint:
            status = errno.EACCES
        if status in (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOSPC):
            raise OSError(status, os.strerror(status), file)
        if status != 0:
            raise OSError(errno.EIO, complaint or f"status {status}", file)
        return done.stdout

    async def _run(
        self,
        program: Program,
        timeout: float | None,
        limit: int,
        on_cancel: Callable[[ProgramRun], None] = lambda done: None,
    ) -> ProgramRun:
        if program.account.uid != 0 and not await self._in_box(self._runner.can_switch_users):
            raise SandboxUserUnsupportedError(
                f"this box has no user but root to run {program.argv[0]} as: rootless boxes of an ordinary user have "
                "one, and an image needs /usr/bin/setpriv"
            )
        return await self._in_box(lambda: self._runner.run(program, timeout, limit), on_cancel)

    async def _in_box(self, work: Callable[[], _T], on_cancel: Callable[[_T], None] = lambda returned: None) -> _T:
        """Work with the box, one after the other."""
        try:
            async with self._turn:
                return await box_work(self._session, work, on_cancel)
        except BoxDied as death:
            raise SandboxUnavailableError(str(death)) from death


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


def _bytes(content: str | bytes | None) -> bytes:
    return (content or "").encode() if not isinstance(content, bytes) else content


def _parse(config: BaseModel | str | None) -> BoxConfig:
    if config is None or isinstance(config, BoxConfig):
        return config or BoxConfig()
    if isinstance(config, str):
        is_image = not Path(config).is_dir() or Path(config, "bin/bash").exists()
        return BoxConfig(image=config) if is_image else BoxConfig(folder=str(Path(config).resolve()))
    raise InputError(f"sandbox devnull: {type(config).__name__} is no BoxConfig; Compose files are not read")


def _open(config: BoxConfig, more_tasks: int) -> OwnBoxes:
    if config.folder is not None and not Path(config.folder).is_dir():
        raise InputError(f"sandbox devnull: {config.folder}: no such folder")
    with _opening:
        if config not in _opened:
            _opened[config] = _Opened(open_own_boxes(config.image, config.runtime))
        _opened[config].tasks += more_tasks
        return _opened[config].boxes


def _close(config: BoxConfig) -> None:
    with _opening:
        opened = _opened.get(config)
        if opened is None:
            return
        opened.tasks -= 1
        if opened.tasks <= 0:
            del _opened[config]
            opened.context.__exit__(None, None, None)


def _start(boxes: OwnBoxes, config: BoxConfig) -> DevnullSandbox:
    session = boxes.start(config.limits, None if config.folder is None else Path(config.folder))
    try:
        account = ROOT
        if config.user is not None:
            known = ProgramRunner(session).account(config.user)
            if known is None:
                raise InputError(f"sandbox devnull: the box has no user {config.user!r}")
            account = known
        if config.image is None or config.folder is not None:
            own = f"mkdir -p {FOLDER_IN_BOX} && chown -R {account.uid}:{account.gid} {FOLDER_IN_BOX}"
            session.run(f"{own} && cd {FOLDER_IN_BOX}", timeout=HARNESS_SECONDS)
        return DevnullSandbox(session, session.run(":").cwd, account)
    except BaseException:
        session.close()
        raise
