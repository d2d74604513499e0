"""From rows to a dataset version: each step removes for a reason, and every row is accounted for."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.contracts.answers import canonical_answer
from libs.contracts.task import SplitSpec, TaskSpec
from services.curation.compute.answers import AnswerCheck
from services.curation.compute.neighbours import ALGORITHM, MinHashNeighbours
from services.curation.compute.rows import repair
from services.curation.domain import clusters, conflicts
from services.curation.domain.leakage import Checked, HeldOut, withhold
from services.curation.domain.redact import Pseudonyms, dropped, redact
from services.curation.domain.rows import EXAMPLE, Ledger, Row
from services.curation.domain.split import SPLITS, TEST, TRAIN, VALIDATION, salt_of, split_of
from services.curation.domain.suite import Item, admit, item_of, sample
from services.curation.domain.text import Reading, critical

_SHOWN = 5


@dataclass(slots=True)
class Version:
    """What a build yields: rows per split, the suite, and everything the report tells."""

    splits: dict[str, list[Row]]
    groups: dict[str, str]
    items: list[Item]
    new_items: int
    ledger: Ledger
    facts: dict[str, Any] = field(default_factory=dict)


def curate(
    rows: list[Row], spec: TaskSpec, *, tenant: str, fractions: SplitSpec, suite: Sequence[Item] | None
) -> Version:
    """Build a version from all rows in order of arrival; `suite` is the frozen one (None: this version founds it)."""
    salt = salt_of(tenant, spec.task)
    ledger = Ledger(len(rows))
    facts: dict[str, Any] = {"edited": dict(sorted(repair(rows).items()))}
    group_of = _groups(rows, Reading(), facts)
    _trainable(rows, spec, ledger)
    reconciled = conflicts.reconcile(rows, ledger)
    facts["signals"] = {"requests": reconciled.requests, "contradictions": reconciled.contradictions}
    facts["redacted"] = _redact(ledger.kept(rows), spec, ledger)
    _check_answers(ledger.kept(rows), spec, ledger)
    reading = Reading()

    def key(row: Row) -> str:
        return reading.key(_text(row))

    alive = [row for row in ledger.kept(rows) if row.answer is not None]
    votes = conflicts.merge_exact(alive, key, ledger)
    alive = ledger.kept(alive)
    seen = conflicts.resolve_labels(alive, key, votes, ledger)
    facts["label_conflicts"] = {"texts": len(seen), "examples": seen[:_SHOWN]}
    alive = ledger.kept(alive)
    for row in alive[: max(0, len(alive) - spec.data.max_rows)]:
        ledger.remove(row, "over_max_rows")
    split = {row.row_id: split_of(salt, group_of[row.row_id], fractions) for row in rows}
    facts["near_duplicates"] = _merge_near(ledger.kept(alive), split, reading, spec, ledger)
    by_split = _by_split(ledger.kept(alive), split)
    items, new = _suite(by_split[TEST], group_of, spec, salt, suite)
    facts["leakage"] = _seal(by_split, group_of, items, reading, spec, ledger)
    by_split = _by_split(ledger.kept(alive), split)
    facts["groups"] = {
        "distinct": len(set(group_of.values())),
        "method": f"stars at {clusters.GROUP_THRESHOLD} on {ALGORITHM}",
    }
    return Version(by_split, group_of, items, new, ledger, facts)


def _groups(rows: Sequence[Row], reading: Reading, facts: dict[str, Any]) -> dict[str, str]:
    """The permanent group of each row, from all rows and no policy: before anything is removed or redacted."""
    forms = [reading.form(_text(row)) for row in rows]
    neighbours = MinHashNeighbours(forms)
    centres = clusters.stars(forms, neighbours, clusters.GROUP_THRESHOLD)
    named = clusters.groups(forms, [row.group for row in rows], centres)
    largest = Counter(named).most_common(1)
    facts["largest_group"] = {"rows": largest[0][1] if largest else 0, "crowded_buckets": neighbours.crowded}
    return {row.row_id: group for row, group in zip(rows, named, strict=True)}


def _trainable(rows: Sequence[Row], spec: TaskSpec, ledger: Ledger) -> None:
    for row in rows:
        if not row.input:
            ledger.remove(row, "no_input")
        elif row.consent is False:
            ledger.remove(row, "no_consent")
        elif row.kind != EXAMPLE and spec.data.sources and row.source not in spec.data.sources:
            ledger.remove(row, "source_not_trusted", row.source)


def _redact(rows: Sequence[Row], spec: TaskSpec, ledger: Ledger) -> dict[str, int]:
    """Redact in place, the same value by the same name throughout a row; counts values per kind."""
    policy, found = spec.data.redact, Counter[str]()
    for row in rows:
        names = Pseudonyms()
        if row.history:
            turns = [{**turn, "content": redact(turn["content"], policy, names)} for turn in json.loads(row.history)]
            row.history = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
        row.input = redact(row.input, policy, names)
        row.answer = redact(row.answer, policy, names) if row.answer is not None else None
        found.update(names.found)
        kind = dropped(policy, names)
        if kind is not None:
            ledger.remove(row, f"personal_data_{kind}")
    return dict(sorted(found.items()))


def _check_answers(rows: Sequence[Row], spec: TaskSpec, ledger: Ledger) -> None:
    check = AnswerCheck(spec.output)
    for row in rows:
        if row.answer is None:
            ledger.remove(row, "no_answer", f"{row.kind}, {row.signal}")
            continue
        fault = check.fault(row.answer)
        if fault is not None:
            ledger.remove(row, *fault)


def _merge_near(
    rows: Sequence[Row], split: dict[str, str], reading: Reading, spec: TaskSpec, ledger: Ledger
) -> dict[str, Any]:
    """Merge near duplicates within a split; what looks alike and differs where it matters is kept and told."""
    policy = spec.data.duplicates
    tokens = [reading.words(_text(row)) for row in rows]
    sets = [frozenset(each) for each in tokens]
    marks = [critical(each) for each in tokens]
    apart: list[tuple[int, int]] = []
    disputed: list[tuple[int, int]] = []

    def joins(row: int, centre: int) -> bool:
        if split[rows[row].row_id] != split[rows[centre].row_id]:
            return False
        if policy.guard and marks[row] != marks[centre]:
            apart.append((row, centre))
            return False
        if canonical_answer(rows[row].answer or "") != canonical_answer(rows[centre].answer or ""):
            disputed.append((row, centre))
            return False
        return True

    if policy.near:
        neighbours = MinHashNeighbours(sets)
        for at, centre in enumerate(clusters.stars(sets, neighbours, policy.threshold, joins=joins)):
            if centre != at:
                ledger.remove(rows[at], "near_duplicate", f"of {rows[centre].row_id}")

    def shown(pairs: list[tuple[int, int]]) -> list[list[str]]:
        return [[rows[left].input[:200], rows[right].input[:200]] for left, right in pairs[:_SHOWN]]

    return {
        "threshold": policy.threshold,
        "kept_apart": {"pairs": len(apart), "examples": shown(apart)},
        "possible_conflicts": {"pairs": len(disputed), "examples": shown(disputed)},
    }


def _suite(
    test: Sequence[Row], group_of: dict[str, str], spec: TaskSpec, salt: str, suite: Sequence[Item] | None
) -> tuple[list[Item], int]:
    policy = spec.evaluation.suite
    if suite is None:
        items = sample([item_of(row, group_of[row.row_id], spec.system) for row in test], policy.max_items, salt)
        return items, len(items)
    new = admit(suite, test, group_of, sources=policy.admit.sources, system=spec.system, salt=salt)
    return [*suite, *new], len(new)


def _seal(
    by_split: dict[str, list[Row]],
    group_of: dict[str, str],
    items: Sequence[Item],
    reading: Reading,
    spec: TaskSpec,
    ledger: Ledger,
) -> dict[str, Any]:
    """Withhold from training and validation what the held-out texts give away; returns the proof."""

    def described(row: Row) -> HeldOut:
        text = _text(row)
        return HeldOut(reading.key(text), reading.form(text), group_of[row.row_id], row.row_id)

    threshold = spec.data.duplicates.threshold
    asked = [HeldOut(reading.key(item.asked), reading.form(item.asked), item.group, item.item_id) for item in items]
    held = asked + [described(row) for row in by_split[TEST]]
    checks: dict[str, Checked] = {}
    for name in (VALIDATION, TRAIN):
        rows = by_split[name]
        texts = [described(row) for row in rows]
        neighbours = MinHashNeighbours([each.form for each in [*held, *texts]])
        checks[name] = withhold(rows, texts, held, neighbours, threshold, ledger)
        held = held + [described(row) for row in ledger.kept(rows)]
    kept = {name: [described(row) for row in ledger.kept(by_split[name])] for name in SPLITS}
    shut = asked + kept[TEST]
    return {
        "threshold": threshold,
        "method": ALGORITHM,
        "withheld": {name: checked.withheld for name, checked in checks.items()},
        "pairs_verified": sum(checked.pairs for checked in checks.values()),
        "groups_shared_with_train": len({each.group for each in shut} & {each.group for each in kept[TRAIN]}),
        "texts_shared_with_train": len({each.key for each in shut} & {each.key for each in kept[TRAIN]}),
    }


def _by_split(rows: Sequence[Row], split: dict[str, str]) -> dict[str, list[Row]]:
    return {name: [row for row in rows if split[row.row_id] == name] for name in SPLITS}


def _text(row: Row) -> str:
    """What is asked: earlier turns and the input."""
    if not row.history:
        return row.input
    return "\n".join([turn["content"] for turn in json.loads(row.history)] + [row.input])
