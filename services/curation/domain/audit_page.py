"""The audit as one page of HTML that needs nothing beside it: no script, no style sheet, no font from outside."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.curation.domain.charts import bars, histogram
from services.curation.domain.rules import rule_of

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5c6675;--line:#d9dee6;--bar:#3b6ea8;--page:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--dim:#98a3b3;--line:#323a46;--bar:#6fa3dc;--page:#14181e}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);
max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.1rem;margin:2.2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
p.dim{color:var(--dim)}table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
th{color:var(--dim);font-weight:500}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto}svg rect{fill:var(--bar)}svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg line{stroke:#c0392b;stroke-width:2}
"""


def page(audit: Mapping[str, Any]) -> str:
    """The page of an audit."""
    rows, tokens = audit["rows"], audit["tokens"]
    asked = audit["policy_would"]
    parts = [
        f"<h1>What is there: {_text(audit['task'])}</h1>",
        (
            f'<p class="dim">{rows["total"]:,} rows, {rows["with_answer"]:,} with an answer, {rows["users"]:,} users, '
            f"from {_text(rows['first'])} to {_text(rows['last'])}. Nothing has been changed.</p>"
        ),
        *_section("Where the rows come from", bars(rows["sources"]), bars(rows["kinds"]), bars(rows["licences"])),
        *_section(_languages(audit), bars(audit["languages"])),
        *_section("Categories", bars(audit["categories"]["counts"])),
        *_section(
            "Characters asked",
            histogram(audit["characters"]["input"]["histogram"], unit="characters"),
            _quantiles(audit["characters"]["input"]["quantiles"]),
        ),
        *_section(
            "Characters answered",
            histogram(audit["characters"]["answer"]["histogram"], unit="characters"),
            _quantiles(audit["characters"]["answer"]["quantiles"]),
        ),
        *_section("Tokens under the task's tokenizer and template", _tokens(tokens)),
        *_section("Duplicates", _duplicates(audit["duplicates"])),
        *_section("Personal data", bars(audit["personal_data"]["values"])),
        *_section("Format errors", bars(audit["format_errors"]["counts"]), _table(audit["format_errors"]["examples"])),
        *_section(
            "Label conflicts",
            f"<p>{audit['label_conflicts']['texts']:,} texts have more than one answer.</p>",
            _table(
                {"input": each["input"], "answers": " | ".join(each["answers"])}
                for each in audit["label_conflicts"]["examples"]
            ),
        ),
        *_section(
            "Suspected mislabels",
            f"<p>{audit['suspected_mislabels']['suspected']:,} of {audit['suspected_mislabels']['checked']:,} rows "
            "have a category that a model which did not see them disagrees with.</p>",
            _table(audit["suspected_mislabels"]["examples"]),
        ),
        *_section("What the policy would do", *(_rules(asked[name]) for name in ("edit", "merge", "quarantine"))),
        *_section("What it would ask a person", bars(asked["ask"])),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Audit of {_text(audit['task'])}</title><style>{_STYLE}</style></head><body>"
        + "".join(parts)
        + "</body></html>"
    )


def _languages(audit: Mapping[str, Any]) -> str:
    read = sum(audit["languages"].values())
    return "Languages" if read == audit["rows"]["total"] else f"Languages of {read:,} rows, evenly spaced"


def _section(title: str, *parts: str) -> Sequence[str]:
    return (f"<section><h2>{_text(title)}</h2>", *parts, "</section>")


def _tokens(tokens: Mapping[str, Any]) -> str:
    if not tokens["counted"]:
        return f"<p>Not counted: {_text(tokens.get('why_not', 'no row has an answer'))}.</p>"
    refused = tokens["refused_by_template"]["rows"]
    return (
        histogram(tokens["histogram"], mark=tokens["max_length"], unit="tokens")
        + _quantiles(tokens["quantiles"])
        + f"<p>{tokens['over_max_length']:,} rows are longer than recipe.max_length ({tokens['max_length']:,}); "
        f"the template refuses {refused:,}.</p>"
    )


def _duplicates(found: Mapping[str, Any]) -> str:
    near = found["near"]
    return (
        f"<p>{found['rows_with_a_text_seen_before']:,} rows repeat a text; there are {found['groups']['distinct']:,} "
        f"groups, the largest of {found['largest_group']['rows']:,} rows. Alike but kept apart for what differs: "
        f"{near['kept_apart']['pairs']:,} pairs; alike with different answers: "
        f"{near['possible_conflicts']['pairs']:,}.</p>{_measured(near)}" + _table(found["most_repeated"])
    )


def _measured(near: Mapping[str, Any]) -> str:
    """What merging was measured to do to copies planted among the rows; nothing where nothing is merged."""
    told = near.get("measured")
    if not told:
        return ""
    recall, precision, hard = (told[name] for name in ("recall", "precision", "hard_negatives_merged"))
    return (
        f"<p>At {near['threshold']:.2f} merging finds {recall['value']:.1%} ({recall['low']:.1%} to "
        f"{recall['high']:.1%}) of {recall['count']:,} planted copies, is right in {precision['value']:.1%} of "
        f"{precision['count']:,} merges, and merges {hard['value']:.1%} of {hard['count']:,} copies with another "
        "number.</p>"
    )


def _quantiles(values: Mapping[str, int]) -> str:
    if not values:
        return ""
    head = "".join(f"<th>{float(name):.0%}</th>" for name in values)
    return (
        f"<table><tr>{head}</tr><tr>{''.join(f'<td class=n>{value:,}</td>' for value in values.values())}</tr></table>"
    )


def _rules(counts: Mapping[str, int]) -> str:
    return _table({"rule": name, "rows": count, "because": rule_of(name).says} for name, count in counts.items())


def _table(lines: Iterable[Mapping[str, Any]]) -> str:
    held = list(lines)
    if not held:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in held[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if isinstance(v, int) else ''}>{_text(v)}</td>" for v in each.values())
        + "</tr>"
        for each in held
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
