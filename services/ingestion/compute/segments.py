"""Segments as Parquet bytes: one schema for rows, one for logged inferences.

A segment of rows is what ingestion promises to curation. A column that an older segment lacks is null in it.

- `row_id`: unique and stable; `imp-` of an import, `fb-` of a signal
- `kind`: `example` for imports, else the kind of the feedback
- `source`: who sent it; the policy's `sources` go by it
- `system`, `history`, `input`: what was asked: system prompt, JSON of the earlier turns (role and text), last message
- `output`: the answer to learn: of the import, a correction, or praised
- `rejected`: the answer that was wrong
- `messages`: JSON list, the whole conversation in OpenAI's form with the answer last: typed parts, tool calls, their
  results and weights survive here; set for rows that came as a conversation, of which the columns above are a flat
  view; of a signal it is what was asked, without the answer, where tools were called in that
- `tools`: JSON list of the tools offered
- `rejected_messages`: JSON list, where the wrong answer is more than one text
- `form`: what the row can train: `sft`, `preference`, `kto`, or null: nothing (`text`, in old segments, too)
- `label`: of `kto` rows: true, `output` is desirable; false, `rejected` is what is not
- `category`, `group`, `segment`, `user`: labels; rows of a group stay on one side of a split; `user` is a hash
- `request_id`, `version`: the inference it is about, and the model version that answered
- `signal`: `good`, `bad` or `neutral`
- `weight`: 0 to 1: of its source and sender, damped while one sender floods
- `revision`, `judgement`: the n-th write about one response, and the JSON of what all signals on it say by then
  (`domain.judgement`), which stands on the last of those that came together; of rows with one `request_id` the highest
  revision counts
- `confidence`: 0 to 1: how far those signals agree on the judgement
- `review`: why a person must look before the response trains, or null
- `personal`: JSON, personal data redacted at intake: values per kind
- `pseudonyms`: JSON list, the surrogates that stand in the row since then and look like personal data; null with tokens
- `subject`: of signals, the hash of whoever asked, who need not be the `user` who said how good the answer was
- `comment`: of signals, what was said of the answer in free text: for people to read, nothing learns it
- `consent`, `licence`: as given
- `created_at`, `arrived_at`: UTC
- `number`: only where small segments share an object: the segment that the row belongs to

A segment of the inference log is ingestion's alone: what was asked and answered, word for word, kept until its subject
is erased. What was asked with calls in it stands whole in `asked`, JSON in OpenAI's form, beside `messages`, which has
their texts; `tools` are what was offered and `tool_calls` the calls that are the answer, JSON both.
"""

from collections.abc import Sequence
from secrets import token_hex
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.contracts.inference import Inference
from libs.contracts.tooling import in_openai_form
from services.ingestion.compute.redaction import Redaction
from services.ingestion.domain.conversations import dump
from services.ingestion.domain.rows import Row

_TIME = pa.timestamp("us", tz="UTC")

ROWS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("input", pa.string(), nullable=False),
        pa.field("system", pa.string()),
        pa.field("history", pa.string()),
        pa.field("output", pa.string()),
        pa.field("rejected", pa.string()),
        pa.field("category", pa.string()),
        pa.field("group", pa.string()),
        pa.field("user", pa.string()),
        pa.field("segment", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("signal", pa.string(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("consent", pa.bool_()),
        pa.field("licence", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("created_at", _TIME, nullable=False),
        pa.field("arrived_at", _TIME, nullable=False),
        pa.field("messages", pa.string()),
        pa.field("tools", pa.string()),
        pa.field("rejected_messages", pa.string()),
        pa.field("form", pa.string()),
        pa.field("label", pa.bool_()),
        pa.field("confidence", pa.float64()),
        pa.field("review", pa.string()),
        pa.field("revision", pa.int64()),
        pa.field("judgement", pa.string()),
        pa.field("personal", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("comment", pa.string()),
        pa.field("pseudonyms", pa.string()),
    ]
)

_FEW_VALUES = frozenset(
    ("kind", "source", "system", "category", "segment", "signal", "licence", "form", "role", "finish_reason",
     "base_digest", "adapter_digest")
)  # fmt: skip
"""Columns whose values repeat: only for them a dictionary pays."""
NUMBER = "number"
_JSON = msgspec.json.Encoder()

INFERENCES = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("pair_id", pa.string()),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("explicit", pa.bool_(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("segment", pa.string()),
        pa.field("assignment_probability", pa.float64(), nullable=False),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False),
        pa.field("output", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("completion_tokens", pa.int64(), nullable=False),
        pa.field("latency_ms", pa.float64(), nullable=False),
        pa.field("first_token_ms", pa.float64(), nullable=False),
        pa.field("base_digest", pa.string(), nullable=False),
        pa.field("adapter_digest", pa.string(), nullable=False),
        pa.field("created_at", _TIME, nullable=False),
        pa.field("asked", pa.string()),
        pa.field("tools", pa.string()),
        pa.field("tool_calls", pa.string()),
    ]
)


def rows_to_parquet(rows: Sequence[Row], redaction: Redaction | None = None) -> bytes:
    """A segment of rows (schema `ROWS`), without the personal data that `redaction` names."""
    values = list(zip(*map(msgspec.structs.astuple, rows), strict=True)) if rows else [() for _ in ROWS.names]
    columns: dict[str, Any] = dict(zip(Row.__struct_fields__, values, strict=True))
    if redaction is not None:
        redaction.apply(columns)
    columns["judgement"] = [each and _JSON.encode(each).decode() for each in columns["judgement"]]
    return _parquet(columns, ROWS)


def inferences_to_parquet(log: Sequence[Inference]) -> bytes:
    """A segment of the inference log (schema `INFERENCES`)."""
    columns: dict[str, list[Any]] = {
        name: [getattr(each, name) for each in log]
        for name in INFERENCES.names
        if name not in ("messages", "role", "base_digest", "adapter_digest", "asked", "tools", "tool_calls")
    }
    columns["role"] = [each.role.value for each in log]
    columns["messages"] = [[{"role": one.role, "content": one.content} for one in each.messages] for each in log]
    columns["asked"] = [
        dump([in_openai_form(one) for one in each.messages])
        if any(one.tool_calls or one.tool_call_id for one in each.messages) else None
        for each in log
    ]  # fmt: skip
    columns["tools"] = [each.tools or None for each in log]
    columns["tool_calls"] = [
        dump([one.model_dump() for one in each.tool_calls]) if each.tool_calls else None for each in log
    ]
    columns["base_digest"] = [each.provenance.base_digest for each in log]
    columns["adapter_digest"] = [each.provenance.adapter_digest for each in log]
    return _parquet(columns, INFERENCES)


def weight(data: bytes) -> int:
    """How many bytes the columns of an object take unpacked."""
    file = pq.read_metadata(pa.BufferReader(data))
    return sum(file.row_group(at).total_byte_size for at in range(file.num_row_groups))


def merged(parts: Sequence[bytes]) -> bytes:
    """One segment with the rows of several of one schema, in their order."""
    tables = [pq.read_table(pa.BufferReader(part)) for part in parts]
    return written(pa.concat_tables(tables, promote_options="default"))


def together(segments: Sequence[tuple[int, bytes]]) -> bytes:
    """One object for several segments (number and bytes), in which each row says which segment it belongs to."""
    tables = []
    for number, data in segments:
        table = segment_of(pq.read_table(pa.BufferReader(data)), number)
        tables.append(table.append_column(NUMBER, pa.array([number] * table.num_rows, pa.int64())))
    return written(pa.concat_tables(tables, promote_options="default"))


def segment_of(table: pa.Table, number: int) -> pa.Table:
    """The rows of one segment of an object, which may hold others too."""
    if NUMBER not in table.schema.names:
        return table
    return table.filter(pc.equal(table.column(NUMBER), number)).drop_columns([NUMBER])


def _parquet(columns: dict[str, Any], schema: pa.Schema) -> bytes:
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return written(pa.Table.from_arrays(arrays, schema=schema))


def written(table: pa.Table) -> bytes:
    """A table of either schema as Parquet, in bytes of its own: who could not list them may delete them, for no other
    attempt has put the same.
    """
    table = table.replace_schema_metadata({"attempt": token_hex(8)})
    sink = pa.BufferOutputStream()
    named = [name for name in table.schema.names if name in _FEW_VALUES]
    pq.write_table(table, sink, compression="zstd", use_dictionary=named, write_statistics=False)
    return bytes(sink.getvalue())


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind) if any(each is not None for each in values) else pa.nulls(len(values), kind)
