"""The report as one self-contained page: gates, intervals, power, costs, examples, passports."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from services.evaluator.domain.drawing import STYLE, interval, scale_of

_SHOWN = 5


def page(report: Mapping[str, Any]) -> str:
    """HTML of a report as `build_report` wrote it. All that stands in it is escaped: answers are not trusted."""
    title = f"{report['task']}@{report['version']}"
    size = f"suite of {report['passport']['items']} items, {len(report['contenders'])} arms"
    parts = [
        f"<h1>{_text(title)} {_badge(report['verdict'])}</h1>",
        f'<p class="soft">Evaluation report <code>{_text(report["report_id"])}</code>, {_text(size)}</p>',
        _gates(report),
        _advice(report),
        _arms("Arms", report, report.get("weighted") or {}),
        _differences(report, f"{report['order'][0]} less each other arm"),
        _slices(report),
        _costs(report),
        *(_suite(name, suite) for name, suite in sorted((report.get("suites") or {}).items())),
        _power(report),
        _traffic(report),
        _noise(report),
        _examples(report),
        _passport(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)} {_text(report['verdict'])}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _gates(report: Mapping[str, Any]) -> str:
    rows = []
    for gate in report["gates"]:
        estimate, bound = gate.get("estimate"), gate.get("bound")
        drawn = ""
        if estimate is not None:
            marks = [bound] if bound is not None else []
            words = f"{gate['verdict']}: {estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
            drawn = interval(
                estimate, scale_of([estimate], [*marks, 0.0]), marks=marks, look=gate["verdict"], words=words
            )
        where = "" if gate.get("suite", "task") == "task" else f" on {gate['suite']}"
        where += f", only {gate['slice']}" if gate.get("slice") else ""
        rows.append(
            f"<tr><td>{_badge(gate['verdict'])}</td><td><strong>{_text(gate['gate'])}</strong><br>"
            f'<span class="soft">{_text(gate["metric"])}{_text(where)}</span></td><td>{drawn}</td>'
            f"<td>{_text(gate['reason'])}</td></tr>"
        )
    head = "<tr><th></th><th>gate</th><th>interval, bound dashed</th><th>why</th></tr>"
    return f"<h2>Gates</h2><table>{head}{_all(rows)}</table>"


def _advice(report: Mapping[str, Any]) -> str:
    told = report.get("recommendation") or {}
    if not told.get("why"):
        return ""
    choice = f"Use <strong>{_text(told['arm'])}</strong>" if told.get("arm") else "Nothing to recommend"
    sure = "" if told.get("sure") else ' <span class="inconclusive">(not shown beyond chance)</span>'
    return f'<h2>Which approach</h2><div class="card"><p>{choice}{sure}</p><ul>{_list(told["why"])}</ul></div>'


def _arms(title: str, sheet: Mapping[str, Any], weighted: Mapping[str, Any]) -> str:
    parts = [f"<h2>{_text(title)}</h2>"]
    for metric in sheet["metrics"]:
        held = {arm: sheet["arms"][arm][metric] for arm in sheet["order"] if metric in sheet["arms"][arm]}
        scale = scale_of(list(held.values()))
        rows = []
        for arm, estimate in held.items():
            traffic = weighted.get(arm, {}).get(metric)
            mixed = f'<td class="n">{traffic["value"]:.3f}</td>' if traffic else ("<td></td>" if weighted else "")
            rows.append(
                f"<tr><td>{_text(arm)}</td><td>{interval(estimate, scale)}</td>{_numbers(estimate)}"
                f'<td class="n">{estimate["n"]}</td>{mixed}</tr>'
            )
        head = "<th>as traffic is</th>" if weighted else ""
        parts.append(
            f"<h3>{_text(metric)}</h3><table><tr><th>arm</th><th></th><th>value, 95 %</th><th>n</th>{head}</tr>"
            f"{_all(rows)}</table>"
        )
    return _all(parts)


def _differences(report: Mapping[str, Any], title: str) -> str:
    found, rows = report.get("differences") or {}, []
    for arm, by_metric in found.items():
        for metric, row in by_metric.items():
            scale = scale_of([each for held in found.values() for each in held.values()], [0.0])
            noisy = ' class="noise"' if row.get("below_noise") else ""
            won = f"{row['wins']} won, {row['losses']} lost" if "wins" in row else ""
            note = "below the noise floor" if row.get("below_noise") else won
            look = (
                "noise" if row.get("below_noise") else ("pass" if row["low"] > 0 else "fail" if row["high"] < 0 else "")
            )
            rows.append(
                f"<tr{noisy}><td>{_text(metric)}</td><td>against {_text(arm)}</td>"
                f"<td>{interval(row, scale, marks=[0.0], look=look)}</td>{_numbers(row, '+')}"
                f"<td>{_text(note)}</td></tr>"
            )
    for arm, why in (report.get("incomparable") or {}).items():
        rows += [
            f'<tr class="noise"><td>{_text(metric)}</td><td>against {_text(arm)}</td><td colspan="3">not subtracted:'
            f" {_text(reason)}</td></tr>"
            for metric, reason in why.items()
        ]
    return f"<h2>{_text(title)}</h2><table>{_all(rows)}</table>" if rows else ""


def _slices(report: Mapping[str, Any]) -> str:
    slices = report.get("slices") or {}
    if not slices:
        return ""
    arms = report["order"]
    metric = report.get("primary") or report["metrics"][0]
    differences = report.get("slice_differences") or {}
    scale = scale_of([held[arm][metric] for held in slices.values() for arm in held if metric in held[arm]])
    rows = []
    for name, held in slices.items():
        for arm in arms:
            estimate = held.get(arm, {}).get(metric)
            if estimate is not None:
                rows.append(
                    f"<tr><td>{_text(name) if arm == arms[0] else ''}</td><td>{_text(arm)}</td>"
                    f'<td>{interval(estimate, scale)}</td>{_numbers(estimate)}<td class="n">{estimate["n"]}</td>'
                    f"{_gap(differences.get(arm, {}).get(name))}</tr>"
                )
    less = f"{_text(arms[0])} less this arm"
    head = f"<tr><th></th><th>arm</th><th></th><th>value, 95 %</th><th>n</th><th>{less}</th></tr>"
    drawn = f"<details open><summary>{len(slices)} categories</summary><table>{head}{_all(rows)}</table></details>"
    return f"<h2>Categories: {_text(metric)}</h2>{drawn}"


def _gap(row: Mapping[str, Any] | None) -> str:
    """The candidate's difference on one category, with its p-value adjusted for their number."""
    if row is None:
        return "<td></td>"
    if row.get("below_noise"):
        return '<td class="n noise">below the noise floor</td>'
    told = f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], p {row['bh_p_value']:.2g}"
    return f'<td class="n">{told}</td>'


def _costs(report: Mapping[str, Any]) -> str:
    costs = report.get("costs") or {}
    rows = []
    for arm, cost in costs.items():
        money = "not priced" if cost["per_thousand"] is None else f"{cost['per_thousand']:.4g}"
        rows.append(
            f"<tr><td>{_text(arm)}</td><td>{cost['prompt_tokens']:.0f} + {cost['completion_tokens']:.0f}</td>"
            f"<td>{cost['seconds_median']:.2f} / {cost['seconds_p95']:.2f}</td><td>{money}</td>"
            f"<td>{cost['reused']} of {cost['answers']}</td></tr>"
        )
    head = (
        "<tr><th>arm</th><th>tokens in + out</th><th>seconds, median / 95 %</th><th>a thousand answers</th>"
        "<th>answers of earlier reports</th></tr>"
    )
    note = "Per answer; seconds under the load of the evaluation, at low priority."
    return f'<h2>Costs</h2><p class="soft">{note}</p><table>{head}{_all(rows)}</table>' if rows else ""


def _suite(name: str, suite: Mapping[str, Any]) -> str:
    head = _arms(f"Suite {name} ({suite['kind']})", suite, {})
    return head + _differences(suite, f"Differences on {name}") + _slices(suite)


def _power(report: Mapping[str, Any]) -> str:
    told = report.get("power") or []
    return f'<h2>Power, as told before the run</h2><div class="card"><ul>{_list(told)}</ul></div>' if told else ""


def _traffic(report: Mapping[str, Any]) -> str:
    told = report.get("traffic") or {}
    if not told.get("shares"):
        return ""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in told["shares"].items())
    share = f" ({told['uncovered_share']:.0%} of it)" if told.get("uncovered_share") else ""
    missing = f" Not in the suite: {', '.join(told['uncovered'])}{share}." if told.get("uncovered") else ""
    return f"<h2>Traffic</h2><p>{_text(shares)} ({_text(told['source'])}).{_text(missing)}</p>"


def _noise(report: Mapping[str, Any]) -> str:
    noise = report.get("noise")
    if not noise:
        return ""
    told = []
    for arm, held in (noise.get("arms") or {"": noise}).items():
        floors = ", ".join(f"{metric} {floor:.4f}" for metric, floor in held["floors"].items())
        whose = f"{_text(arm)}: " if arm else ""
        told.append(
            f"<li>{whose}{held['items']} items were answered twice, {held['changed_texts']} texts changed;"
            f" two runs of it differ by up to {_text(floors)}</li>"
        )
    note = "A difference of two arms is greyed out where the noise of both alone may give it."
    return f'<h2>Noise floor</h2><div class="card"><p class="soft">{note}</p><ul>{_all(told)}</ul></div>'


def _examples(report: Mapping[str, Any]) -> str:
    candidate = report["order"][0]
    parts = []
    for arm, found in (report.get("examples") or {}).items():
        for word, title in (("wins", f"Won against {arm}"), ("losses", f"Lost to {arm}")):
            shown = [_example(each, candidate, arm) for each in found[word][:_SHOWN]]
            if shown:
                parts.append(f"<h3>{_text(title)}</h3>{_all(shown)}")
    return f"<h2>Examples</h2>{_all(parts)}" if parts else ""


def _example(example: Mapping[str, Any], candidate: str, arm: str) -> str:
    return (
        f'<details class="card"><summary>{_text(str(example["input"])[:140])}</summary>'
        f'<p class="soft">right answer</p><pre>{_text(example["answer"])}</pre><div class="pair"><div>'
        f'<p class="soft">{_text(candidate)}</p><pre>{_text(example.get(candidate, ""))}</pre></div><div>'
        f'<p class="soft">{_text(arm)}</p><pre>{_text(example.get(arm, ""))}</pre></div></div></details>'
    )


def _passport(report: Mapping[str, Any]) -> str:
    rows = []
    for name, value in report["passport"].items():
        if isinstance(value, Mapping):
            told = "<br>".join(f"{_text(key)}: <code>{_text(each)}</code>" for key, each in value.items())
        elif isinstance(value, list):
            told = "<br>".join(f"<code>{_text(each)}</code>" for each in value)
        else:
            told = f"<code>{_text(value)}</code>"
        rows.append(f"<tr><td>{_text(name)}</td><td>{told}</td></tr>")
    for arm, told_of in report["contenders"].items():
        who = f"version {told_of['version']} <code>{_text(str(told_of['digest'])[:26])}</code>"
        rows.append(f"<tr><td>arm {_text(arm)}</td><td>{who} {_text(told_of['engine'])}</td></tr>")
    return f'<h2>Passport</h2><div class="scroll"><table>{_all(rows)}</table></div>'


def _numbers(estimate: Mapping[str, Any], sign: str = "") -> str:
    value, low, high = (format(estimate[name], f"{sign}.3f") for name in ("value", "low", "high"))
    return f'<td class="n">{value} [{low}, {high}]</td>'


def _badge(verdict: str) -> str:
    return f'<span class="badge {_text(verdict)}">{_text(verdict)}</span>'


def _list(sentences: Sequence[str]) -> str:
    return _all(f"<li>{_text(each)}</li>" for each in sentences)


def _all(parts: Iterable[str]) -> str:
    return "".join(parts)


def _text(value: object) -> str:
    return escape(str(value), quote=True)
