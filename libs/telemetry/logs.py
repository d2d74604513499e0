"""Structured logging: one JSON object per line on stderr, with the trace it belongs to and no secret in it."""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from libs.contracts.errors import InvalidInput
from libs.telemetry.masking import mask_field, mask_text
from libs.telemetry.traces import current_traceparent

ExcInfo = bool | BaseException
"""Whether to add a traceback: True for the exception being handled, or the exception itself."""

_FIELDS = "pawl_fields"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# These say at INFO what is of no interest to an operator; their warnings are kept.
_CHATTY = ("faststream", "nats", "urllib3", "grpc", "asyncio", "httpx", "httpcore", "aiosqlite", "alembic.runtime")


class StructuredLogger:
    """A logger of fixed events with keyword fields: `log.info("segment written", rows=5)`."""

    __slots__ = ("_bound", "_logger")

    def __init__(self, logger: logging.Logger, bound: Mapping[str, object] | None = None) -> None:
        self._logger = logger
        self._bound = dict(bound or {})

    def bind(self, **fields: object) -> "StructuredLogger":
        """The same logger with fields added to each of its lines."""
        return StructuredLogger(self._logger, {**self._bound, **fields})

    def debug(self, event: str, /, **fields: object) -> None:
        """Say what only somebody debugging wants to know."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Say that something an operator follows has happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, *, exc_info: ExcInfo = False, **fields: object) -> None:
        """Say that something went wrong and was handled."""
        self._write(logging.WARNING, event, fields, exc_info)

    def error(self, event: str, /, *, exc_info: ExcInfo = False, **fields: object) -> None:
        """Say that something went wrong and somebody has to look."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, /, *, exc_info: ExcInfo = True, **fields: object) -> None:
        """`error` with the traceback of the exception being handled, or of the one given."""
        self._write(logging.ERROR, event, fields, exc_info)

    def _write(self, level: int, event: str, fields: Mapping[str, object], exc_info: ExcInfo = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc_info, extra={_FIELDS: {**self._bound, **fields}}, stacklevel=3)


def get_logger(name: str) -> StructuredLogger:
    """Return the logger of the module `name`."""
    return StructuredLogger(logging.getLogger(name))


class JsonFormatter(logging.Formatter):
    """Lines with ts (RFC 3339, UTC), level, service, logger, event and, if any, trace_id, span_id, fields, error."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One JSON line; a value that JSON does not know is written as its text."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "event": mask_text(_message(record)),
        }
        traceparent = current_traceparent()
        if traceparent is not None:
            _, line["trace_id"], line["span_id"], _ = traceparent.split("-")
        fields = getattr(record, _FIELDS, None)
        if fields:
            line["fields"] = {name: mask_field(name, value) for name, value in fields.items()}
        if record.exc_info and record.exc_info[1] is not None:
            failure = record.exc_info[1]
            line["error"] = {
                "type": type(failure).__name__,
                "message": mask_text(str(failure)),
                "traceback": mask_text("".join(traceback.format_exception(failure))),
            }
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(service: str, level: str, stream: TextIO | None = None) -> None:
    """Send everything that the process logs, its libraries' warnings included, through one JSON handler.

    Raises InvalidInput on a level that is not DEBUG, INFO, WARNING, ERROR or CRITICAL. Calling it again replaces
    the handler.
    """
    if level.upper() not in _LEVELS:
        raise InvalidInput(f"{level!r} is not one of {', '.join(_LEVELS)}", field="log_level")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, JsonFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)
