"""The methods a recipe can name; each is the same four parts."""

from services.trainer.compute.methods.completion import Completion, read_answers
from services.trainer.compute.methods.distil import Distillation
from services.trainer.compute.methods.dpo import Preference, read_pairs
from services.trainer.compute.methods.full import prepare_full, save_weights
from services.trainer.compute.methods.kto import Verdicts, read_verdicts
from services.trainer.compute.methods.lora import prepare_lora, save_adapter
from services.trainer.compute.methods.qlora import prepare_nf4
from services.trainer.compute.methods.shape import Language, Method, Objective

METHODS = {
    "lora": Method(read_answers, prepare_lora, Completion, save_adapter),
    "qlora": Method(read_answers, prepare_nf4, Completion, save_adapter),
    "full": Method(read_answers, prepare_full, Completion, save_weights),
    # The teacher's answers are in the rows by now: who asked it is outside of this process.
    "distil-sequence": Method(read_answers, prepare_lora, Completion, save_adapter),
    "distil-logits": Method(read_answers, prepare_lora, Distillation, save_adapter),
    "dpo": Method(read_pairs, prepare_lora, Preference, save_adapter),
    "kto": Method(read_verdicts, prepare_lora, Verdicts, save_adapter),
}

__all__ = ["METHODS", "Language", "Method", "Objective"]
