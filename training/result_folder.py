"""Where a training may put its result. Imports no torch, so that a wrong folder is refused at once."""

from pathlib import Path

from devnull.sandbox.errors import InputError


def check_result_folder(out: Path) -> None:
    """Raises `InputError` where `out` is or holds something else than an earlier result, which a new one replaces
    whole: a file, a run folder, a project."""
    ours = not out.exists() or (out.is_dir() and ((out / "training.json").exists() or not any(out.iterdir())))
    if not ours or not out.name or out.resolve() == Path.cwd():
        raise InputError(f"{out} holds something else than a trained model, and would be replaced; pass a new --out")
