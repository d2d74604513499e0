"""The report of the demo: `report.json`, and a `report.html` that needs nothing beside itself."""

import json
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from triage.demo.ledger import Ledger

STYLE = """
:root{--ink:#1c2430;--dim:#667085;--line:#d8dee8;--paper:#fff;--good:#1a7f4b;--bad:#b42318;--mark:#2f5bd7}
@media(prefers-color-scheme:dark){:root{--ink:#e7ecf3;--dim:#98a2b3;--line:#344054;--paper:#12161c;
--good:#4ade80;--bad:#f87171;--mark:#8ab4ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h3{font-size:1rem;margin:1rem 0 0}
h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;width:100%}
td:first-child{min-width:12rem}
td,th{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.good{color:var(--good)}.bad{color:var(--bad)}code{font-size:.85em;overflow-wrap:anywhere}.dim{color:var(--dim)}svg{width:100%;height:auto}
"""


def write(ledger: Ledger, directory: Path) -> list[Path]:
    """Write both reports; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    document = ledger.report()
    as_json, as_html = directory / "report.json", directory / "report.html"
    as_json.write_text(json.dumps(document, indent=2, default=str) + "\n")
    as_html.write_text(html(document))
    return [as_json, as_html]


def table(ledger: Ledger) -> Table:
    """The final table on the screen."""
    result = Table("what", "outcome", title="the loop turned", title_justify="left")
    for turn in ledger.turns:
        result.add_row(f"turn: {turn['trigger']}", f"{turn['version']} {turn['verdict']} in {turn['seconds']:.0f} s")
    for arm, metrics in ledger.arms.items():
        result.add_row(f"exact match, {arm}", interval(metrics["exact_match"]))
    if ledger.new_category:
        told = ledger.new_category
        result.add_row(
            f"new category {told['category']}", f"{interval(told['version_1'])} to {interval(told['version_2'])}"
        )
    for name in ("resume", "refused", "rollback", "traffic", "memory"):
        facts = {key: value for key, value in getattr(ledger, name).items() if not isinstance(value, dict | list)}
        result.add_row(name, ", ".join(f"{key} {value}" for key, value in facts.items()))
    return result


def interval(estimate: dict[str, Any]) -> str:
    """`0.812 [0.771, 0.847] n=400`."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}] n={estimate['n']}"


def html(document: dict[str, Any]) -> str:
    """The report as one page."""
    good = document["ok"]
    verdict = (
        '<b class="good">everything happened</b>'
        if good
        else f'<b class="bad">failed: {escape(str(document["failure"]))}</b>'
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Pawl: the loop turned</title><style>{STYLE}</style><h1>Pawl: the loop, once, for real</h1>",
        f"<p>{verdict} <span class=dim>in {document['seconds']:.0f} s</span></p>",
        "<h2>Base and fine-tuned, on phrasings never trained on</h2>",
        bars({name: metrics["exact_match"] for name, metrics in document["arms"].items()}),
    ]
    if document["new_category"]:
        told = document["new_category"]
        parts += [
            f"<h2>The new category, {escape(told['category'])}</h2>",
            bars({"version 1": told["version_1"], "version 2": told["version_2"]}),
        ]
    parts += ["<h2>Loss</h2>", curves(document["loss"]), "<h2>Turns</h2>", _turns(document["turns"])]
    for name in ("trace", "resume", "refused", "rollback", "traffic", "memory"):
        parts += [f"<h2>{name.capitalize()}</h2>", _facts(document[name])]
        if gates := document[name].get("gates"):
            parts.append(_gates(gates))
    parts += [
        "<h2>Rollout timeline</h2>",
        _rows(("seconds", "what", "reason"), [(e["at"], e["what"], e.get("reason", "")) for e in document["timeline"]]),
    ]
    parts += ["<h2>Stages</h2>", _rows(("stage", "seconds"), [(s["stage"], s["seconds"]) for s in document["stages"]])]
    parts += [
        "<h2>Versions</h2>",
        _rows(
            ("version", "status", "digest"), [(v["version"], v["status"], v["digest"]) for v in document["versions"]]
        ),
    ]
    parts += ["<h2>Dataset</h2>", _facts({k: v for k, v in document["dataset"].items() if k != "report"})]
    return "\n".join(parts) + "\n"


def bars(estimates: dict[str, dict[str, Any]]) -> str:
    """Estimates as bars with their 95 % intervals, as SVG."""
    rows = []
    for index, (name, e) in enumerate(estimates.items()):
        y, x = 12 + index * 34, 160
        low, high, value = (x + 560 * e[key] for key in ("low", "high", "value"))
        rows.append(
            f"<text x=0 y={y + 15} fill=currentColor>{escape(name)}</text>"
            f"<rect x={x} y={y} width={max(value - x, 1):.1f} height=20 fill='var(--mark)' opacity=.55 />"
            f"<line x1={low:.1f} x2={high:.1f} y1={y + 10} y2={y + 10} stroke=currentColor stroke-width=2 />"
            f"<text x={x + 570} y={y + 15} fill=currentColor font-size=12>{interval(e)}</text>"
        )
    height = 20 + 34 * len(estimates)
    return f"<svg viewBox='0 0 940 {height}' role=img aria-label='exact match with intervals'>{''.join(rows)}</svg>"


def curves(loss: dict[str, list[tuple[int, float]]]) -> str:
    """Loss curves as SVG, one line per run."""
    points = [point for curve in loss.values() for point in curve]
    if not points:
        return "<p class=dim>none</p>"
    steps, top = max(step for step, _ in points) or 1, max(value for _, value in points) or 1.0
    colours = ("var(--mark)", "var(--good)", "var(--bad)", "var(--dim)")
    lines = []
    for index, (name, curve) in enumerate(loss.items()):
        path = " ".join(f"{40 + 860 * step / steps:.1f},{210 - 195 * value / top:.1f}" for step, value in curve)
        colour = colours[index % len(colours)]
        lines.append(f"<polyline points='{path}' fill=none stroke='{colour}' stroke-width=2 />")
        lines.append(f"<text x={700} y={20 + 16 * index} fill='{colour}' font-size=13>{escape(name)}</text>")
    axes = f"<text x=0 y=20 fill=currentColor font-size=12>{top:.2f}</text>"
    axes += "<text x=0 y=214 fill=currentColor font-size=12>0</text>"
    axes += f"<text x=860 y=228 fill=currentColor font-size=12>step {steps}</text>"
    return f"<svg viewBox='0 0 920 232' role=img aria-label='training loss by step'>{axes}{''.join(lines)}</svg>"


def _turns(turns: list[dict[str, Any]]) -> str:
    rows = [(t["trigger"], t["version"], t["verdict"], f"{t['seconds']:.0f} s", t["trace_id"]) for t in turns]
    return _rows(("trigger", "version", "verdict", "took", "trace"), rows)


def _facts(facts: dict[str, Any]) -> str:
    """What is plain, row by row; below it what is itself a list of facts, as a table of its own."""
    plain = [(key.replace("_", " "), value) for key, value in facts.items() if not isinstance(value, dict | list)]
    parts = [_rows(("", ""), plain)] if plain else []
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            parts += [f"<h3>{escape(key)}</h3>", _rows(("", ""), [(k, v) for k, v in value.items() if v is not None])]
    return "".join(parts)


def _gates(gates: list[dict[str, Any]]) -> str:
    return _rows(("gate", "verdict", "reason"), [(g["gate"], g["verdict"], g["reason"]) for g in gates])


def _rows(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
