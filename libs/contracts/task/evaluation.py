"""What a candidate is proven on, and the gates it must pass."""

from typing import Literal, Self

from pydantic import Field, model_validator

from libs.contracts.ids import NAME_PATTERN
from libs.contracts.task.section import Fraction, Probability, Section


class AdmissionSpec(Section):
    """Which feedback may enter the frozen gate suite (as a new suite version), so that poison cannot judge itself."""

    sources: tuple[str, ...] = ()


class SuiteSpec(Section):
    """The gate suite: the test split of the first dataset version, frozen; extended only by admission."""

    max_items: int = Field(400, ge=10)
    admit: AdmissionSpec = AdmissionSpec()


class GateSpec(Section):
    """A rule on a report.

    superiority: the paired difference to `against` exceeds `margin` (interval above it).
    non_inferiority: the paired difference exceeds `-margin`. floor: the metric itself exceeds `at_least`.
    """

    name: str = Field(pattern=NAME_PATTERN)
    kind: Literal["superiority", "non_inferiority", "floor"]
    metric: Literal["exact_match", "json_valid"] = "exact_match"
    against: Literal["base", "stable"] | None = None
    margin: Fraction = 0.0
    at_least: Fraction | None = None
    alpha: Probability = 0.05

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "floor" and self.at_least is None:
            raise ValueError("a floor gate needs 'at_least'")
        if self.kind != "floor" and self.against is None:
            raise ValueError(f"a {self.kind} gate needs 'against' (base or stable)")
        if self.kind == "non_inferiority" and self.margin == 0.0:
            raise ValueError("a non_inferiority gate needs a 'margin' above 0")
        return self


class EvaluationSpec(Section):
    """Suite, gates and what a held-out item is scored by."""

    suite: SuiteSpec = SuiteSpec()
    gates: tuple[GateSpec, ...] = (GateSpec(name="better-than-base", kind="superiority", against="base"),)
    concurrency: int = Field(16, ge=1, le=256)
