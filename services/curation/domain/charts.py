"""Charts as inline SVG: bars and histograms that need no script and no second file."""

import html
from collections.abc import Mapping, Sequence

_WIDTH, _BAR, _LABEL = 640, 22, 190
_HEIGHT = 150


def bars(counts: Mapping[str, int], *, most: int = 25) -> str:
    """Horizontal bars with names and numbers; what does not fit is summed up in the last one."""
    shown = dict(list(counts.items())[:most])
    rest = sum(counts.values()) - sum(shown.values())
    if rest:
        shown[f"{len(counts) - most} more"] = rest
    if not shown:
        return "<p>None.</p>"
    top = max(shown.values()) or 1
    parts = []
    for at, (name, count) in enumerate(shown.items()):
        y, width = at * _BAR, (_WIDTH - _LABEL - 70) * count / top
        label = html.escape(name if len(name) <= 28 else f"{name[:27]}…")
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{label}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{max(1.0, width):.1f}" height="{_BAR - 7}" rx="2"/>'
            f'<text x="{_LABEL + max(1.0, width) + 6:.1f}" y="{y + 15}">{count:,}</text>'
        )
    return _svg(len(shown) * _BAR + 4, "".join(parts))


def histogram(bins: Sequence[Sequence[float]], *, mark: float | None = None, unit: str = "") -> str:
    """A histogram of (left edge, count) bins, with a line at `mark`."""
    if not bins:
        return "<p>None.</p>"
    top = max(count for _, count in bins) or 1
    step = bins[1][0] - bins[0][0] if len(bins) > 1 else 1.0
    end = bins[-1][0] + step
    each = (_WIDTH - 40) / len(bins)
    parts = [
        f'<rect x="{20 + at * each:.1f}" y="{_HEIGHT * (1 - count / top):.1f}" width="{max(1.0, each - 1.5):.1f}" '
        f'height="{_HEIGHT * count / top:.1f}"><title>{edge:g}: {count:g}</title></rect>'
        for at, (edge, count) in enumerate(bins)
    ]
    if mark is not None and mark <= end:
        x = 20 + (_WIDTH - 40) * mark / end
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="12">{mark:g}</text>')
    parts.append(f'<text x="20" y="{_HEIGHT + 16}">0</text>')
    parts.append(f'<text x="{_WIDTH - 20}" y="{_HEIGHT + 16}" text-anchor="end">{end:g} {html.escape(unit)}</text>')
    return _svg(_HEIGHT + 22, "".join(parts))


def _svg(height: float, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}" role="img">{content}</svg>'
