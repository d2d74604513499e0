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


class LiveSpec(Section):
    """How production is watched all the time, rollout or not. The unit is a user in a closed window, never a request."""

    window_seconds: float = Field(60.0, gt=0.0, description="a user's requests within it make one good or bad window")
    delay_seconds: float = Field(60.0, ge=0.0, description="how long a window waits for feedback after its end")
    user_seconds: float = Field(86_400.0, ge=0.0, description="a user counts once within this time")
    span_seconds: float = Field(3_600.0, gt=0.0, description="what the live page looks back over")
    reference_users: int = Field(
        200, ge=20, description="the first users of a new stable version; what they ask and get is what is normal"
    )
    drift_index: float = Field(0.1, gt=0.0, description="population stability index from which inputs have moved")
    refusals: tuple[str, ...] = Field((), description="beginnings of answers that are refusals, beside the usual ones")


class DropSpec(Section):
    """When production got worse: too many bad user-windows, by a detector that may watch for ever.

    Without `floor` it is learnt: what the reference users of the stable version had, less `margin`.
    """

    floor: Probability | None = Field(None, description="least tolerated share of user-windows without a bad answer")
    margin: Fraction = Field(0.05, description="how far below the reference counts as a drop")
    run_length: float = Field(10_000.0, gt=1.0, description="user-windows between false alarms, at the least")
    dwell_seconds: float = Field(300.0, ge=0.0, description="how long the evidence must hold before it is told")
    cooldown_seconds: float = Field(86_400.0, ge=0.0, description="rest after a drop was told")


class RolloutSpec(Section):
    """Shadow, then canary steps, then stable."""

    shadow: ShadowSpec = ShadowSpec()
    canary: CanarySpec = CanarySpec()
    live: LiveSpec = LiveSpec()
    stale_seconds: float = Field(60.0, gt=0.0, description="an assessment older than this holds the rollout")
