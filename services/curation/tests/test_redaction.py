"""Whatever leaves a build has passed the policy on personal data: every column, every edit, every quote."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.curation.compute.pipeline import Version, curate
from services.curation.domain.review import Decision
from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import build_files, build_rows, context_for, row, tickets

MAIL, PHONE, IBAN = "ann.lee@example.org", "+49 170 1234567", "DE89 3704 0044 0532 0130 00"
ALL_TRAIN = {"split": {"train": 1.0, "validation": 0.0, "test": 0.0}}


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
