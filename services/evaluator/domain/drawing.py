"""Intervals as inline SVG: no script, no font, no file beside the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 320
HEIGHT = 22
_EDGE = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """What the width of a drawing stands for."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Where a value lies, in pixels."""
        inside = min(max(value, self.low), self.high)
        return round(_EDGE + (inside - self.low) / ((self.high - self.low) or 1.0) * (WIDTH - 2 * _EDGE), 1)


def scale_of(estimates: Sequence[Mapping[str, float]], marks: Sequence[float] = ()) -> Scale:
    """A scale that holds all intervals and marks, with room at its ends."""
    values = [each[name] for each in estimates for name in ("low", "high")] + list(marks)
    if not values:
        return Scale(0.0, 1.0)
    low, high = min(values), max(values)
    room = max(0.02, 0.06 * (high - low))
    return Scale(low - room, high + room)


def interval(
    estimate: Mapping[str, float], scale: Scale, *, marks: Sequence[float] = (), look: str = "", words: str = ""
) -> str:
    """One interval: a line from low to high, a point at the value, dashed marks. `look` is a class name."""
    middle = HEIGHT / 2
    low, value, high = (scale.x(estimate[name]) for name in ("low", "value", "high"))
    told = words or f"{estimate['value']:.3f}, 95 % from {estimate['low']:.3f} to {estimate['high']:.3f}"
    parts = [
        f'<svg class="interval {escape(look)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<title>{escape(told)}</title>",
        f'<line class="axis" x1="{_EDGE}" y1="{middle}" x2="{WIDTH - _EDGE}" y2="{middle}"/>',
    ]
    parts += [
        f'<line class="mark" x1="{scale.x(mark)}" y1="2" x2="{scale.x(mark)}" y2="{HEIGHT - 2}"/>' for mark in marks
    ]
    parts += [
        f'<line class="range" x1="{low}" y1="{middle}" x2="{max(high, low + 1)}" y2="{middle}"/>',
        f'<circle class="value" cx="{value}" cy="{middle}" r="4.5"/>',
        "</svg>",
    ]
    return "".join(parts)


STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d7dde5;--back:#fff;--card:#f6f8fa;
--good:#1a7f4b;--bad:#c0392b;--open:#b7791f;--blue:#2563c9}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#36404d;--back:#12161c;--card:#1a2029;
--good:#4cc38a;--bad:#ff7b6b;--open:#e3b341;--blue:#6ea8fe}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 24px 64px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:18px;margin:36px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:18px 0 6px}
p{margin:6px 0}.soft{color:var(--soft)}table{border-collapse:collapse;width:100%;margin:8px 0}
th{text-align:left;font-weight:600;color:var(--soft);font-size:13px}td,th{padding:5px 12px 5px 0;vertical-align:middle;
border-bottom:1px solid var(--line)}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
.badge{display:inline-block;padding:1px 10px;border-radius:10px;font-size:13px;font-weight:600;border:1px solid}
.pass{color:var(--good)}.fail{color:var(--bad)}.inconclusive{color:var(--open)}
.card{background:var(--card);border-radius:10px;padding:12px 18px;margin:10px 0}
.card ul{margin:6px 0;padding-left:18px}svg.interval{display:block;max-width:100%;min-width:220px}
.axis{stroke:var(--line);stroke-width:1}.mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
.range{stroke:var(--blue);stroke-width:3;stroke-linecap:round}.value{fill:var(--blue)}
.pass .range{stroke:var(--good)}.pass .value{fill:var(--good)}
.fail .range{stroke:var(--bad)}.fail .value{fill:var(--bad)}
.inconclusive .range{stroke:var(--open)}.inconclusive .value{fill:var(--open)}
.noise{opacity:.45}.noise .range{stroke:var(--soft)}.noise .value{fill:var(--soft)}tr.noise td{color:var(--soft)}
pre{white-space:pre-wrap;word-break:break-word;margin:2px 0;font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,monospace}
details{margin:6px 0}summary{cursor:pointer}.pair{display:grid;grid-template-columns:1fr 1fr;gap:12px}
.scroll{overflow-x:auto}code{font:13px ui-monospace,monospace}
"""
