"""What a measurement comes to: a value with its interval, and a verdict."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Verdict(StrEnum):
    """Every gate and every assessment says one of three things."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Estimate(BaseModel):
    """A value with its interval (95 % unless the field's owner says otherwise) and sample size."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    n: int
