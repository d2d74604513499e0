"""A value has one pseudonym whichever door it came in by: redacted before it was stored, or imported as it lay."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.pseudonyms import naming_key
from libs.contracts.task import TaskSpec
from services.curation.compute.rows import load
from services.curation.compute.steps.personal import Personal
from services.curation.domain.rows import texts_of
from services.curation.domain.steps import Context
from services.ingestion.compute.redaction import Redaction
from services.ingestion.compute.segments import rows_to_parquet
from services.ingestion.domain.personal import KINDS
from services.ingestion.domain.rows import Row

SECRET = b"a secret of the tenant, by hand!"
VALUES = (
    "ada.lee+x@mail.example.org", "+49 170 1234567", "212-555-0123", "(030) 1234 5678", "030/1234567",
    "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111", "4111-1111-1111-1111", "10.0.0.12", "2001:db8:7::1",
)  # fmt: skip
FRAMES = ("please write to {} today", "it is {}.", "{}", "my number: {}, thanks")


def stored(row_id: str, text: str) -> Row:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Row(
        row_id=row_id, kind="correction", source="desk", input=text, output=f"You said {text}", signal="good",
        weight=1.0, created_at=now, arrived_at=now,
    )  # fmt: skip


@pytest.mark.parametrize("style", ["token", "surrogate"])
def test_feedback_and_imports_name_a_value_alike(tmp_path: Path, style: str) -> None:
    spec = TaskSpec.model_validate({"task": "triage", "base": "b", "data": {"curation": {"pseudonyms": style}}})
    said = [frame.format(value) for value in VALUES for frame in FRAMES]
    redaction = Redaction(KINDS, naming_key(SECRET, "default", "triage"), style)
    doors: dict[str, Any] = {"signals": redaction, "imports": None}
    for name, door in doors.items():
        rows = [stored(f"{name}-{at}", text) for at, text in enumerate(said)]
        (tmp_path / name).write_bytes(rows_to_parquet(rows, door))
    loaded = load([(at, tmp_path / name) for at, name in enumerate(doors)])
    context = Context(spec, "default", "default/triage", SECRET, spec.data.split)
    result = Personal()(loaded, context)
    texts = [texts_of(row) for row in result.rows]
    assert texts[: len(said)] == texts[len(said) :]
    assert not any(value in text for value in VALUES for each in texts for text in each)
