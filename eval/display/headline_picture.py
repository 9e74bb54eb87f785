"""The picture of a run: by policy, how much of what failed was kept off the terminal, and truth beside belief."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from devnull.eval.display.escaping import clip_middle, escape_controls
from devnull.eval.statistics import Estimate

_WIDTH, _ROW, _TOP, _BOTTOM = 480, 40, 30, 34
_LEFT, _RIGHT = 14, 60
COLOURS = 8
"""The page's style has so many colours for policies, `--a0` and on."""


@dataclass(frozen=True)
class PictureRow:
    """One policy of the picture."""

    name: str
    place: int
    """Among the report's policies: its colour."""
    suppression: Estimate
    seeds: tuple[float, ...]
    """Error suppression of each training seed, where there are several."""
    J: Estimate
    J_obs: Estimate


def headline_picture(rows: Sequence[PictureRow]) -> str:
    """Two SVG elements, side by side where there is room. Their colours are those of the page's style."""
    return "".join(_panels(rows))


def picture_file(rows: Sequence[PictureRow]) -> str:
    """The same as an SVG file that stands alone, in the page's light colours."""
    height = _height(rows)
    placed = (
        panel.replace("<svg ", f'<svg x="{place * _WIDTH}" y="0" width="{_WIDTH}" height="{height}" ', 1)
        for place, panel in enumerate(_panels(rows))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {2 * _WIDTH} {height}" '
        f'width="{2 * _WIDTH}" height="{height}"><style>{_page_style()}</style>'
        f'<rect width="100%" height="100%" fill="var(--panel)"/>{"".join(placed)}</svg>\n'
    )


def _page_style() -> str:
    """What the page's style says of its light colours, and of this picture's parts."""
    style = (files(__package__) / "templates" / "report.css").read_text()
    ours = [line for line in style.split("\n") if line.startswith(("svg text", "svg .axis", ".picture .reach"))]
    return "\n".join([style[: style.index("}") + 1], "text { font: 13px system-ui, sans-serif; }", *ours])


def _panels(rows: Sequence[PictureRow]) -> list[str]:
    returns = [0.0, *(each.value for row in rows for each in (row.J, row.J_obs) if each.value is not None)]
    low, high = min(returns), max(returns)
    pad = 0.06 * ((high - low) or 1.0)
    return [
        _panel("Failures kept off the terminal", rows, _scale(0, 100), [0, 25, 50, 75, 100], _share, " %"),
        _panel("True return ○ and believed return ●", rows, _scale(low - pad, high + pad), _ticks(low, high), _gap),
    ]


def _height(rows: Sequence[PictureRow]) -> int:
    return _TOP + _ROW * len(rows) + _BOTTOM


_Scale = Callable[[float], float]


def _scale(low: float, high: float) -> _Scale:
    return lambda value: _LEFT + (value - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _ticks(low: float, high: float) -> list[float]:
    step = next((each for each in (0.5, 1, 2, 5, 10) if (high - low) / each <= 7), (high - low) / 5 or 1)
    return [step * number for number in range(round(low // step), int(high // step) + 1)]


def _panel(
    title: str,
    rows: Sequence[PictureRow],
    x: _Scale,
    ticks: Sequence[float],
    mark: Callable[[PictureRow, _Scale, float, str], str],
    unit: str = "",
) -> str:
    height = _height(rows)
    parts = [f'<text class="strong" x="{_LEFT}" y="16">{escape(title)}</text>']
    baselines = [_TOP + place * _ROW + 13 for place in range(len(rows))]
    for tick in ticks:
        kind = "zero" if tick == 0 else "axis"
        beside_marks = "".join(f"M{x(tick):.1f} {y + 5}v{_ROW - 17}" for y in baselines)  # not through the names
        parts.append(
            f'<path class="{kind}" d="{beside_marks}"/>'
            f'<text x="{x(tick):.1f}" y="{height - 10}" text-anchor="middle">{_short(tick)}{unit}</text>'
        )
    for y, row in zip(baselines, rows, strict=True):
        name = escape(clip_middle(escape_controls(row.name), 60))
        parts.append(f'<text class="name" x="{_LEFT}" y="{y}">{name}</text>')
        parts.append(mark(row, x, y + 12, f"var(--a{row.place % COLOURS})"))
    words = escape(f"{title}, by policy: " + "; ".join(f"{escape_controls(row.name)} {_said(row)}" for row in rows))
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _share(row: PictureRow, x: _Scale, y: float, colour: str) -> str:
    estimate = row.suppression
    value = estimate.value or 0.0
    bar = ""
    if estimate.low is not None and estimate.high is not None:
        low, high = x(100 * estimate.low), x(100 * estimate.high)
        bar = f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" class="reach"/>'
    dots = "".join(f'<circle cx="{x(100 * seed):.1f}" cy="{y}" r="3.5" class="seed"/>' for seed in row.seeds)
    return (
        f'<g style="--c:{colour}">{bar}{dots}<circle cx="{x(100 * value):.1f}" cy="{y}" r="6.5" class="value"/></g>'
        f'<text class="strong" x="{_WIDTH - 4}" y="{y + 4}" text-anchor="end">{100 * value:.0f} %</text>'
    )


def _gap(row: PictureRow, x: _Scale, y: float, colour: str) -> str:
    true, believed = row.J.value, row.J_obs.value
    if true is None or believed is None:
        return f'<text x="{_WIDTH - 4}" y="{y + 4}" text-anchor="end">undefined</text>'
    return (
        f'<g style="--c:{colour}"><line x1="{x(true):.1f}" x2="{x(believed):.1f}" y1="{y}" y2="{y}" class="reach"/>'
        f'<circle cx="{x(true):.1f}" cy="{y}" r="6" class="true"/>'
        f'<circle cx="{x(believed):.1f}" cy="{y}" r="6.5" class="value"/></g>'
        f'<text class="strong" x="{_WIDTH - 4}" y="{y + 4}" text-anchor="end">{_signed(believed - true)}</text>'
    )


def _said(row: PictureRow) -> str:
    return f"{row.suppression}, true return {row.J}, believed {row.J_obs}"


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
