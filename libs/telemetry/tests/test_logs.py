"""What a process writes to stderr."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from libs.contracts.errors import InvalidInput
from libs.telemetry import current_traceparent, get_logger, logs, span, trace_id
from libs.telemetry.masking import mask_text


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    written = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    logs.configure("ingestion", "DEBUG", written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_who_and_what(stream: io.StringIO) -> None:
    get_logger("services.ingestion.app").info("segment written", rows=5, path="a\nb", nested={"ok": [1, None]})
    (line,) = lines(stream)
    assert line["ts"].endswith("Z")
    assert (line["level"], line["service"], line["logger"]) == ("INFO", "ingestion", "services.ingestion.app")
    assert (line["event"], line["fields"]) == (
        "segment written",
        {"rows": 5, "path": "a\nb", "nested": {"ok": [1, None]}},
    )
    assert "trace_id" not in line


def test_a_line_inside_a_span_carries_its_trace(stream: io.StringIO) -> None:
    with span("work"):
        get_logger("a").info("inside")
        traceparent = current_traceparent()
    get_logger("a").info("outside")
    inside, outside = lines(stream)
    assert traceparent is not None
    assert inside["trace_id"] == trace_id(traceparent)
    assert inside["span_id"] in traceparent
    assert "trace_id" not in outside


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "apiKey", "API-KEY", "token", "access_token", "secret", "s3_secret_key", "password",
     "dbPassword", "Authorization", "nkey", "credentials"],
)  # fmt: skip
def test_a_field_whose_name_says_secret_is_masked(stream: io.StringIO, name: str) -> None:
    get_logger("a").info("said", **{name: "hunter2", "outer": {name: ["hunter2"]}, "rows": 1})
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["fields"] == {name: "***", "outer": {name: "***"}, "rows": 1}


def test_counts_and_ordinary_words_are_not_masked(stream: io.StringIO) -> None:
    fields: dict[str, Any] = {
        "max_tokens": 5,
        "tokens": "12",
        "token_count": 3,
        "monkey": "x",
        "keyboard": "y",
        "seed": 7,
    }
    get_logger("a").info("said", **fields)
    assert lines(stream)[0]["fields"] == fields


@pytest.mark.parametrize(
    "text",
    ["nats://pawl:hunter2@host:4222 is away", "Authorization: Bearer hunter2hunter2", "password=hunter2, retry",
     "DSN has 'secret_key': 'hunter2'", "api-key: hunter2", 'said "token": "hunter2"'],
)  # fmt: skip
def test_a_secret_inside_text_is_masked(text: str) -> None:
    assert "hunter2" not in mask_text(text)
    assert "***" in mask_text(text)


def test_an_ordinary_text_is_left_alone() -> None:
    text = "object storage at http://127.0.0.1:9000 answered 503 after 3 s; the key idea is patience"
    assert mask_text(text) == text


def test_an_exception_is_told_with_its_traceback_and_without_its_secrets(stream: io.StringIO) -> None:
    try:
        raise ValueError("cannot reach nats://pawl:hunter2@host")
    except ValueError:
        get_logger("a").exception("call failed", method="X")
    get_logger("a").error("task crashed", exc_info=RuntimeError("boom"))
    failed, crashed = lines(stream)
    assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "cannot reach nats://***@host")
    assert "hunter2" not in stream.getvalue()
    assert "test_logs.py" in failed["error"]["traceback"]
    assert crashed["error"]["message"] == "boom"


def test_what_json_does_not_know_is_written_as_text(stream: io.StringIO) -> None:
    get_logger("a").info("odd", kind=ValueError, data=b"1234", choice=SecretStr("hunter2"), many={3})
    (line,) = lines(stream)
    assert line["fields"] == {"kind": "<class 'ValueError'>", "data": "<4 bytes>", "choice": "**********", "many": [3]}


def test_libraries_speak_through_the_same_lines_and_only_when_it_matters(stream: io.StringIO) -> None:
    logging.getLogger("somebody.else").warning("%s rows", 3)
    logging.getLogger("faststream").info("chatter")
    assert [line["event"] for line in lines(stream)] == ["3 rows"]


def test_a_line_whose_arguments_do_not_fit_is_still_written() -> None:
    record = logging.makeLogRecord({"name": "broken", "msg": "%d rows", "args": ("many",)})
    assert json.loads(logs.JsonFormatter("x").format(record))["event"] == "%d rows"


def test_bound_fields_are_on_every_line(stream: io.StringIO) -> None:
    log = get_logger("a").bind(run_id="run-1")
    log.info("step", number=1)
    log.debug("step", run_id="run-2")
    assert [line["fields"] for line in lines(stream)] == [{"run_id": "run-1", "number": 1}, {"run_id": "run-2"}]


def test_configuring_twice_does_not_say_everything_twice(stream: io.StringIO) -> None:
    again = io.StringIO()
    logs.configure("ingestion", "info", again)
    get_logger("a").info("once")
    assert (len(lines(again)), lines(stream)) == (1, [])


def test_an_unknown_level_is_refused_naming_the_setting() -> None:
    with pytest.raises(InvalidInput, match="LOUD") as refused:
        logs.configure("x", "LOUD")
    assert refused.value.field == "log_level"
