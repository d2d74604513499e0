"""Every row ends once, for a reason that can be asked for, undone and reconciled."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import DataLoss, FailedPrecondition, InvalidInput, NotFound
from services.curation.compute import ledger_file
from services.curation.compute.pipeline import curate
from services.curation.compute.steps import versions
from services.curation.domain.ledger import Ledger, reconcile
from services.curation.domain.rows import Row
from services.curation.domain.rules import RULES, Outcome, optional, rule_of
from services.curation.domain.split import SPLITS
from services.curation.domain.steps import Context, Result, run
from services.curation.tests.conftest import ALL_TRAIN, build_rows, context_for, row, tickets


class Losing:
    name, version = "losing", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        return Result(list(rows[1:]), Ledger())


def test_a_step_that_loses_a_row_without_a_word_is_refused() -> None:
    with pytest.raises(DataLoss, match="'losing' lost row row-00000"):
        run([Losing()], [row(0, "a"), row(1, "b")], context_for())


@pytest.mark.parametrize("name", ["input", "answer", "system", "history", "rejected", "tools", "input_as", "answer_as"])
def test_a_step_that_changes_what_is_learnt_without_a_word_is_refused(name: str) -> None:
    class Changing:
        name, version = "changing", 1

        def __call__(self, rows: Sequence[Row], context: Context) -> Result:
            return Result([replace(each, **changed) for each in rows], Ledger())

    changed: dict[str, Any] = {name: "other"}
    with pytest.raises(DataLoss, match="'changing' changed row row-00000 and does not say so"):
        run([Changing()], [row(0, "a")], context_for())


def test_a_ledger_that_does_not_reconcile_names_the_row() -> None:
    rows = [row(0, "a"), row(1, "b"), row(2, "c")]
    ledger = Ledger(3)
    ledger.remove(rows[0], "no_answer")
    ledger.remove(rows[1], "exact_duplicate", other="row-00002")
    names = [each.row_id for each in rows]
    assert reconcile(ledger, names, ["row-00002"]) == {"kept": 1, "edited": 0, "merged": 1, "quarantined": 1}
    with pytest.raises(DataLoss, match="row-00002 is kept but not published"):
        reconcile(ledger, names, [])
    with pytest.raises(DataLoss, match="row-00000 is published although it was removed"):
        reconcile(ledger, names, ["row-00000", "row-00002"])
    ledger.edit(row(9, "?"), "encoding_repaired")
    with pytest.raises(DataLoss, match="row-00009, which never came in"):
        reconcile(ledger, names, ["row-00002"])


def test_the_outcomes_of_a_build_add_up_to_its_rows() -> None:
    rows = [*tickets(60), row(100, "the caf\u00c3\u00a9 is  closed"), row(101, "nothing", None)]
    rows.append(row(102, rows[0].input, rows[0].answer))
    version = build_rows(rows)
    assert sum(version.outcomes.values()) == 63
    assert (version.outcomes["merged"], version.outcomes["quarantined"]) == (1, 1)
    assert version.outcomes["edited"] == 1
    assert version.outcomes["kept"] + 1 == sum(len(version.splits[name]) for name in SPLITS)


def test_a_rows_history_tells_every_step_that_touched_it(tmp_path: Path) -> None:
    text = "the caf\u00c3\u00a9 in the harbour  is closed, write to ann@example.com"
    rows = [row(0, text, "a"), row(1, text, "a"), row(2, "what?", None)]
    version = build_rows(rows, data=ALL_TRAIN)
    path = tmp_path / "ledger.parquet"
    ledger_file.write(path, version.ledger, rows, version.placed, version.labels)
    told = ledger_file.history(path, "row-00001")
    assert [each["rule"] for each in told] == [
        "encoding_repaired", "whitespace_or_controls_cleaned", "personal_data_redacted", "exact_duplicate",
    ]  # fmt: skip
    assert [each["final"] for each in told] == [False, False, False, True]
    assert (told[-1]["outcome"], told[-1]["other"], told[-1]["split"]) == ("merged", "row-00000", "train")
    assert [each["rule"] for each in ledger_file.history(path, "row-00002")] == ["no_answer"]
    with pytest.raises(NotFound, match="never came into"):
        ledger_file.history(path, "row-77777")
    assert ledger_file.placed_in(path) == version.placed


def test_the_ledger_calls_sources_and_licences_as_anybody_may_read_them(tmp_path: Path) -> None:
    rows = [
        replace(row(0, "where is the harbour"), source="ada@example.org"),
        replace(row(1, "who runs the harbour"), licence="ask ada@example.org"),
        replace(row(2, "what is the harbour", kind="correction"), source="ada@example.org"),
    ]
    version = build_rows(rows, data={**ALL_TRAIN, "sources": ["crm"], "curation": {"licences": ["MIT"]}})
    path = tmp_path / "ledger.parquet"
    ledger_file.write(path, version.ledger, rows, version.placed, version.labels)
    told = [ledger_file.history(path, each.row_id)[-1] for each in rows]
    assert [each["rule"] for each in told] == ["kept", "licence_not_allowed", "source_not_trusted"]
    assert [each["source"][:7] for each in told] == ["<EMAIL_", "crm", "<EMAIL_"]
    assert [each["evidence"][:11] for each in told] == ["", "ask <EMAIL_", told[2]["source"][:11]]
    assert "example.org" not in str(told)


def test_the_same_build_gives_the_same_ledger_bytes(tmp_path: Path) -> None:
    rows = tickets(50)
    written = []
    for name in ("a", "b"):
        version = build_rows(rows)
        ledger_file.write(tmp_path / name, version.ledger, rows, version.placed, version.labels)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_an_undone_rule_leaves_the_rows_as_they_were() -> None:
    twin = "please tell the team that the parcel for the lab on the top floor is there"
    rows = [row(0, twin), row(1, twin + " thanks"), row(2, "the caf\u00c3\u00a9 is closed")]
    assert build_rows(rows, data=ALL_TRAIN).ledger.reasons() == {"near_duplicate": 1}
    policy = {**ALL_TRAIN, "curation": {"without": ["near_duplicate", "encoding_repaired"]}}
    rules = optional(policy["curation"]["without"])  # type: ignore[index]
    version = _without(rows, rules)
    assert version == {"row-00000": twin, "row-00001": twin + " thanks", "row-00002": "the caf\u00c3\u00a9 is closed"}


def test_duplicates_that_are_wanted_are_no_conflict_and_outvote_as_one_voice() -> None:
    said = "where is the parcel for the lab on the top floor"
    rows = [row(0, said, "here"), row(1, said, "here"), row(2, said, "here")]
    wanted = frozenset({"exact_duplicate", "near_duplicate"})
    assert set(_without(rows, wanted)) == {"row-00000", "row-00001", "row-00002"}
    assert set(_without([*rows, row(3, said, "there")], wanted)) == {"row-00000", "row-00001", "row-00002"}
    tied = [*rows[:2], row(3, said, "there"), row(4, said, "there")]
    assert set(_without([*tied, row(9, "who came", "nobody")], wanted)) == {"row-00009"}


@pytest.mark.parametrize(
    ("rule", "other"),
    [
        ("exact_duplicate", "WHERE is the parcel for the lab on the top floor?"),
        ("near_duplicate", "where is the parcel for the lab on the top floor please"),
        ("semantic_duplicate", "for the labs on the top floor, where is the parcel"),
    ],
)
def test_who_stood_for_others_stands_for_himself_once_their_merge_is_undone(rule: str, other: str) -> None:
    rows = [row(0, "where is the parcel for the lab on the top floor", "a", weight=0.5), row(1, other, "a")]
    rows += tickets(20, 10)
    data = {**ALL_TRAIN, "duplicates": {"semantic": 0.6, "near": rule == "near_duplicate"}}

    def standing(undone: frozenset[str]) -> list[tuple[str, int, float]]:
        version = curate(rows, context_for(known={"undone": undone}, data=data))
        return [(each.row_id, each.stands_for, each.weight) for each in version.splits["train"][:2]]

    assert standing(frozenset())[0][:2] == ("row-00000", 2)
    every = frozenset({"exact_duplicate", "near_duplicate", "semantic_duplicate"})
    assert standing(every) == [("row-00000", 1, 0.5), ("row-00001", 1, 1.0)]


def test_a_step_merges_by_one_rule_at_most() -> None:
    merging = [rule.step for rule in RULES.values() if rule.outcome is Outcome.MERGED]
    assert len(merging) == len(set(merging))


def _without(rows: list[Row], rules: frozenset[str]) -> dict[str, str]:
    version = curate(rows, context_for(known={"undone": rules}, data=ALL_TRAIN))
    return {each.row_id: each.input for each in version.splits["train"]}


@pytest.mark.parametrize("name", ["withheld_near", "no_consent", "erased_subject", "personal_data_email", "no_answer"])
def test_what_protects_people_and_measurements_cannot_be_undone(name: str) -> None:
    with pytest.raises(FailedPrecondition, match="cannot be undone"):
        optional([name])


def test_a_rule_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(InvalidInput, match=r"no rule 'near'; there are .*near_duplicate"):
        rule_of("near")


def test_every_rule_belongs_to_a_step_of_the_pipeline() -> None:
    known = {*versions(), "publish"}
    assert {rule.step for rule in RULES.values()} <= known
