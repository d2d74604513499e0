"""The task specification: everything a task declares about itself, in one YAML file."""

from libs.contracts.task.curation import Act, CurationSpec, JudgeSpec, SynthesisSpec
from libs.contracts.task.data import (
    ColumnMap,
    DataSpec,
    DuplicateSpec,
    FeedbackSpec,
    PersonalData,
    RedactionSpec,
    SplitSpec,
)
from libs.contracts.task.evaluation import (
    AdmissionSpec,
    ArmSpec,
    EndpointSpec,
    EvaluationSpec,
    ExtraSuiteSpec,
    GateSpec,
    MetricSpec,
    PriceSpec,
    SuiteSpec,
    VariantSpec,
)
from libs.contracts.task.recipe import LoraRecipe, RecipeSpec, Training, recipe_of
from libs.contracts.task.rollout import CanarySpec, DropSpec, LiveSpec, RolloutSpec, ShadowSpec
from libs.contracts.task.section import Section
from libs.contracts.task.spec import OutputSpec, TaskSpec, TriggerSpec

__all__ = [
    "Act",
    "AdmissionSpec",
    "ArmSpec",
    "CanarySpec",
    "ColumnMap",
    "CurationSpec",
    "DataSpec",
    "DropSpec",
    "DuplicateSpec",
    "EndpointSpec",
    "EvaluationSpec",
    "ExtraSuiteSpec",
    "FeedbackSpec",
    "GateSpec",
    "JudgeSpec",
    "LiveSpec",
    "LoraRecipe",
    "MetricSpec",
    "OutputSpec",
    "PersonalData",
    "PriceSpec",
    "RecipeSpec",
    "RedactionSpec",
    "RolloutSpec",
    "Section",
    "ShadowSpec",
    "SplitSpec",
    "SuiteSpec",
    "SynthesisSpec",
    "TaskSpec",
    "Training",
    "TriggerSpec",
    "VariantSpec",
    "recipe_of",
]
