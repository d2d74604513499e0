"""Whatever leaves a build has passed the policy on personal data: every column, every edit, every quote."""

import json
from pathlib import Path

from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import build_files, build_rows, row, tickets

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
