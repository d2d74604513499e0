"""Requests and outputs in vLLM's own terms, and back."""

from typing import Any

from libs.contracts.errors import InvalidInput
from services.serving.engine.domain import Piece, SamplingChoice, TokenChance, Version

_LEAST = -9999.0
"""Stands for minus infinity, which JSON cannot say: a token that a schema forbids."""


def lora_of(version: Version) -> Any:
    """The adapter of a version; name, number and path are never used for anything else."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=version.name, lora_int_id=version.number, lora_path=version.path)


def sampling_of(choice: SamplingChoice, room: int, *, with_logprobs: bool) -> Any:
    """How to sample at most `room` tokens. Raises InvalidInput."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    held_to = None
    if choice.json_schema:
        held_to = StructuredOutputsParams(json=choice.json_schema)
    elif choice.json_object:
        held_to = StructuredOutputsParams(json_object=True)
    try:
        return SamplingParams(
            temperature=choice.temperature,
            top_p=choice.top_p,
            max_tokens=max(1, min(choice.max_tokens, room)),
            seed=choice.seed,
            stop=list(choice.stop) or None,
            presence_penalty=choice.presence_penalty,
            frequency_penalty=choice.frequency_penalty,
            logit_bias=dict(choice.logit_bias) or None,
            n=choice.n,
            logprobs=choice.top_logprobs if choice.top_logprobs is not None else 0 if with_logprobs else None,
            structured_outputs=held_to,
            output_kind=RequestOutputKind.FINAL_ONLY if choice.whole else RequestOutputKind.DELTA,
        )
    except ValueError as failure:
        raise InvalidInput(str(failure), field="sampling") from failure


def pieces_of(output: Any, choice: SamplingChoice, *, with_logprobs: bool) -> list[Piece]:
    """The pieces in one output of vLLM: one of each answer that went on."""
    name = output.lora_request.lora_name if output.lora_request is not None else ""
    found = []
    for number, part in enumerate(output.outputs, start=1):
        ids = tuple(int(each) for each in part.token_ids)
        places = list(zip(ids, part.logprobs, strict=True)) if part.logprobs else []
        last = bool(output.finished) and number == len(output.outputs)
        found.append(
            Piece(
                part.text,
                ids,
                tuple(float(place[token].logprob) for token, place in places) if with_logprobs else (),
                part.finish_reason or ("stop" if last else ""),
                name,
                part.index,
                last,
                cached_tokens=int(output.num_cached_tokens or 0),
                chances=tuple(_chance(token, place, choice.top_logprobs) for token, place in places)
                if choice.top_logprobs is not None
                else (),
            )
        )
    return found


def _chance(token: int, place: Any, top: int) -> TokenChance:
    likeliest = sorted(place.values(), key=lambda each: -each.logprob)[:top]
    return TokenChance(
        place[token].decoded_token or "",
        max(float(place[token].logprob), _LEAST),
        tuple((each.decoded_token or "", max(float(each.logprob), _LEAST)) for each in likeliest),
    )
