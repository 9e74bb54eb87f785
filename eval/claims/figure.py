"""A claim's contrasts as an SVG figure: seeds as dots, the pooled value and its interval, the predicted side shaded."""

from collections.abc import Sequence
from html import escape

from devnull.eval.claims.claim_file import Contrast
from devnull.eval.claims.contrast import ContrastEstimate
from devnull.eval.display.escaping import escape_controls

_WIDTH, _ROW, _TOP = 760, 46, 8
_LEFT, _RIGHT = 230, 130
"""Of the axis: room for names, and for numbers."""
_MARGIN = 0.08
"""Of the range, at both ends of an axis."""
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.dim{fill:#666}.axis{stroke:#bbb}.zero{stroke:#999;"
    "stroke-dasharray:2 3}.side{fill:#e3f1e6}.interval{stroke:#1f4e79;stroke-width:3}.dot{fill:#1f4e79;"
    "fill-opacity:.35}.value{fill:#1f4e79}"
)

_GROUND = '<rect width="100%" height="100%" fill="#fff"/>'
"""Its text is dark, and the page that shows it may be too."""


def contrast_figure(contrasts: Sequence[Contrast], estimates: Sequence[ContrastEstimate]) -> str:
    """The SVG element of a claim's estimates, a row each, on an axis of its own. Stands alone and in a page.

    Args:
        contrasts: Those of the estimates, and perhaps others.
    """
    by_name = {contrast.name: contrast for contrast in contrasts}
    rows = [_row(place, by_name[each.name], each) for place, each in enumerate(estimates)]
    height = _TOP + _ROW * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{_text(_said(estimates))}"><style>{_STYLE}</style>{_GROUND}{"".join(rows)}</svg>\n'
    )


def _said(estimates: Sequence[ContrastEstimate]) -> str:
    return "; ".join(f"{each.name} {each.value:+.2f} ({each.low:+.2f} to {each.high:+.2f})" for each in estimates)


def _row(place: int, contrast: Contrast, estimate: ContrastEstimate) -> str:
    y = _TOP + place * _ROW + 18
    edges = [contrast.within, -contrast.within] if contrast.within is not None else [contrast.above or 0.0]
    values = [0.0, estimate.low, estimate.high, *estimate.by_seed, *edges]
    least, greatest = min(values), max(values)
    spread = (greatest - least) or 1.0
    least, greatest = least - _MARGIN * spread, greatest + _MARGIN * spread

    def x(value: float) -> str:
        inside = (min(greatest, max(least, value)) - least) / (greatest - least)
        return f"{_LEFT + inside * (_WIDTH - _LEFT - _RIGHT):.1f}"

    parts = [f'<text x="0" y="{y}">{_text(estimate.name)}</text>']
    parts.append(f'<text class="dim" x="0" y="{y + 15}">predicted {_text(estimate.prediction)}</text>')
    if contrast.within is not None or contrast.above is not None:
        begin, end = (-contrast.within, contrast.within) if contrast.within is not None else (contrast.above, greatest)
        assert begin is not None
        width = float(x(end)) - float(x(begin))
        parts.append(f'<rect class="side" x="{x(begin)}" y="{y - 14}" width="{width:.1f}" height="32"/>')
    parts.append(f'<line class="axis" x1="{x(least)}" x2="{x(greatest)}" y1="{y + 2}" y2="{y + 2}"/>')
    parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="{y - 14}" y2="{y + 18}"/>')
    parts.append(f'<line class="interval" x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="{y + 2}" y2="{y + 2}"/>')
    parts += [f'<circle class="dot" cx="{x(seed)}" cy="{y + 2}" r="4"/>' for seed in estimate.by_seed]
    parts.append(f'<circle class="value" cx="{x(estimate.value)}" cy="{y + 2}" r="5"/>')
    low, high = f"{estimate.low:+.2f}", f"{estimate.high:+.2f}"
    at = _WIDTH - _RIGHT + 10
    parts.append(f'<text x="{at}" y="{y}">{estimate.value:+.2f}</text>')
    parts.append(f'<text class="dim" x="{at}" y="{y + 15}">{low} to {high}</text>')
    return "".join(parts)


def _text(words: str) -> str:
    return escape(escape_controls(words))
