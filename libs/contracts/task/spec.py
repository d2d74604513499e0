"""The whole task specification."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from libs.contracts.ids import NAME_PATTERN
from libs.contracts.task.data import DataSpec
from libs.contracts.task.evaluation import EvaluationSpec
from libs.contracts.task.recipe import LoraRecipe, RecipeSpec
from libs.contracts.task.rollout import DropSpec, RolloutSpec
from libs.contracts.task.routing import RoutingSpec
from libs.contracts.task.section import Section


class OutputSpec(Section):
    """What a good answer looks like. `schema` (JSON Schema) is checked on every answer when `format` is json."""

    format: Literal["text", "json"] = "text"
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    max_tokens: int = Field(256, ge=1, le=8192)
    enforce: bool = Field(False, description="hold every answer to the schema while it is decoded")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class TriggerSpec(Section):
    """What opens a turn by itself."""

    on_import: bool = True
    corrections: int | None = Field(
        None, ge=1, description="new corrections, of sources that may train, since the last turn began"
    )
    on_drop: DropSpec | None = Field(None, description="a drop of production, once there is something new to learn")
    cooldown_seconds: float = Field(0.0, ge=0.0)


class TaskSpec(Section):
    """One specialisation of one base model."""

    task: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    base: str = Field(min_length=1, description="a directory beside the task file, or a Hugging Face model id")
    system: str = Field("", max_length=16_384, description="system prompt for requests that bring none")
    output: OutputSpec = OutputSpec()
    data: DataSpec = DataSpec()
    recipe: RecipeSpec = LoraRecipe()
    evaluation: EvaluationSpec = EvaluationSpec()
    rollout: RolloutSpec = RolloutSpec()
    routing: RoutingSpec = RoutingSpec()
    triggers: TriggerSpec = TriggerSpec()
    approvals: int = Field(0, ge=0, description="named approvals needed between a pass and the rollout")
