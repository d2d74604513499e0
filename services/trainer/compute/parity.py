"""What the trained model says to fixed prompts, token by token, for whoever serves it to compare with."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.parity import PARITY_FILE, Parity, Said, mismatch
from services.trainer.compute.learner import Learner
from services.trainer.compute.methods import Language

FORMAT = 1
# Nobody's data: an adapter outlives the rows it was trained on. Digits, scripts, markup, blanks and length are where
# tokenizers and templates differ.
PROMPTS = (
    "Hello",
    "The printer on the second floor has not worked since Monday, 09:30.",
    "Order 40213 was charged twice: 2 x 19.90 EUR. Please refund one of them!",
    '{"id": 7, "text": "It\'s \\"quoted\\", nested: [1, 2, {\\"a\\": null}]"}',
    "Größe, naïve café, 東京, Привет, \U0001f642",
    "  two  spaces,\ta tab\nand a line  ",
    "Summarise: " + "the quick brown fox jumps over the lazy dog; " * 8,
    "<|system|> is not a role here, and neither is <b>this</b> & that.",
)
_NEW_TOKENS = 8
SMALL = 2_000_000_000
"""Weights up to which a GPU computes the record in fp32."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def record(learner: Learner, language: Language, system: str, context: int) -> dict[str, Any]:
    """What `parity.json` holds: of every prompt that fits, its token ids, the greedy answer's and how likely they are.

    Computed in fp32 where that is affordable (`precision` says), with the adapter and without it. Weights are as
    trained; the model is left as it was.
    """
    learner.model.eval()
    small = learner.machine.device.type == "cpu" or sum(p.numel() for p in learner.plain.parameters()) < SMALL
    quantised = getattr(learner.plain, "is_loaded_in_4bit", False)
    exact = small and not quantised and not learner.placement.shared
    before = {name: weight.dtype for name, weight in learner.plain.named_parameters()} if exact else {}
    if exact:
        learner.plain.float()
    with contextlib.nullcontext() if exact else learner.reduced():
        items = learner.placement.within(lambda: _answers(learner, language, system, context))
    for name, weight in learner.plain.named_parameters():
        if name in before:
            weight.data = weight.data.to(before[name])
    learner.model.train()
    exact = exact or learner.machine.dtype is torch.float32
    kind = "nf4" if quantised else ("fp32" if exact else str(learner.machine.dtype).removeprefix("torch."))
    return {"format": FORMAT, "precision": kind, "items": items}


def write(made: dict[str, Any], directory: Path) -> None:
    """Write `parity.json`."""
    (directory / PARITY_FILE).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def _answers(learner: Learner, language: Language, system: str, context: int) -> list[dict[str, Any]]:
    items = []
    for text in PROMPTS:
        messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]
        prompt = _rendered(language.tokenizer, messages)
        if prompt is None or len(prompt) + _NEW_TOKENS > context:
            continue
        answer, said = _greedy(learner.model, language, prompt, learner.machine.device)
        items.append(
            {
                "messages": messages,
                "prompt_token_ids": prompt,
                "completion_token_ids": answer,
                "logprobs": said,
                "base_logprobs": _without_adapter(learner, prompt, answer),
            }
        )
    return items


@torch.no_grad()  # type: ignore[untyped-decorator]
def log_probs(model: Any, prompt: Sequence[int], answer: Sequence[int], device: torch.device) -> list[float]:
    """Log-probabilities (nats) of the answer's tokens after the prompt."""
    tokens = torch.tensor([[*prompt, *answer]], device=device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    found = torch.log_softmax(logits, dim=-1).gather(1, tokens[0, len(prompt) :, None])
    return [round(float(value), 5) for value in found[:, 0]]


@torch.no_grad()  # type: ignore[untyped-decorator]
def check_export(model: Any, language: Language, adapter: Path, bound: float | None = None) -> dict[str, Any] | None:
    """Have an exported model answer what its adapter's trainer recorded; returns the record as the export says it.

    Raises FailedPrecondition (PARITY) naming the first token that differs. None where nothing was recorded.
    """
    file = adapter / PARITY_FILE
    if not file.is_file():
        return None
    recorded = Parity.model_validate_json(file.read_bytes())
    device = next(model.parameters()).device
    said = []
    for item in recorded.items:
        prompt = _rendered(language.tokenizer, list(item.messages)) or []
        answer, found = _greedy(model, language, prompt, device)
        said.append(Said(tuple(prompt), tuple(answer), tuple(found)))
    why = mismatch(recorded, said, bound)
    if why:
        raise FailedPrecondition(f"the export does not answer as base and adapter do: {why}", reason="PARITY")
    items = [
        {
            "messages": list(item.messages), "prompt_token_ids": one.prompt_token_ids,
            "completion_token_ids": one.token_ids, "logprobs": one.logprobs, "base_logprobs": None,
        }
        for item, one in zip(recorded.items, said, strict=True)
    ]  # fmt: skip
    return {"format": FORMAT, "precision": "fp32", "items": items}


def _greedy(model: Any, language: Language, prompt: list[int], device: torch.device) -> tuple[list[int], list[float]]:
    answer: list[int] = []
    tokens, past = torch.tensor([prompt], device=device), None
    while len(answer) < _NEW_TOKENS and (not answer or answer[-1] not in language.stops):
        out = model(input_ids=tokens, past_key_values=past, use_cache=True)
        answer.append(int(out.logits[0, -1].argmax()))
        tokens, past = torch.tensor([answer[-1:]], device=device), out.past_key_values
    return answer, log_probs(model, prompt, answer, device)


def _without_adapter(learner: Learner, prompt: list[int], answer: list[int]) -> list[float] | None:
    if not hasattr(learner.model, "disable_adapter"):
        return None
    with learner.model.disable_adapter():
        said: list[float] = log_probs(learner.model, prompt, answer, learner.machine.device)
    return said


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> list[int] | None:
    from jinja2.exceptions import TemplateError

    try:
        return list(
            tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
        )
    except TemplateError:
        # A template may refuse a system message; what it refuses here it refuses when serving.
        return None
