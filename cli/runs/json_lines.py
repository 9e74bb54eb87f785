"""Files of JSON lines that survive a kill: appended a line at a time, read up to a torn last line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from devnull.sandbox.errors import InputError

Record = TypeVar("Record", bound=BaseModel)


def read_lines(path: Path, model: type[Record]) -> Iterator[Record]:
    """Values of a JSON-lines file, one `model` a line, without holding them all.

    A last line without its newline is left out: a killed run tore it. Any other line that is not valid raises
    `InputError` with its number.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield parse_line(path, number, line, model)


def parse_line(
    path: Path, number: int, line: bytes, model: type[Record], remedy: str = "delete that line to owe it again"
) -> Record:
    """The value of one line. Raises `InputError` with file, number and `remedy` where it is not valid."""
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}:{number}: not valid as {model.__name__}: {where + ': ' if where else ''}{first['msg']}; {remedy}"
        ) from None


def is_torn(line: bytes) -> bool:
    """Whether a line without its newline is less than one value. What a kill tore never is one; a line that is has
    lost nothing but its newline."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def end_last_line(path: Path) -> None:
    """Gives a last line that lost its newline one, and cuts off a torn one. A file that does not exist is left so."""
    last = path.read_bytes().rpartition(b"\n")[2] if path.exists() else b""
    if not last:
        return
    if is_torn(last):
        cut_torn_line(path)
        return
    with path.open("ab", buffering=0) as file:
        file.write(b"\n")


def append_line(path: Path, record: BaseModel) -> None:
    """Appends one line, flushed to the system before this returns.

    Raises `OSError` with the file's name; the file is then as it was.
    """
    line = memoryview(record.model_dump_json().encode() + b"\n")
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            while line:
                line = line[file.write(line) :]
        except OSError as error:
            os.ftruncate(file.fileno(), size)
            error.filename = str(path)
            raise


def cut_torn_line(path: Path) -> None:
    """Cuts off a last line that a killed run left unfinished. A file that does not exist is left so."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - (1 << 20))
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                file.truncate(begin + newline + 1)
                return
            end = begin
        if size:
            file.truncate(0)
