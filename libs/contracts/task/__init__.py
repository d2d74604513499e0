"""The task specification: everything a task declares about itself, in one YAML file."""

from libs.contracts.task.data import ColumnMap, DataSpec, DuplicateSpec, PersonalData, RedactionSpec, SplitSpec
from libs.contracts.task.evaluation import AdmissionSpec, EvaluationSpec, GateSpec, SuiteSpec
from libs.contracts.task.recipe import RecipeSpec
from libs.contracts.task.rollout import CanarySpec, RolloutSpec, ShadowSpec
from libs.contracts.task.section import Section
from libs.contracts.task.spec import OutputSpec, TaskSpec, TriggerSpec

__all__ = [
    "AdmissionSpec",
    "CanarySpec",
    "ColumnMap",
    "DataSpec",
    "DuplicateSpec",
    "EvaluationSpec",
    "GateSpec",
    "OutputSpec",
    "PersonalData",
    "RecipeSpec",
    "RedactionSpec",
    "RolloutSpec",
    "Section",
    "ShadowSpec",
    "SplitSpec",
    "SuiteSpec",
    "TaskSpec",
    "TriggerSpec",
]
