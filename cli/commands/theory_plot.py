"""Draws `devnull.theory.regions`: what is truly best, what feedback picks, and the verdict on that."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from devnull.sandbox.atomic_file import replace_when_whole
from devnull.sandbox.errors import InputError
from devnull.theory.regions import VERDICTS, Regions

_COLOURS = ("#4477aa", "#cc6677", "#bbbbbb", "#88ccee", "#ddcc77", "#117733")
"""Distinguishable to colour-blind readers (Paul Tol)."""
_VERDICT_COLOURS = ("#e8e8e8", "#ee8866", "#eedd88", "#aa4499")
_AXES = {"pH": "$p_H$, P(failed and hid | silence)", "pD": "$p_D$, P(worked | silence)"}
_DOES = {
    "aI, aC": "install, errors shown",
    "aI, aH": "install, errors hidden",
    "aI, aD": "install, default log",
    "aI, aV": "install, verbose log",
    "aI, aT": "the driver only",
}
"""The paper's actions in words."""


def draw_regions(diagram: Regions, belief: str, r: float, path: Path) -> None:
    """`belief` is `pH` (example A) or `pD` (B). Raises `InputError` where the file's ending names no image format,
    or its folder is not there."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
    formats = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in formats:
        plt.close(figure)
        raise InputError(f"{path}: no image format by that ending; use one of .{', .'.join(formats)}")
    if not path.parent.is_dir():
        plt.close(figure)
        raise InputError(f"{path}: no folder {path.parent}; make it first")
    panels = (
        (diagram.best, _COLOURS, "truly best: maximises $J$"),
        (diagram.picked, _COLOURS, r"feedback picks: maximises $J_{\mathrm{obs}}$"),
        (diagram.verdict, _VERDICT_COLOURS, "the pick against the best"),
    )
    for axis, (cells, colours, title) in zip(axes, panels, strict=True):
        shades = ListedColormap(list(colours))
        axis.imshow(
            cells, origin="lower", extent=(0, 1, 0, 1), cmap=shades, vmin=-0.5, vmax=len(colours) - 0.5, aspect="auto"
        )
        axis.set(title=title, xlabel="$p$, P(it installs)")
    axes[0].set_ylabel(_AXES[belief])
    if belief == "pH":
        _upright(axes[0], 1 / 3, "$p = 1/3$")
        if 5 + r > 0:
            axes[1].axhline(5 / (5 + r), **_LINE)
            _label(axes[1], 0.5, 5 / (5 + r), f"$p_H = 5/(5+r) = {5 / (5 + r):.3g}$")
    else:
        _upright(axes[0], 1 / 6, "$p = 1/6$")
        p = np.array([0.0, 1.0])
        axes[1].plot(p, (p * (6 - r) - 1) / 5, **_LINE)
        _label(axes[1], 0.5, (0.5 * (6 - r) - 1) / 5, f"$p_D = (p(6-r)-1)/5,\\ r={r:g}$")
        axes[1].set(xlim=(0, 1), ylim=(0, 1))
    present = np.union1d(diagram.best, diagram.picked)
    policies = [Patch(facecolor=_COLOURS[i], label=_DOES.get(diagram.names[i], diagram.names[i])) for i in present]
    names = [Patch(facecolor=_VERDICT_COLOURS[i], label=VERDICTS[i]) for i in np.unique(diagram.verdict)]
    figure.legend(handles=policies, loc="outside lower left", ncols=3, frameon=False)
    figure.legend(handles=names, loc="outside lower right", ncols=2, frameon=False)
    with replace_when_whole(path) as part:
        figure.savefig(part, dpi=200)
    plt.close(figure)


_LINE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1}


def _upright(axis: Axes, at: float, text: str) -> None:
    axis.axvline(at, **_LINE)
    _label(axis, at, 0.5, text)


def _label(axis: Axes, x: float, y: float, text: str) -> None:
    if 0 < x < 1 and 0 < y < 1:
        axis.text(x, y, text, ha="center", va="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none"})
