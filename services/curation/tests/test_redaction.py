"""Whatever leaves a build has passed the policy on personal data: every column, every edit, every quote."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from services.curation.compute.audit import report_of
from services.curation.compute.categories import propose
from services.curation.compute.pipeline import Version, curate
from services.curation.compute.publish import line_of
from services.curation.domain.messages import flat
from services.curation.domain.review import Decision
from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import (
    ALL_TRAIN,
    SECRET,
    build_files,
    build_rows,
    context_for,
    row,
    spec_of,
    tickets,
    write_segment,
)

MAIL, PHONE, IBAN = "ann.lee@example.org", "+49 170 1234567", "DE89 3704 0044 0532 0130 00"


def test_every_column_of_a_line_passes_the_policy(tmp_path: Path) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "find", "description": f"ask {MAIL}",
            "parameters": {
                "type": "object",
                "properties": {"who": {"type": "string", "enum": [MAIL, "me"], "default": MAIL}},
                "required": ["who"],
            },
        },
    }  # fmt: skip
    told = [{"role": "user", "name": MAIL, "content": "hello"}, {"role": "assistant", "content": f"hi {MAIL}"}]
    rows = tickets(
        120, category=f"of {MAIL}", source=f"desk of {MAIL}", licence=f"by {MAIL}", system=f"you serve {MAIL}",
        history=json.dumps(told), tools=json.dumps([tool]), rejected=f"never, {MAIL}",
    )  # fmt: skip
    _, files = build_files(tmp_path / "a", rows)
    assert not any(MAIL.encode() in text for name, text in files.items() if not name.endswith(".parquet"))
    line = json.loads(files["dataset/train.jsonl"].splitlines()[0])
    (called,) = line["tools"]
    assert called["function"]["parameters"]["properties"]["who"]["enum"][1] == "me"
    assert called["function"]["name"] == "find"
    name = line["messages"][1]["name"]
    assert name.startswith("<EMAIL_")
    assert (line["category"], line["source"], line["licence"]) == (f"of {name}", f"desk of {name}", f"by {name}")


def test_a_declared_category_is_no_personal_data() -> None:
    policy = {**ALL_TRAIN, "curation": {"taxonomy": {"categories": [MAIL]}}}
    version = build_rows([row(0, "who is it", category=MAIL)], data=policy)
    assert version.splits[TRAIN][0].category == MAIL


def edited(text: str, edit: dict[str, str], **data: Any) -> Version:
    """A version of one row of that text, which a reviewer edited so."""
    decision = Decision("row-00000", "edited", by="bob@desk.org", **edit)
    known = {"decisions": {decision.row_id: decision}}
    return curate([row(0, text, "nothing")], context_for(known=known, data={**ALL_TRAIN, **data}))


@pytest.mark.parametrize("style", ["token", "surrogate"])
def test_what_a_reviewer_writes_passes_the_policy(style: str) -> None:
    curation = {"curation": {"pseudonyms": style}}
    edit = {"answer": f"call {PHONE} or {MAIL}", "category": f"of {MAIL}", "input": f"who is {MAIL}?"}
    version = edited(f"who is {MAIL}", edit, **curation)
    (kept,) = version.splits[TRAIN]
    text = f"{kept.input} {kept.answer} {kept.category}"
    assert MAIL not in text
    assert PHONE not in text
    (plain,) = build_rows([row(0, f"who is {MAIL}", "nothing")], data={**ALL_TRAIN, **curation}).splits[TRAIN]
    name = plain.input.removeprefix("who is ")
    assert kept.input == f"who is {name}?"
    assert str(kept.answer).endswith(name)
    told = [each.evidence for each in version.ledger.entries if each.rule == "review_edited"]
    assert told == ["by bob@desk.org, 3 email redacted, 1 phone redacted"]


@pytest.mark.parametrize("style", ["token", "surrogate"])
def test_pseudonyms_that_a_reviewer_read_stay_what_they_are(style: str) -> None:
    curation = {"curation": {"pseudonyms": style}}
    asked = f"write to {MAIL} or ring {PHONE}"
    (shown,) = build_rows([row(0, asked, "nothing")], data={**ALL_TRAIN, **curation}).splits[TRAIN]
    (kept,) = edited(asked, {"answer": f"I did {shown.input}"}, **curation).splits[TRAIN]
    assert kept.answer == f"I did {shown.input}"
    assert kept.input == shown.input


def test_an_edit_with_what_the_policy_drops_drops_the_row_and_no_report_names_who_decided() -> None:
    version = edited("where to pay", {"answer": f"to {IBAN}"}, redact={"iban": "drop"})
    assert version.ledger.removed == {"row-00000": "review_personal_data"}
    assert version.ledger.examples["review_personal_data"] == [{"row_id": "row-00000", "input": "where to pay"}]


def said_of(version: Version) -> str:
    """Everything that the questions of a version say."""
    return json.dumps([asdict(each) for each in version.questions], ensure_ascii=False)


@pytest.mark.parametrize("style", ["token", "surrogate"])
def test_a_question_raised_before_the_policy_is_asked_in_its_words(style: str) -> None:
    long = "and more " * 60
    rows = [
        row(0, f"I am ann\u200b.lee@example.org, {long}{MAIL}", f"ring {PHONE}", review=f"two people ({MAIL}) disagree",
            comment=f"{long} wrong, ask {MAIL}", request_id="r0", category=f"of {MAIL}"),
    ]  # fmt: skip
    version = build_rows(rows, data={**ALL_TRAIN, "curation": {"pseudonyms": style}})
    (asked,) = version.questions
    assert asked.kind == "contradiction"
    assert not any(value in said_of(version) for value in (MAIL, PHONE, "ann.lee", "ann\u200b"))
    (kept,) = version.splits[TRAIN]
    assert (asked.input, asked.answer, asked.category) == (kept.input, kept.answer, kept.category)


def test_an_answer_to_a_question_still_meets_its_row() -> None:
    rows = [row(0, f"I am {MAIL}", "a", review="two people disagree"), row(1, "who came", "nobody")]
    (asked,) = build_rows(rows, data=ALL_TRAIN).questions
    decision = Decision(asked.row_id, "approved", by="bob")
    again = curate(rows, context_for(known={"decisions": {asked.row_id: decision}}, data=ALL_TRAIN))
    assert again.questions == []
    assert build_rows(rows, data=ALL_TRAIN).questions[0].item_id == asked.item_id


def test_rows_that_the_policy_drops_are_neither_asked_about_nor_quoted() -> None:
    history = json.dumps([{"role": "user", "content": f"my account is {IBAN}"}, {"role": "assistant", "content": "ok"}])
    rows = [
        row(0, "where is it", "here", review="two people disagree", history=history),
        row(1, "who is it", "me", review="two people disagree", comment=f"pay {IBAN}"),
        row(2, "what is that", "it", kind="rating", source="spam", history=history),
        row(3, "who came", "nobody"),
    ]
    version = build_rows(rows, data={**ALL_TRAIN, "redact": {"iban": "drop"}, "sources": ["desk"]})
    assert version.questions == []
    assert version.ledger.quoted()["source_not_trusted"] == [{"row_id": "row-00002"}]
    assert {each.row_id for each in version.splits[TRAIN]} == {"row-00003"}


def test_a_report_quotes_rows_by_the_policy_and_none_without_consent(tmp_path: Path) -> None:
    frame = "x" * 195
    history = json.dumps([{"role": f"bot of {MAIL}", "content": "y"}])
    removed = [
        row(300, f"I am {MAIL}", "a", kind="rating", source="spam"),
        row(301, f"{frame} {MAIL}", "a", kind="rating", source="spam"),
        row(302, "a secret of mine", "a", consent=False),
        row(303, "another secret of mine", "a", consent=False, source="late"),
        row(304, "who is it", "a", history=history),
    ]
    data = {"sources": ["crm"], "curation": {"validation_sources": ["late"]}}
    _, files = build_files(tmp_path / "a", [*tickets(120), *removed], data=data)
    report = json.loads(files["dataset/report.json"])
    examples = report["examples"]
    assert [each["input"][:12] for each in examples["source_not_trusted"]] == ["I am <EMAIL_", frame[:12]]
    assert examples["no_consent"][0] == {"row_id": "row-00302"}
    assert "what is no word" in examples["roles_broken"][0]["detail"]
    for text in files.values():
        assert not any(said in text for said in (MAIL.encode(), b"ann.l", b"secret of mine"))


def test_an_audit_and_proposed_categories_quote_by_the_policy_too(tmp_path: Path) -> None:
    rows = [
        *tickets(60), *(row(at, f"please write to {MAIL} soon", f"{{{MAIL}") for at in range(200, 204)),
        *(row(at, "a secret of mine", f"{{{at}", consent=False) for at in range(300, 308)),
    ]  # fmt: skip
    output = {"format": "json"}
    told = json.dumps(report_of(rows, context_for(output=output), {}), default=str)
    assert "<EMAIL_" in told
    request = {
        "tenant": "default", "secret": SECRET.hex(), "spec": spec_of().model_dump(mode="json", by_alias=True),
        "segments": [(1, str(write_segment(tmp_path / "s", rows)))], "count": 3,
    }  # fmt: skip
    proposed = json.dumps(propose(request))
    assert not any(said in text for text in (told, proposed) for said in (MAIL, "secret of mine"))


@pytest.mark.parametrize("frame", ["{}", "```json\n{}\n```"])
def test_json_is_redacted_by_what_it_says_and_stays_json(frame: str) -> None:
    values = {
        "mail": f"Write to:\n{MAIL}", "ring": f"Call\n{PHONE}\tnow", "card": 4111111111111111, "ssn": "123456789",
        "password": "hunter2!x", MAIL: 1.50, "deep": json.dumps({"text": f"so\n{MAIL}"}),
    }  # fmt: skip
    known = {"undone": frozenset({"answer_fence_removed"})}
    data = {**ALL_TRAIN, "redact": {"ssn": "redact"}}
    (kept,) = build_rows([row(0, f"I am {MAIL}", frame.format(json.dumps(values)))], data=data, known=known).splits[
        TRAIN
    ]
    answer = str(kept.answer).removeprefix("```json\n").removesuffix("\n```")
    said = json.loads(answer)
    name = kept.input.removeprefix("I am ")
    assert said["mail"] == f"Write to:\n{name}"
    assert said["ring"].startswith("Call\n<PHONE_")
    assert said["card"].startswith("<CARD_")
    assert said["ssn"].startswith("<SSN_")
    assert said["password"].startswith("<CREDENTIAL_")
    assert said[name] == 1.5
    assert json.loads(said["deep"]) == {"text": f"so\n{name}"}


@pytest.mark.parametrize("style", ["token", "surrogate"])
def test_a_call_stays_a_call_when_it_is_redacted(style: str) -> None:
    called = {"name": "mail", "arguments": json.dumps({"body": f"Hi,\n{MAIL}", "card": 4111111111111111})}
    whole = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": called}]}
    tools = json.dumps([{"type": "function", "function": {"name": "mail", "parameters": {"type": "object"}}}])
    for fields in ({"answer_as": json.dumps(whole)}, {}):
        given = row(0, f"I am {MAIL}", flat(whole), tools=tools, **fields)
        data = {**ALL_TRAIN, "curation": {"pseudonyms": style}}
        (kept,) = build_rows([given], data=data).splits[TRAIN]
        (call,) = line_of(kept, "")["messages"][-1]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert arguments["body"] == f"Hi,\n{kept.input.removeprefix('I am ')}"
        assert isinstance(arguments["card"], str)
        assert "4111111111111111" not in str(kept)
