"""How a task's model is trained."""

from typing import Literal

from pydantic import Field

from libs.contracts.task.section import Fraction, Section


class RecipeSpec(Section):
    """How to train. Defaults follow the LoRA notes of the field: all-linear, alpha 2r, loss on completions only."""

    method: Literal["lora"] = "lora"
    start: Literal["base", "stable"] = Field("base", description="train from the bare base or continue from stable")
    rank: Literal[8, 16, 32, 64] = 16
    alpha: int = Field(32, ge=1)
    dropout: Fraction = 0.0
    learning_rate: float = Field(3e-4, gt=0.0, le=1.0)
    warmup_steps: int = Field(10, ge=0)
    batch_size: int = Field(16, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    epochs: float = Field(3.0, gt=0.0)
    max_steps: int | None = Field(None, ge=1)
    max_length: int = Field(512, ge=16, description="tokens; a longer example is dropped with a count, never cut")
    checkpoint_steps: int = Field(50, ge=1)
    seed: int = 0
