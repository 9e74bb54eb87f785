"""Draws `theory.regions`: two panels, what is truly best and what feedback picks."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from sandbox.errors import InputError
from theory.regions import Regions

COLOURS = ("#4477aa", "#cc6677", "#bbbbbb", "#88ccee", "#ddcc77", "#117733")
"""Told apart by colour-blind readers (Paul Tol)."""


def draw_regions(found: Regions, belief: str, path: Path) -> None:
    """Raises `InputError` where the file's ending names no image format."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    formats = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in formats:
        plt.close(figure)
        raise InputError(f"{path}: no image format by that ending; use one of .{', .'.join(formats)}")
    colours = ListedColormap(list(COLOURS))
    for axis, cells, title in (
        (axes[0], found.best, "truly best (J)"),
        (axes[1], found.picked, "picked by feedback (J_obs)"),
    ):
        axis.imshow(
            cells, origin="lower", extent=(0, 1, 0, 1), cmap=colours, vmin=-0.5, vmax=len(COLOURS) - 0.5, aspect="auto"
        )
        axis.set_title(title)
        axis.set_xlabel("p, probability that it installs")
    axes[0].set_ylabel(f"{belief}, what the evaluator makes of silence")
    present = np.union1d(found.best, found.picked)
    handles = [Patch(color=COLOURS[i], label=found.names[i]) for i in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
