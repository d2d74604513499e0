"""What a signal says once it is joined to the inference it is about.

The values that exist once for every signal are msgspec structs: frozen like dataclasses, made ten times as fast, and no
burden to the garbage collector, which has nothing to find in them.
"""

from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from libs.contracts.answers import canonical_answer
from libs.contracts.feedback import FeedbackKind
from libs.contracts.ids import digest_bytes, moment_of
from libs.contracts.inference import Inference, Role, Signal
from libs.contracts.tooling import in_openai_form
from services.ingestion.domain.conversations import TOOL, USER, dump
from services.ingestion.domain.examples import KTO, PREFERENCE, SFT
from services.ingestion.domain.rows import Prompt, prompt_of
from services.ingestion.domain.wire import Words

# Looked up once: in Python 3.11 finding the member of an enum takes longer than what is done with it.
_GOOD, _BAD, _NEUTRAL = Signal.GOOD, Signal.BAD, Signal.NEUTRAL
_CORRECTION, _PREFERENCE = FeedbackKind.CORRECTION, FeedbackKind.PREFERENCE
_SIGNALS = {True: _GOOD, False: _BAD, None: _NEUTRAL}


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One valid signal: whose it is, under which id it is counted once (`key`), where it lay and when it came.

    `at` is in epoch seconds; `row_id` is the id of its row, the same for the same signal.
    """

    tenant: str
    task: str
    source: str
    id: str
    key: bytes
    feedback: Words
    row_id: str
    at: float
    stream_seq: int
    traceparent: str | None = None

    @property
    def arrived_at(self) -> datetime:
        """When it came, UTC."""
        return datetime.fromtimestamp(self.at, UTC)


class Answered(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an inference so that feedback can be joined to it.

    `messages` is the JSON of what was asked where that is more than the text of a prompt (calls of tools and their
    results), `tools` of the tools offered; an answer that is a call is its JSON.
    """

    request_id: str
    prompt: Prompt
    output: str
    version: int
    role: Role
    generation: int
    unit: str
    segment: str | None
    answered_at: datetime
    messages: str | None = None
    tools: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it goes on with the assistant's own words: by itself it answers nobody, and teaches nothing."""
        return not self.prompt.input and self.prompt.history is not None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one signal claims: `right` is the answer it vouches for, `rejected` the one it turns down.

    `canonical` is the canonical form of `right`; `form` and `label` are as in a segment.
    """

    signal: Signal
    right: str | None = None
    rejected: str | None = None
    canonical: str | None = None
    form: str | None = None
    label: bool | None = None

    @property
    def reference_digest(self) -> str | None:
        """`answers.answer_digest` of the right answer."""
        return digest_bytes(self.canonical.encode()) if self.canonical is not None else None

    def untaught(self) -> "Claim":
        """The same without an answer that anybody could learn."""
        return Claim(self.signal, canonical=self.canonical)


def key_of(tenant: str, task: str, source: str, name: str, *more: str) -> bytes:
    """16 bytes that stand for these names under a task; names hold no NUL, so that no two lists read the same.

    The key of a name that says when it was made (`ids.moment_of`) begins with that: what arrives together is then kept
    together, however much was kept before it, where keys that lie anywhere cost a page of the index each.
    """
    whole = blake2b("\0".join((tenant, task, source, name, *more)).encode(), digest_size=16).digest()
    moment = moment_of(name)
    return whole if moment is None else moment + whole[:10]


def row_id_of(key: bytes) -> str:
    """The id of the row of the signal with this key."""
    return f"fb-{key.hex()}"


def answered(inference: Inference) -> Answered:
    """The joinable part of a logged inference, without NUL characters, which no text column of Postgres takes."""
    prompt = prompt_of(inference.messages)
    asked = inference.messages
    # What ends with the assistant's own words is to be gone on with: there is no answer beside them.
    rich = any(each.tool_calls or each.role == TOOL for each in asked) and asked[-1].role in (USER, TOOL)
    calls = [{"name": each.name, "arguments": each.arguments} for each in inference.tool_calls]
    output = dump({"tool_calls": calls}) if calls else inference.output
    return Answered(
        request_id=inference.request_id,
        prompt=Prompt(_plain(prompt.system), _plain(prompt.history), _plain(prompt.input) or ""),
        output=output.replace("\x00", ""),
        version=inference.version,
        role=inference.role,
        generation=inference.generation,
        unit=inference.unit,
        segment=inference.segment,
        answered_at=inference.created_at,
        messages=dump([in_openai_form(each) for each in asked]) if rich else None,
        tools=inference.tools or None,
    )


def claim_of(feedback: Words, output: str | None) -> Claim:
    """What a signal claims of the answer `output` (None: serving logged none, and the sender's own word stands)."""
    given = output if output is not None else feedback.output
    if feedback.kind is _CORRECTION:
        right = feedback.correction or ""
        canonical = canonical_answer(right)
        if given is not None and canonical == canonical_answer(given):
            return Claim(_GOOD, right, None, canonical, KTO, True)
        return Claim(_BAD, right, given, canonical, SFT if given is None else PREFERENCE)
    if feedback.kind is _PREFERENCE:
        chosen, turned = feedback.chosen or "", feedback.rejected or ""
        canonical, about = canonical_answer(chosen), canonical_answer(given) if given is not None else None
        signal = _NEUTRAL
        if about is not None and about == canonical:
            signal = _GOOD
        elif about is not None and about == canonical_answer(turned):
            signal = _BAD
        return Claim(signal, chosen, turned, canonical, PREFERENCE)
    signal = _SIGNALS[feedback.is_good]
    if given is None or signal is _NEUTRAL:
        return Claim(signal)
    if signal is _GOOD:
        return Claim(signal, given, None, canonical_answer(given), KTO, True)
    return Claim(signal, None, given, None, KTO, False)


def _plain(text: str | None) -> str | None:
    return text.replace("\x00", "") if text is not None else None
