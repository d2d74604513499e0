"""A file comes in at the terminal and over HTTP, its shape is named, and what was set aside can be had back."""

import json
import re
from pathlib import Path

import httpx

from tests.e2e.stack import RunningStack, small_task

TASK = "file-doors"
TURNS = [{"role": "user", "content": "My printer burns."}, {"role": "assistant", "content": "Call the fire brigade."}]


def test_a_file_with_a_bad_row_is_taken_at_every_door(stack: RunningStack, tmp_path: Path) -> None:
    changes = {"task:": f"task: {TASK}", "  on_import:": "  on_import: false"}
    stack.pawl("apply", str(small_task(tmp_path / "task", **changes)))
    chats = tmp_path / "chats.json"
    chats.write_text(json.dumps([{"messages": TURNS}] * 9 + [{"messages": "none"}]))
    said = stack.pawl("import", str(chats), "--task", TASK)
    assert "chats.json (json, openai-messages): 10 rows, 9 accepted" in said
    found = re.search(r"pawl quarantine (import-\S+)", said)
    assert found is not None
    (line,) = stack.pawl("quarantine", found[1]).splitlines()
    assert json.loads(line)["row"] == 10
    assert json.loads(json.loads(line)["raw"]) == {"messages": "none"}
    status = stack.status()
    answer = httpx.post(
        f"{status['endpoints']['imports']}/imports",
        params={"task": TASK, "name": "pairs.jsonl"},
        content=b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n',
        headers={"authorization": f"Bearer {status['api_key']}"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["shape"]) == (201, "trl-preference")
