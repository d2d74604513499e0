import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec
from libs.contracts.taskfile import parse_task

GOOD = """
task: triage
base: ./base
output:
  format: json
  schema: {type: object}
"""

BOMB = "a0: &a0 [x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 6)}]\n" for n in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (GOOD + "recipe:\n  lerning_rate: 3\n", "recipe.lerning_rate", "task.yaml:8: .*did you mean 'learning_rate'"),
        (GOOD + "recipi: {}\n", "recipi", "task.yaml:7: unknown key 'recipi'; did you mean 'recipe'"),
        (GOOD + "recipe: {rank: 7}\n", "recipe.rank", "task.yaml:7: recipe.rank: Input should be 8, 16, 32 or 64"),
        (GOOD + "recipe:\n  method: lorra\n", "recipe", "task.yaml:7: recipe: method must be one of lora, qlora"),
        (GOOD + "recipe:\n  method: dpo\n  bta: 1\n", "recipe.bta", "task.yaml:9: .*did you mean 'beta'"),
        (GOOD + "recipe: {method: dpo, top_k: 2}\n", "recipe.top_k", "task.yaml:7: unknown key 'recipe.top_k'"),
        (GOOD + "recipe: {method: distil-sequence}\n", "recipe.teacher", "task.yaml:7: recipe.teacher: Field required"),
        (GOOD + "recipe: {validation: {patience: 2}}\n", "recipe.validation", "patience needs every_steps"),
        (GOOD + "base: twice\n", "base", "task.yaml:7: key 'base' is given twice"),
        (GOOD + "rollout: {canary: {steps: [5, 3]}}\n", "rollout.canary", "steps must rise"),
        (GOOD + "data: {split: {train: 0.9}}\n", "data.split", "must be 1, not 1.2"),
        (GOOD + "evaluation:\n  gates:\n    - {name: a, kind: floor}\n", "evaluation.gates.0", "needs 'at_least'"),
        (
            GOOD + "evaluation:\n  gates:\n    - {name: a, kind: floor, at_leest: 1}\n",
            "evaluation.gates.0.at_leest",
            "did you mean 'at_least'",
        ),
        ("task: a\n  base: [", "task.yaml", "task.yaml:2: not YAML"),
        ("task: &a [*a]\n", "task.yaml", "task.yaml: more than 20000 entries, aliases written out"),
        (BOMB, "task.yaml", "task.yaml: more than 20000 entries, aliases written out"),
        ("task: " + "[" * 700, "task.yaml", "task.yaml: nested too deeply"),
        ("- a list\n", "task.yaml", "a task file is a mapping with the keys task"),
        ("base: ./base\n", "task", "task: Field required"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_nearest_key(text: str, field: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_task(text)
    assert caught.value.field == field


def test_a_task_survives_the_way_through_json() -> None:
    spec = parse_task(GOOD + "recipe: {method: kto, beta: 0.2}")
    assert spec.recipe.method == "kto"
    assert spec.output.schema_ == {"type": "object"}
    assert TaskSpec.model_validate_json(spec.model_dump_json()) == spec
