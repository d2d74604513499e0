"""A text that a chat template rendered is the conversation it was; any other text is refused by name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.errors import InvalidInput
from services.ingestion.domain.rendered import turns_in
from services.ingestion.tests.conftest import House

TURNS = [
    ("system", "Be brief."),
    ("user", "2+2?\n\nQuickly."),
    ("assistant", "4"),
    ("user", "3+3?"),
    ("assistant", "6"),
]
TEMPLATES = {
    "ChatML": "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in TURNS),
    "ChatML, closed by the end of the text": "".join(
        f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in TURNS
    )[:-11] + "</s>",
    "Llama 3": "<|begin_of_text|>"
    + "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{said}<|eot_id|>" for role, said in TURNS)
    + "<|end_of_text|>",
    "Gemma": "<bos>"
    + "".join(
        f"<start_of_turn>{'model' if role == 'assistant' else role}\n{said}<end_of_turn>\n" for role, said in TURNS
    ),
    "Zephyr": "".join(f"<|{role}|>\n{said}</s>\n" for role, said in TURNS),
    "Phi": "".join(f"<|{role}|>\n{said}<|end|>\n" for role, said in TURNS) + "<|endoftext|>",
    "Llama 2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2+2?\n\nQuickly. [/INST] 4 </s><s>[INST] 3+3? [/INST] 6 </s>",
    "Guanaco": "".join(
        f"### {({'user': 'Human'}).get(role, role.capitalize())}: {said}" for role, said in TURNS
    ),
}  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_is_told_apart_into_its_turns(template: str) -> None:
    turns = turns_in(TEMPLATES[template])
    assert turns is not None
    assert [(each["role"], each["content"]) for each in turns] == TURNS


def test_alpacas_headings_are_a_question_and_its_answer() -> None:
    preamble = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request."
    )
    text = "\n\n### Instruction:\nAdd.\n\n### Input:\n2, 2\n\n### Response:\n4</s>"
    turns = [{"role": "user", "content": "Add.\n\n2, 2"}, {"role": "assistant", "content": "4"}]
    assert turns_in(preamble + text) == turns
    assert turns_in(text.strip()) == turns
    told = "Below is an instruction that describes a task. Answer in German."
    assert turns_in(told + text) == [{"role": "system", "content": told}, *turns]


def test_headings_of_another_template_within_an_answer_are_its_text() -> None:
    answer = "Use this:\n### Instruction: do X\n### Response: Y"
    assert turns_in(f"### Human: How?### Assistant: {answer}") == [
        {"role": "user", "content": "How?"}, {"role": "assistant", "content": answer},
    ]  # fmt: skip
    answer = "Write ### Response: or\n### Human: into it"
    assert turns_in(f"### Instruction:\nHow?\n\n### Response:\n{answer}") == [
        {"role": "user", "content": "How?"}, {"role": "assistant", "content": answer},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "Ulm lies on the Danube.",
        "Question: 2+2?\nAnswer: 4",
        "In ChatML one writes <|im_start|>user\nhello<|im_end|>",
        "<|im_start|>user\nhello<|im_end|> and more <|im_start|>assistant\nhi<|im_end|>",
        "<|im_start|>user\nhello<|im_start|>assistant\nhi<|im_end|>",
        "<|im_start|>wizard\nhello<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nhi<|im_end|> trailing",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nThe answer is tru",
        "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\ntru",
        "### Instruction:\nHow?\n\n### Response:\nUse:\n### Instruction: X\n### Response: Y",
        "### Human: q### Assistant: a\n### System: b",
        "[INST] a question without its end",
        "# Title\n\n### Human: q### Assistant: a",
        "### Setup\n\nInstall it.",
        "",
    ],
)
def test_a_text_that_leaves_doubt_is_no_conversation(text: str) -> None:
    assert turns_in(text) is None


MARKS = [
    "<|im_start|>", "user", "\n", "<|im_end|>", "[INST]", "[/INST]", "### Human:", "x", "</s>", "### Input:",
    "\n\nHuman:", "\n\nAssistant:", "<|user|>",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(MARKS), max_size=12))
def test_no_text_breaks_the_reader(parts: list[str]) -> None:
    turns_in("".join(parts))


async def test_texts_that_were_not_rendered_are_refused_and_rendered_ones_learnt(house: House) -> None:
    rendered = [{"text": TEMPLATES["ChatML"].replace("3+3?", f"{at}+3?")} for at in range(3)]
    plain = {"text": "Ulm lies on the Danube."}
    with pytest.raises(InvalidInput, match="a text alone does not say"):
        await house.import_bytes(b"\n".join(json.dumps({"text": f"t{at}"}).encode() for at in range(3)))
    record = await house.import_bytes(b"\n".join(json.dumps(each).encode() for each in [*rendered, plain]))
    assert (record.shape, record.accepted, record.quarantined) == ("trl-text", 3, 1)
    rows = await house.rows("triage")
    assert [(row["form"], row["system"], row["input"], row["output"]) for row in rows] == [
        ("sft", "Be brief.", f"{at}+3?", "6") for at in range(3)
    ]
    with pytest.raises(InvalidInput, match=r"rows are bad.*a text alone does not say"):
        await house.import_bytes(json.dumps(plain).encode(), shape="trl-text", name="b.jsonl")


async def test_a_column_that_was_mapped_wrongly_is_named_and_not_the_text(house: House) -> None:
    data = json.dumps({"text": "where is it?", "category": "DELIVERY"}).encode()
    with pytest.raises(InvalidInput, match="no column 'txet' for 'input'; did you mean 'text'"):
        await house.import_bytes(data, columns={"input": "txet", "category": "category"})
    record = await house.import_bytes(data, columns={"input": "text", "category": "category"})
    assert record.accepted == 1
