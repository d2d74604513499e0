"""What a dataset version holds, what it leaves out, and that both are told."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS, TEST, TRAIN
from services.curation.tests.conftest import ALL_TRAIN, SECRET, build_files, build_rows, row, tickets


def reason(rows: list[Row], **fields: Any) -> dict[str, str]:
    return build_rows(rows, **{"data": ALL_TRAIN, **fields}).ledger.removed


def test_every_row_is_kept_or_removed_for_one_reason_and_the_counts_reconcile(tmp_path: Path) -> None:
    rows = tickets(200)
    rows += [row(300, rows[0].input, rows[0].answer), row(301, rows[1].input, "another answer"), row(302, "", "a")]
    rows += [row(303, "praise without text", None, kind="rating")]
    result, files = build_files(tmp_path / "a", rows)
    report = json.loads(files["dataset/report.json"])
    assert report["rows"] == {
        "in": 204,
        "kept": sum(result["splits"].values()),
        "removed": sum(result["removed"].values()),
    }
    assert report["rows"]["kept"] + report["rows"]["removed"] == 204
    assert report["removed"]["no_answer"] == 1
    assert report["examples"]["no_answer"][0]["row_id"] == "row-00303"


def test_the_same_segments_and_policy_give_the_same_bytes(tmp_path: Path) -> None:
    rows = tickets(120)
    first, second = build_files(tmp_path / "a", rows), build_files(tmp_path / "b", rows)
    assert first == second
    assert build_files(tmp_path / "c", rows, system="be brief")[1] != first[1]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_later_version_never_moves_a_row_from_one_split_to_another(data: st.DataObject) -> None:
    words = ["printer", "router", "burns", "stops", "again", "today", "not", "4711", "0815", "office"]
    text = st.lists(st.sampled_from(words), min_size=1, max_size=7).map(" ".join)
    group = st.sampled_from([None, None, None, "g1", "g2", "g3"])
    pairs = data.draw(st.lists(st.tuples(text, group), min_size=5, max_size=60))
    rows = [row(at, said, f"answer {said}", group=own) for at, (said, own) in enumerate(pairs)]
    cut = data.draw(st.integers(1, len(rows)))
    first = build_rows(rows[:cut])
    later = build_rows(rows, suite=first.items)
    before = {each.row_id: name for name in SPLITS for each in first.splits[name]}
    after = {each.row_id: name for name in SPLITS for each in later.splits[name]}
    assert all(after.get(row_id, name) == name for row_id, name in before.items())
    assert {each["crossing"] for each in later.facts["leakage"]["edges"].values()} == {0}
    assert [item.item_id for item in later.items[: len(first.items)]] == [item.item_id for item in first.items]


def test_a_near_duplicate_is_merged_and_one_that_differs_where_it_matters_is_not() -> None:
    text = "good morning the new printer in the second office of the sales team does burn since {}"
    rows = [
        row(0, text.format("monday")),
        row(1, "hello " + text.format("monday")),
        row(2, text.format("monday").replace("does burn", "does not burn")),
        row(3, "my invoice number 4711 has a wrong total and should be sent again to our office please"),
        row(4, "my invoice number 4712 has a wrong total and should be sent again to our office please"),
        row(5, "move it from 5 to 6 please as the shelf in the big hall is already full of boxes"),
        row(6, "move it from 6 to 5 please as the shelf in the big hall is already full of boxes"),
    ]
    version = build_rows(rows, data=ALL_TRAIN)
    assert version.ledger.removed == {"row-00001": "near_duplicate"}
    assert set(version.facts["near_duplicates"]["kept_apart"]["by_kind"]) == {"negation", "number"}


def test_similar_texts_with_different_answers_are_kept_and_told_as_possible_conflicts() -> None:
    text = "please tell the team that the parcel for the lab on the top floor is there"
    version = build_rows([row(0, text, "a"), row(1, text + " thanks", "b")], data=ALL_TRAIN)
    assert version.ledger.removed == {}
    assert version.facts["near_duplicates"]["possible_conflicts"]["pairs"] == 1


def test_the_answer_most_rows_give_stands_and_a_tie_withholds_all() -> None:
    rows = [row(0, "who", "a"), row(1, "Who?", "a"), row(2, "who", "b"), row(3, "where", "a"), row(4, "where", "b")]
    assert reason(rows) == {
        "row-00001": "exact_duplicate",
        "row-00002": "label_conflict_lost",
        "row-00003": "label_conflict_tie",
        "row-00004": "label_conflict_tie",
    }


def test_nobody_is_asked_to_break_a_tie_whose_rows_all_stay() -> None:
    rows = [row(0, "where", "a"), row(1, "where", "b")]
    assert [each.kind for each in build_rows(rows, data=ALL_TRAIN).questions] == ["conflict", "conflict"]
    undone: dict[str, Any] = {"known": {"undone": frozenset({"label_conflict_tie"})}, "data": ALL_TRAIN}
    assert build_rows(rows, **undone).questions == []
    assert reason(rows, **undone) == {}


def test_a_damped_flood_does_not_outvote_whoever_is_trusted() -> None:
    flood = [row(at, "who", "b", weight=0.05) for at in range(10)]
    assert reason([*flood, row(10, "who", "a")])["row-00000"] == "label_conflict_lost"
    assert reason([*(replace(each, weight=0.2) for each in flood), row(10, "who", "a")])["row-00010"] == (
        "label_conflict_lost"
    )


def test_on_a_tie_the_newest_correction_stands() -> None:
    rows = [row(0, "where", "a"), row(1, "where", "b", kind="correction"), row(2, "where", "c", kind="correction")]
    assert reason(rows) == {"row-00000": "label_conflict_lost", "row-00001": "label_conflict_lost"}


def test_the_latest_correction_of_a_request_wins_over_earlier_signals_on_it() -> None:
    rows = [
        row(0, "q", "wrong", kind="rating", request_id="r1"),
        row(1, "q", "better", kind="correction", request_id="r1", signal="bad"),
        row(2, "q", "best", kind="correction", request_id="r1", signal="bad"),
        row(3, "p", "fine", kind="rating", request_id="r2"),
        row(4, "p", None, kind="rating", request_id="r2", signal="bad"),
    ]
    version = build_rows(rows, data=ALL_TRAIN)
    assert [each.answer for each in version.splits[TRAIN]] == ["best"]
    assert version.ledger.removed["row-00003"] == "contradicted_praise"
    assert version.facts["signals"] == {"requests": 2, "contradictions": 2}


def test_only_trusted_sources_train_and_imports_always_do() -> None:
    rows = [row(0, "q", kind="correction", source="portal"), row(1, "p", kind="correction", source="desk"), row(2, "o")]
    assert reason(rows, data={**ALL_TRAIN, "sources": ["desk"]}) == {"row-00000": "source_not_trusted"}


def test_a_row_without_consent_never_trains() -> None:
    assert reason([row(0, "q", consent=False)]) == {"row-00000": "no_consent"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("solved", "answer_not_json"),
        ('{"a": 1, "a": 2}', "answer_not_json"),
        ('{"priority": "P9"}', "answer_breaks_schema"),
        ("{}", "answer_breaks_schema"),
        ('{"priority": "P1"}', None),
    ],
)
def test_an_answer_must_be_what_the_task_declares(answer: str, why: str | None) -> None:
    schema = {"type": "object", "required": ["priority"], "properties": {"priority": {"enum": ["P1", "P2"]}}}
    found = reason([row(0, "q", answer)], output={"format": "json", "schema": schema})
    assert found.get("row-00000") == why


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ('{"priority": "a secret of mine"}', "properties.priority.enum"),
        ('{"priority": "P1", "a secret of mine": 1}', "additionalProperties"),
        ('{"priority": "P1", "note": "a secret of mine"}', "properties.note.type"),
        ('{"note": 1}', "required: 'priority' is a required property"),
        ('{"a secret of mine"}', "Expecting ':' delimiter: line 1 column 20 (char 19)"),
    ],
)
def test_evidence_says_what_is_wrong_with_an_answer_and_quotes_none_of_it(answer: str, detail: str) -> None:
    properties = {"priority": {"enum": ["P1", "P2"]}, "note": {"type": "integer"}}
    schema = {"type": "object", "required": ["priority"], "properties": properties, "additionalProperties": False}
    version = build_rows([row(0, "q", answer)], output={"format": "json", "schema": schema})
    assert [each.evidence for each in version.ledger.entries] == [detail]


def test_personal_data_gets_the_same_pseudonym_in_input_and_answer() -> None:
    text = (
        "I am Ann, write to ann@example.com or Bob@example.org, not to ANN@example.com; my card is 4111 1111 1111 1111"
    )
    version = build_rows([row(0, text, '{"mail":"bob@example.org"}')], data=ALL_TRAIN)
    (kept,) = version.splits[TRAIN]
    ann, bob, again = re.findall(r"<EMAIL_\w+>", kept.input)
    assert kept.input.startswith("I am Ann, write to <EMAIL_")
    assert re.search(r"my card is <CARD_\w+>$", kept.input)
    assert (ann, bob) == (again, json.loads(str(kept.answer))["mail"])
    assert ann != bob
    assert version.facts["redacted"] == {"card": 1, "email": 4}
    other = build_rows([row(1, "ann@example.com calls again about something else", "a")], data=ALL_TRAIN)
    assert other.splits[TRAIN][0].input.startswith(ann)


def test_a_policy_may_keep_one_kind_of_personal_data_and_drop_rows_with_another() -> None:
    data = {**ALL_TRAIN, "redact": {"email": "keep", "iban": "drop"}}
    rows = [row(0, "mail a@b.org"), row(1, "pay to DE89 3704 0044 0532 0130 00 please")]
    version = build_rows(rows, data=data)
    assert version.splits[TRAIN][0].input == "mail a@b.org"
    assert version.ledger.removed == {"row-00001": "personal_data_iban"}


def test_pseudonyms_follow_the_tenants_secret_alone_and_no_file_names_it(tmp_path: Path) -> None:
    rows = [*tickets(60), row(100, "write to ann@b.org in the harbour")]
    first, again = (build_files(tmp_path / name, rows)[1] for name in ("a", "b"))
    other = build_files(tmp_path / "c", rows, secret=b"the secret of another tenant")[1]
    assert first == again
    said = [re.findall(r"<EMAIL_\w+>", b"".join(each.values()).decode("utf-8", "replace")) for each in (first, other)]
    assert said[0]
    assert said[1]
    assert not set(said[0]) & set(said[1])
    assert not any(secret in text for secret in (SECRET, SECRET.hex().encode()) for text in first.values())


def test_every_kind_is_the_policys_to_decide_and_a_surrogate_has_the_form_of_what_it_stands_for() -> None:
    text = "write to ann@b.org of Portland, OR 97201, born on 10/23/1951, SSN: 849-66-3189, see https://a.org/x"
    policy = {"redact": {"postcode": "keep", "birth_date": "keep", "ssn": "redact", "url": "redact"}}
    (kept,) = only_row(text, policy)
    assert "97201, born on 10/23/1951, SSN: <SSN_" in kept
    assert "see <URL_" in kept
    assert only_row(text, {"redact": {"ssn": "drop"}}) == []
    (formed,) = only_row(text, {"curation": {"pseudonyms": "surrogate"}})
    assert re.search(r"write to user-\w{16}@example\.com of Portland, OR \d{5}, born", formed)
    assert "SSN: 9" in formed
    assert not any(value in formed for value in ("ann@b.org", "97201", "849-66-3189"))
    assert only_row(text, {"curation": {"pseudonyms": "surrogate"}}) == [formed]


def only_row(text: str, data: dict[str, Any]) -> list[str]:
    version = build_rows([row(0, text)], data=data)
    return [each.input for name in SPLITS for each in version.splits[name]]


def test_broken_encodings_and_controls_are_repaired() -> None:
    broken = "\ufeff  the caf\u00e9\u0301 \x07in M\u00fcnchen is  closed\r\n".replace("\u00fc", "Ã¼")
    version = build_rows([row(0, broken)], data=ALL_TRAIN)
    assert "München is closed" in version.splits[TRAIN][0].input
    assert "\x07" not in version.splits[TRAIN][0].input


def test_rows_that_differ_in_an_identifier_only_never_stand_on_both_sides_of_the_split() -> None:
    rows = [row(at, f"please cancel the order {at * 7919} for me today", f"cancel {at}") for at in range(60)]
    assert len(set(build_rows(rows).groups.values())) == 1


def test_training_rows_like_a_held_out_one_in_another_group_are_withheld() -> None:
    first = build_rows(tickets(100))
    held = first.splits[TEST][0]
    own = next(f"free-{at}" for at in range(100) if _split(f"g:free-{at}") == TRAIN)
    # Two rows outvote the held-out one, which leaves the data but not the frozen suite.
    louder = [row(at, held.input, "something else", group=own) for at in (200, 201)]
    longer = row(202, held.input + " thanks", "another thing", group=own)
    # The other group stands in training before it says what the held-out row says.
    founder = row(190, "a crocodile sleeps under the piano of my aunt", "nothing", group=own)
    later = build_rows([*tickets(100), founder, *louder, longer], suite=first.items)
    assert later.ledger.removed["row-00200"] == "withheld_exact"
    assert later.ledger.removed["row-00202"] == "withheld_near"


def _split(group: str) -> str:
    from libs.contracts.task import SplitSpec
    from services.curation.domain.split import salt_of, split_of

    return split_of(salt_of("default", "triage"), group, SplitSpec())


def test_the_suite_is_frozen_and_grows_only_by_admitted_corrections_of_the_test_split() -> None:
    first = build_rows(tickets(200), evaluation={"suite": {"max_items": 30}})
    assert len(first.items) == 30
    assert {item.category for item in first.items} == {"c0", "c1", "c2", "c3"}
    new = tickets(100, 400, kind="correction", source="desk", category="new")
    poison = tickets(100, 600, kind="correction", source="portal", category="new")
    policy = {"suite": {"max_items": 30, "admit": {"sources": ["desk"]}}}
    later = build_rows([*tickets(200), *new, *poison], suite=first.items, evaluation=policy)
    assert later.items[:30] == first.items
    assert later.new_items == len([each for each in later.splits[TEST] if each.source == "desk"]) > 0
    again = build_rows([*tickets(200), *new, *poison], suite=later.items, evaluation=policy)
    assert (again.new_items, again.items) == (0, later.items)


def test_too_few_rows_are_refused_with_the_numbers(tmp_path: Path) -> None:
    result, files = build_files(tmp_path / "a", tickets(10))
    assert "fewer than data.min_train_rows (20)" in result["refused"]
    assert files == {}


def test_a_dataset_line_holds_the_tasks_system_prompt_and_the_history(tmp_path: Path) -> None:
    turns = json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    rows = [*tickets(60), row(99, "and then?", "go on", history=turns, group="own-3")]
    _, files = build_files(tmp_path / "a", rows, system="be brief")
    lines = [json.loads(line) for name in SPLITS for line in files[f"dataset/{name}.jsonl"].splitlines()]
    (line,) = [each for each in lines if each["row_id"] == "row-00099"]
    assert [each["role"] for each in line["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert (line["messages"][0]["content"], line["messages"][-1]["content"]) == ("be brief", "go on")
