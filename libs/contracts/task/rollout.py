"""How a candidate goes live: shadow, then canary steps, then stable."""

from datetime import UTC, datetime, time
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from libs.contracts.task.section import Fraction, Probability, Section

DAYS: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
    "mon", "tue", "wed", "thu", "fri", "sat", "sun",
)  # fmt: skip


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
    """How production is watched, rollout or not. The unit is a user in a closed window, never a request."""

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


class FreezeWindow(Section):
    """When no rollout advances: every week on `days` from `start` to `end` (UTC), or once from `since` until `until`.

    A window whose end is not after its start ends on the next day. Harm is acted on in a freeze as at any time.
    """

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = DAYS
    start: time | None = None
    end: time | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    reason: str = "freeze window"

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        given = [each is not None for each in (self.start, self.end, self.since, self.until)]
        if given not in ([True, True, False, False], [False, False, True, True]):
            raise ValueError("give start and end (every week), or since and until (once)")
        return self

    def holds(self, now: datetime) -> bool:
        """Whether `now` (aware) lies in the window."""
        if self.since is not None and self.until is not None:
            return self.since <= now < self.until
        if self.start is None or self.end is None:
            return False
        moment = now.astimezone(UTC)
        at, today, yesterday = moment.time(), DAYS[moment.weekday()], DAYS[moment.weekday() - 1]
        if self.start < self.end:
            return today in self.days and self.start <= at < self.end
        return (today in self.days and at >= self.start) or (yesterday in self.days and at < self.end)


class RolloutSpec(Section):
    """Shadow, then canary steps, then stable."""

    shadow: ShadowSpec = ShadowSpec()
    canary: CanarySpec = CanarySpec()
    live: LiveSpec = LiveSpec()
    stale_seconds: float = Field(60.0, gt=0.0, description="an assessment older than this holds the rollout")
    freeze: tuple[FreezeWindow, ...] = Field((), description="when nothing advances, by evidence or by hand")

    def frozen(self, now: datetime) -> str | None:
        """Why nothing may advance at `now` (aware); None when it may."""
        return next((each.reason for each in self.freeze if each.holds(now)), None)
