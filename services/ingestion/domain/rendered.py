"""A conversation that a chat template rendered into one text, told apart again where its marks leave no doubt."""

import re
from dataclasses import dataclass

from services.ingestion.domain.conversations import ASSISTANT, ROLES, SYSTEM, USER, Message
from services.ingestion.domain.dialogues import is_dialogue, turns_of

_BEGINS = re.compile(r"(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|\s)*")
_ENDS = re.compile(r"(?:</s>|<eos>|<\|end_of_text\|>|<\|endoftext\|>|\s)*")


@dataclass(frozen=True, slots=True)
class _Marks:
    """How a family of templates writes a turn: what comes before it and names its role, and what ends it."""

    before: re.Pattern[str]
    after: re.Pattern[str]


_TEMPLATES = (
    # ChatML; Llama 3; Gemma; Zephyr and Phi.
    _Marks(re.compile(r"<\|im_start\|>(\w+)\n"), re.compile(r"<\|im_end\|>")),
    _Marks(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"), re.compile(r"<\|(?:eot|eom)_id\|>")),
    _Marks(re.compile(r"<start_of_turn>(\w+)\n"), re.compile(r"<end_of_turn>")),
    _Marks(re.compile(r"<\|(system|user|assistant)\|>\n?"), re.compile(r"<\|end\|>|<\|endoftext\|>|</s>")),
)
# Guanaco's may stand anywhere, Alpaca's at the beginning of a line; in a text of one those of the other are words.
_GUANACO = re.compile(r"(?:\A|\n*)### ?(System|Human|Assistant): ?\n?")
_ALPACA = re.compile(r"(?:\A|\n+)### ?(System|Instruction|Input|Response): ?\n?")
_FIRST = re.compile(r"### ?(Human|Assistant|Instruction|Input|Response):")
_HEADED = {"Human": USER, "Assistant": ASSISTANT, "System": SYSTEM, "Instruction": USER, "Response": ASSISTANT}
_PREAMBLE = "Below is an instruction that describes a task"
_SAYS_NOTHING = re.compile(
    r"Below is an instruction that describes a task(, paired with an input that provides further context)?\. "
    r"Write a response that appropriately completes the request\."
)
_CLOSING = ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>")
_INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\s*(?:<s>\s*)?\[INST\]|\Z)", re.DOTALL)
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>(.*)\Z", re.DOTALL)


def turns_in(text: str) -> list[Message] | None:
    """The turns of a rendered conversation; None where the text is none, or not certainly one.

    Every letter must belong to a turn or to the marks of one template. Known are ChatML, the templates of Llama 2 and
    3, Mistral, Gemma, Zephyr and Phi, the headings of Alpaca and Guanaco, and Anthropic's dialogues.
    """
    bare = text[_BEGINS.match(text).end() :]  # type: ignore[union-attr]
    for marks in _TEMPLATES:
        if marks.before.match(bare):
            return _marked(bare, marks)
    if bare.startswith("[INST]"):
        return _instructed(bare)
    if bare.startswith(("###", _PREAMBLE)):
        return _headed(bare)
    return turns_of(bare, "text") if is_dialogue(bare) else None


def _marked(text: str, marks: _Marks) -> list[Message] | None:
    _, *told = marks.before.split(text)
    turns: list[Message] = []
    for at, (role, said) in enumerate(zip(told[::2], told[1::2], strict=True), start=1):
        content, *rest = marks.after.split(said, maxsplit=1)
        last = at == len(told) // 2
        # A last turn that nothing ends may have been cut off in the middle.
        ended = last and not rest and said.rstrip().endswith(_CLOSING)
        closed = bool(rest) and (_ENDS.fullmatch(rest[0]) if last else not rest[0].strip())
        if role not in ROLES or not (closed or ended):
            return None
        turns.append({"role": ROLES[role], "content": _bare(content)})
    return turns


def _instructed(text: str) -> list[Message] | None:
    turns: list[Message] = []
    for found in _INST.finditer(text):
        asked, answer = found[1], _bare(found[2])
        system = _SYS.match(asked) if not turns else None
        if system is not None:
            turns.append({"role": SYSTEM, "content": system[1].strip()})
            asked = system[2]
        turns += [{"role": USER, "content": asked.strip()}, {"role": ASSISTANT, "content": answer}]
    said = "".join(each["content"] for each in turns)
    return turns if said and "[INST]" not in said and "[/INST]" not in said else None


def _headed(text: str) -> list[Message] | None:
    first = _FIRST.search(text)
    alpaca = first is not None and first[1] not in ("Human", "Assistant")
    before, *told = (_ALPACA if alpaca else _GUANACO).split(text)
    if before.strip() and not (alpaca and before.startswith(_PREAMBLE)):
        return None
    # One question and its answer is all that Alpaca's template knows: any more may be text of the answer.
    again = alpaca and any(told[::2].count(each) > 1 for each in ("Instruction", "Response"))
    if again or "System" in told[2::2]:
        return None
    turns: list[Message] = []
    if before.strip() and not _SAYS_NOTHING.fullmatch(before.strip()):
        # Whoever changed the preamble told the model something by it.
        turns.append({"role": SYSTEM, "content": before.strip()})
    for heading, said in zip(told[::2], told[1::2], strict=True):
        if heading == "Input":
            # Alpaca's second half of a question.
            if not turns or turns[-1]["role"] != USER:
                return None
            turns[-1]["content"] += f"\n\n{_bare(said)}"
        else:
            turns.append({"role": _HEADED[heading], "content": _bare(said)})
    return turns or None


def _bare(text: str) -> str:
    """The text without the marks that end a sequence."""
    text = text.strip()
    for mark in _CLOSING:
        text = text.removesuffix(mark).strip()
    return text
