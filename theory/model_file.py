"""Problems in `.npz` files: the arrays `theory solve` reads, and what it says of a file it cannot use."""

import difflib
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devnull.theory.errors import TheoryInputError
from devnull.theory.pomdp import POMDP, finite_array
from devnull.theory.returns import Returns
from devnull.theory.sequences import IntArray, reachable

_ARRAYS = {
    "T": "(S, A, S)",
    "P0": "(S,)",
    "R": "(S,)",
    "PO": "(S, O)",
    "gamma": "one number",
    "horizon": "one whole number, moves",
    "seqs": "(N, horizon+1), reachable state sequences in lexicographic order",
    "oseqs": "(M, horizon+1), reachable observation sequences in lexicographic order",
    "B": "(M, N)",
}


def read_model(path: Path) -> Returns:
    """Reads and checks everything; raises `TheoryInputError` naming the file, the array, the value and the fix."""
    arrays = _read_arrays(path)
    try:
        pomdp = POMDP(
            T=finite_array("T", arrays["T"]),
            P0=finite_array("P0", arrays["P0"]),
            R=finite_array("R", arrays["R"]),
            PO=finite_array("PO", arrays["PO"]),
            horizon=int(_one_number("horizon", arrays["horizon"], whole=True)),
            gamma=_one_number("gamma", arrays["gamma"]),
        )
        sequences = reachable(pomdp)
        _require_same("seqs", arrays["seqs"], sequences.states, pomdp.S)
        _require_same("oseqs", arrays["oseqs"], sequences.observations, pomdp.O)
        return Returns(pomdp, sequences, finite_array("B", arrays["B"]))
    except TheoryInputError as error:
        raise type(error)(f"{path}: {error}") from None


def write_model(path: Path, returns: Returns) -> None:
    """The file that `read_model` reads."""
    p = returns.pomdp
    with path.open("wb") as file:
        np.savez(
            file,
            T=p.T,
            P0=p.P0,
            R=p.R,
            PO=p.PO,
            gamma=np.float64(p.gamma),
            horizon=np.int64(p.horizon),
            seqs=returns.sequences.states,
            oseqs=returns.sequences.observations,
            B=returns.B,
        )


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    wants = "; ".join(f"{name} {shape}" for name, shape in _ARRAYS.items())
    if not zipfile.is_zipfile(path):
        with path.open("rb"):  # a missing or unreadable file says so itself
            raise TheoryInputError(f"{path}: not an .npz file; write it with numpy.savez: {wants}")
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                if name not in _ARRAYS:
                    near = difflib.get_close_matches(name, _ARRAYS, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_ARRAYS)}"
                    raise TheoryInputError(f"{path}: unknown array {name!r}{hint}")
            missing = [name for name in _ARRAYS if name not in file.files]
            if missing:
                shapes = "; ".join(f"{name} {_ARRAYS[name]}" for name in missing)
                raise TheoryInputError(f"{path}: missing {shapes}")
            return {name: file[name] for name in _ARRAYS}
    except TheoryInputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TheoryInputError(f"{path}: cannot be read: {error}; write it with numpy.savez: {wants}") from None


def _one_number(name: str, values: NDArray[np.generic], whole: bool = False) -> float:
    if values.size != 1 or values.dtype.kind not in "iuf":
        raise TheoryInputError(f"{name} has shape {values.shape} of {values.dtype}; it must be one number")
    value = float(values.reshape(-1)[0])
    if whole and not value.is_integer():
        raise TheoryInputError(f"{name} is {value}; it must be a whole number")
    return value


def _require_same(name: str, given: NDArray[np.generic], wanted: IntArray, symbols: int) -> None:
    """`given` must be exactly the reachable sequences, sorted; the message names the first that is wrong."""
    if given.ndim != 2 or given.shape[1] != wanted.shape[1]:
        raise TheoryInputError(f"{name} has shape {given.shape}; it must be {wanted.shape} ({_ARRAYS[name]})")
    if given.dtype.kind not in "iuf" or not (given == np.floor(given.astype(float))).all():
        raise TheoryInputError(f"{name} holds {given.dtype}; it must hold whole numbers")
    rows = given.astype(np.int64)
    if np.array_equal(rows, wanted):
        return
    if ((rows < 0) | (rows >= symbols)).any():
        n = int(np.argwhere((rows < 0) | (rows >= symbols))[0][0])
        raise TheoryInputError(f"{name}[{n}] is {rows[n].tolist()}; its entries run from 0 to {symbols - 1}")
    present, reachable_rows = [tuple(row) for row in rows.tolist()], {tuple(row) for row in wanted.tolist()}
    for n, row in enumerate(present):
        if row not in reachable_rows:
            raise TheoryInputError(f"{name}[{n}] is {list(row)}, which cannot happen; list reachable sequences only")
        if n and row <= present[n - 1]:
            fault = "repeats" if row == present[n - 1] else "comes after"
            raise TheoryInputError(f"{name}[{n}] {list(row)} {fault} {list(present[n - 1])}; sort them, each once")
    absent = min(reachable_rows - set(present))
    raise TheoryInputError(f"{name} lacks {list(absent)}, which can happen; list all {len(wanted)} reachable sequences")
