"""A task of lm-eval on local data, and whether there is an lm-eval to run it.

`PAWL_EVALUATOR_HARNESS_PYTHON` names an interpreter that has it, as in production; without one the tests' own is tried.
"""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

HARNESS_PYTHON = os.environ.get("PAWL_EVALUATOR_HARNESS_PYTHON", "")
needs_harness = pytest.mark.skipif(
    not HARNESS_PYTHON and find_spec("lm_eval") is None,
    reason="needs pawl[harness], here or behind PAWL_EVALUATOR_HARNESS_PYTHON",
)
_CAPITALS = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: capitals.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Capital of {{country}}?"
doc_to_target: "{{capital}}"
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
"""


def write_capitals(directory: Path, items: int) -> Path:
    """The task's directory: the capital of country `c7` is `Town7`."""
    directory.mkdir(exist_ok=True)
    (directory / "capitals.yaml").write_text(_CAPITALS)
    rows = [json.dumps({"country": f"c{n}", "capital": f"Town{n}"}) for n in range(items)]
    (directory / "capitals.jsonl").write_text("\n".join(rows))
    return directory
