"""How a candidate goes live: shadow, then canary steps, then stable."""

from typing import Self

from pydantic import Field, model_validator

from libs.contracts.task.section import Fraction, Probability, Section


class ShadowSpec(Section):
    """Shadow pairs: the same request to stable and challenger, scored by correction, praise or rule."""

    rate: Fraction = 1.0
    min_pairs: int = Field(60, ge=1)
    margin: Fraction = Field(0.05, description="non-inferiority margin on the paired score")
    alpha: Probability = 0.05


class CanarySpec(Section):
    """Canary steps test for harm only, per closed user-window."""

    steps: tuple[int, ...] = Field((5, 25, 50, 100), description="per cent of user units, rising, ending with 100")
    min_windows: int = Field(20, ge=1, description="closed canary user-windows needed at each step below 100")
    window_seconds: float = Field(
        60.0, gt=0.0, description="feedback later than this after the answer misses its window"
    )
    harm_ratio: float = Field(1.0, ge=1.0, description="relative risk of bad windows tolerated")
    alpha: Probability = 0.01

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or not self.steps or self.steps[-1] != 100 or self.steps[0] < 1:
            raise ValueError("steps must rise from at least 1 to 100")
        return self


class RolloutSpec(Section):
    """Shadow, then canary steps, then stable."""

    shadow: ShadowSpec = ShadowSpec()
    canary: CanarySpec = CanarySpec()
    stale_seconds: float = Field(60.0, gt=0.0, description="an assessment older than this holds the rollout")
