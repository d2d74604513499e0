"""A worse answer and a verdict are never passed over, in whatever layout they were published."""

import json
from typing import Any

import pytest

from libs.contracts.task import ColumnMap
from services.ingestion.domain.columns import resolve, settle
from services.ingestion.domain.faults import BadRowError
from services.ingestion.domain.records import row_of
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_shapes import ANSWER, CALLS, ORIGIN, RESULT, TOOLS, USER, read

NO = {"role": "assistant", "content": "No idea."}
ASKED, GOOD, BAD = USER["content"], ANSWER["content"], NO["content"]
TALK = [USER, ANSWER, {"role": "user", "content": "And here?"}]


def says(who: str, what: str) -> dict[str, str]:
    return {"from": who, "value": what}


PICTURE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
DIALOGUE = "\n\nHuman: Weather in Ulm?\n\nAssistant: Today?\n\nHuman: Yes,\n\nin Ulm.\n\nAssistant:"
OPENAI = {"input": {"messages": [USER], "tools": TOOLS}}
PAIRS: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "UltraFeedback binarized": (
        {"prompt": ASKED, "prompt_id": "f0e37e", "messages": [USER, ANSWER], "chosen": [USER, ANSWER],
         "rejected": [USER, NO], "score_chosen": 8.0, "score_rejected": 2.5},
        "trl-preference", ASKED, 2,
    ),
    "UltraFeedback without messages": (
        {"prompt": ASKED, "chosen": [USER, ANSWER], "rejected": [USER, NO]}, "trl-preference", ASKED, 2,
    ),
    "TRL, implicit prompt": ({"chosen": [*TALK, ANSWER], "rejected": [*TALK, NO]}, "trl-preference", "And here?", 4),
    "TRL, explicit prompt": ({"prompt": TALK, "chosen": [ANSWER], "rejected": [NO]}, "trl-preference", "And here?", 4),
    "TRL, prompt and whole conversations": (
        {"prompt": TALK, "chosen": [*TALK, ANSWER], "rejected": [*TALK, NO]}, "trl-preference", "And here?", 4,
    ),
    "a prompt that is the last question only": (
        {"prompt": "And here?", "chosen": [*TALK, ANSWER], "rejected": [*TALK, NO]}, "trl-preference", "And here?", 4,
    ),
    "answers that begin with the same call": (
        {"prompt": [USER], "chosen": [CALLS, RESULT, ANSWER], "rejected": [CALLS, RESULT, NO], "tools": TOOLS},
        "trl-preference", "12 C", 4,
    ),
    "Anthropic HH": (
        {"chosen": f"{DIALOGUE} {GOOD}", "rejected": f"{DIALOGUE} {BAD}"}, "trl-preference", "Yes,\n\nin Ulm.", 4,
    ),
    "Anthropic HH with its prompt apart": (
        {"prompt": DIALOGUE, "chosen": f" {GOOD}", "rejected": f" {BAD}"}, "trl-preference", "Yes,\n\nin Ulm.", 4,
    ),
    "messages and two answers": (
        {"messages": TALK, "chosen": ANSWER, "rejected": NO}, "trl-preference", "And here?", 4,
    ),
    "messages that end with the chosen answer": (
        {"messages": [*TALK, ANSWER], "chosen": [ANSWER], "rejected": [NO]}, "trl-preference", "And here?", 4,
    ),
    "LLaMA-Factory, ShareGPT": (
        {"conversations": [says("human", ASKED)], "chosen": says("gpt", GOOD), "rejected": says("gpt", BAD)},
        "sharegpt-preference", ASKED, 2,
    ),
    "LLaMA-Factory, Alpaca": (
        {"instruction": "Weather", "input": "Ulm", "chosen": GOOD, "rejected": BAD},
        "alpaca-preference", "Weather\n\nUlm", 0,
    ),
    "a question and two answers": (
        {"system": "", "question": ASKED, "chosen": GOOD, "rejected": BAD}, "question-preference", ASKED, 0,
    ),
    "a system prompt beside": (
        {"system": "Be brief.", "question": ASKED, "chosen": GOOD, "rejected": BAD}, "question-preference", ASKED, 3,
    ),
    "OpenAI DPO": (
        {**OPENAI, "preferred_output": [ANSWER], "non_preferred_output": [NO]}, "openai-dpo", ASKED, 2,
    ),
    "OpenAI DPO by its first names": (
        {**OPENAI, "preferred_completion": [ANSWER], "non_preferred_completion": [NO]}, "openai-dpo-completion",
        ASKED, 2,
    ),
    "a pair with a verdict": (
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "label": True}, "trl-preference", ASKED, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", PAIRS)
def test_a_pair_of_any_layout_is_two_answers_to_one_question(layout: str) -> None:
    record, shape, asked, messages = PAIRS[layout]
    told, row = read(record)
    assert (told, row.form, row.input) == (shape, "preference", asked)
    assert ((row.output or "").strip(), (row.rejected or "").strip()) == (GOOD, BAD)
    kept = json.loads(row.messages or "[]")
    assert len(kept) == messages
    assert not kept or (kept[-1]["role"], kept[-1]["content"].strip()) == ("assistant", GOOD)
    assert (row.tools is not None) == ("tools" in json.dumps(record))


CHAT = {"messages": [USER, NO]}
SHAREGPT = {"conversations": [says("human", ASKED), says("gpt", BAD)]}
VERDICTS: list[tuple[dict[str, Any], str]] = [
    ({**CHAT, "label": False}, "openai-messages-kto"),
    ({**CHAT, "kto_tag": False}, "openai-messages-kto"),
    ({**CHAT, "kto_tag": "false"}, "openai-messages-kto"),
    ({**SHAREGPT, "kto_tag": False}, "sharegpt-kto"),
    ({**SHAREGPT, "label": False}, "sharegpt-kto"),
    ({"instruction": ASKED, "input": "", "output": BAD, "kto_tag": False}, "alpaca-kto"),
    ({"question": ASKED, "answer": BAD, "label": False}, "question-answer-kto"),
    ({"prompt": ASKED, "completion": BAD, "label": False}, "trl-kto"),
    ({"prompt": ASKED, "completion": BAD, "label": 0}, "trl-kto"),
    ({"prompt": ASKED, "completion": BAD, "kto_tag": False}, "trl-kto"),
    ({"prompt": [USER], "completion": [NO], "label": False}, "trl-kto"),
    ({"input": ASKED, "output": BAD, "label": False}, "columns"),
    ({"input": ASKED, "output": BAD, "label": "False"}, "columns"),
    ({**CHAT, "label": " false"}, "openai-messages-kto"),
    ({"question": ASKED, "answer": BAD, "label": "FALSE"}, "question-answer-kto"),
]


@pytest.mark.parametrize(("record", "shape"), VERDICTS)
def test_an_answer_that_is_said_to_be_bad_is_never_one_to_learn(record: dict[str, Any], shape: str) -> None:
    told, row = read(record)
    assert (told, row.form, row.label, row.signal) == (shape, "kto", False, "bad")
    assert (row.input, row.output, row.rejected) == (ASKED, None, BAD)


@pytest.mark.parametrize("label", [0, 1, 7, "DELIVERY", "falsehood", "0", None])
def test_a_class_of_a_classification_is_no_verdict(label: object) -> None:
    for record in (CHAT, SHAREGPT, {"instruction": ASKED, "output": BAD}, {"input": ASKED, "output": BAD}):
        told, row = read({**record, "label": label})
        assert (row.form, row.label, row.output) == ("sft", None, BAD), told


MAPPED = {"input": "q", "output": "a", "rejected": "b", "label": "ok"}


def test_an_empty_cell_of_a_mapped_verdict_is_not_taken_for_a_good_one() -> None:
    for empty in ({"ok": ""}, {"ok": None}):
        with pytest.raises(BadRowError) as raised:
            read({"q": ASKED, "a": BAD, "b": "", **empty}, **MAPPED)
        assert (raised.value.field, raised.value.reason.startswith("is empty")) == ("ok", True)


@pytest.mark.parametrize("label", ["1", "", None])
def test_a_worse_answer_is_kept_where_a_verdict_is_mapped_too(label: object) -> None:
    _, row = read({"q": ASKED, "a": GOOD, "b": BAD, "ok": label}, **MAPPED)
    assert (row.form, row.output, row.rejected) == ("preference", GOOD, BAD)
    with pytest.raises(BadRowError, match="ok: says that the answer is bad"):
        read({"q": ASKED, "a": GOOD, "b": BAD, "ok": "0"}, **MAPPED)


def test_a_shape_that_is_named_is_read_as_it_is_named() -> None:
    record = {**CHAT, "label": False}
    columns = settle(resolve(ColumnMap(), {}, "openai-messages"), list(record), [record])
    assert row_of(record, 1, columns, ORIGIN).form == "sft"
    record = {"input": ASKED, "output": BAD, "label": False}
    columns = settle(resolve(ColumnMap(), {}, "columns"), list(record), [record])
    assert row_of(record, 1, columns, ORIGIN).form == "sft"


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [CALLS, RESULT, NO]}, "rejected", "holds 3 messages"),
        ({"prompt": [USER], "chosen": [CALLS, RESULT, ANSWER], "rejected": [NO]}, "chosen", "holds 3 messages"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [CALLS]}, "rejected", "the record offers none"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [{**CALLS, "content": "Let me look."}], "tools": TOOLS},
         "rejected", "one or the other"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": [PICTURE]}]},
         "rejected", "a part of the type 'image_url'"),
        ({"prompt": "Who?", "chosen": [USER, ANSWER], "rejected": [USER, NO]}, "prompt", "another question"),
        ({"prompt": "Who?", "chosen": "He.", "rejected": "He."}, "rejected", "is the same conversation"),
        ({"chosen": "The sky is blue.", "rejected": "The sky is red."}, "rejected", "they share no question"),
        ({"conversations": [says("human", "q"), says("gpt", "a")], "chosen": says("gpt", "b"),
          "rejected": says("gpt", "c")}, "conversations", "the answer must follow"),
        ({"messages": [USER], "label": False}, "label", "there is no answer"),
    ],
)  # fmt: skip
def test_what_is_no_pair_and_what_is_no_verdict_is_set_aside_by_name(
    record: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(BadRowError) as raised:
        read(record)
    assert (raised.value.field, reason in raised.value.reason) == (field, True), raised.value


async def test_a_record_with_more_to_say_than_most_of_its_file_says_it(house: House) -> None:
    plain = [{"messages": [{**USER, "content": f"q{at}"}, ANSWER]} for at in range(5)]
    rows = [*plain, {**CHAT, "label": False}, {"messages": TALK, "chosen": ANSWER, "rejected": NO}]
    record = await house.import_bytes(b"\n".join(json.dumps(each).encode() for each in rows))
    assert (record.shape, record.accepted) == ("openai-messages", 7)
    assert [row["form"] for row in await house.rows("triage")] == [*["sft"] * 5, "kto", "preference"]
