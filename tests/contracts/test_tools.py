"""A conversation with tools is trained as it is served: the same ids, and the call is the answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.task import recipe_of
from libs.contracts.tooling import read_message
from libs.testing.models import TEMPLATE, tiny_base
from services.curation.compute.tokens import TokenCounter
from services.evaluator.domain.suite import parse_suite
from services.serving.engine.compute.template import Renderer
from services.trainer.compute.bases import load_tokenizer, pad_of
from services.trainer.compute.mask import check_masks, check_text, show
from services.trainer.compute.methods import Language
from services.trainer.compute.reading import read_items
from services.trainer.compute.rows import read_rows

KNOWING = (
    "{%- if tools -%}{{- '<|system|>' + tools | tojson + '<|end|>' -}}{%- endif -%}"
    "{%- for m in messages -%}{{- '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>' + m['content'] -}}"
    "{%- for call in m['tool_calls'] or [] -%}{{- 'CALL ' + call.function.name + call.function.arguments | tojson -}}"
    "{%- endfor -%}{{- '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order": "7"}'}}
ASKED = {"role": "user", "content": [{"type": "text", "text": "where is order 7?"}]}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": "1", "content": "at the harbour"}
LINES: list[dict[str, Any]] = [
    {"row_id": "calls", "messages": [ASKED, CALLED], "tools": TOOLS},
    {"row_id": "tells", "messages": [ASKED, CALLED, FOUND, {"role": "assistant", "content": "There."}], "tools": TOOLS},
    {"row_id": "plain", "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]},
]


@pytest.mark.parametrize(
    ("template", "call"),
    [
        (TEMPLATE, '<tool_call>\n{"name": "find", "arguments": {"order": "7"}}\n</tool_call>'),
        (KNOWING, 'CALL find{"order": "7"}'),
    ],
    ids=["a template without tools", "a template that knows them"],
)
def test_tools_are_trained_as_they_are_served(tmp_path: Path, template: str, call: str) -> None:
    base = tiny_base(tmp_path / "base")
    (base / "chat_template.jinja").write_text(template)
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    tokenizer, stops = load_tokenizer(base)
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    items = list(read_items(file, base, language, recipe_of(max_length=2048), None).kept)
    check_masks(items, language)
    check_text(read_rows(file), items, language)
    learnt = {item.item_id: show(item, language)[0].parts[-1][0] for item in items}
    assert learnt == {"calls": f"{call}<|end|>", "tells": "There.<|end|>", "plain": "hi<|end|>"}
    files = {name: str(base / name) for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json")}
    counted = TokenCounter({name: file for name, file in files.items() if Path(file).exists()}).lengths(
        [line["messages"] for line in LINES], [line.get("tools") for line in LINES]
    )
    assert counted == [len(item.sequences[0].tokens) for item in items], "the audit says what training sees"
    serving = Renderer(base, 2048)
    for item, line in zip(items, LINES, strict=True):
        (sequence,) = item.sequences
        trained = [token for token, learns in zip(sequence.tokens, sequence.trained, strict=True) if not learns]
        asked = [read_message(each) for each in line["messages"][:-1]]
        assert tuple(trained) == serving.render(asked, line.get("tools", ())).token_ids


def test_a_suite_that_holds_calls_and_parts_can_be_asked() -> None:
    line = {"item_id": "i", "messages": [ASKED, CALLED, FOUND], "answer": "There."}
    (item,) = parse_suite(json.dumps(line))
    assert [each.content for each in item.messages] == ["where is order 7?", "", "at the harbour"]
    assert item.messages[1].tool_calls[0].name == "find"
