"""Takes out of answers what names the model that gave them, so that reviewers judge what was said and not by whom."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "[model]"
_INTRODUCTION = re.compile(
    r"\b(?:I am|I['\u2019]m|I was (?:trained|developed|created|made|built)|my name is|"
    r"as an? (?:AI|(?:large )?language model|assistant)|ich bin|ich hei\u00dfe|als KI|"
    r"je suis|je m['\u2019]appelle|soy|me llamo|sono|mi chiamo)\b[^.!?\n]*",
    re.IGNORECASE,
)
_MODELS = re.compile(
    r"\b(?:Qwen[\w.-]*|Tongyi|Alibaba(?: Cloud)?|Chat ?GPT|GPT[- ]?\d[\w.-]*|OpenAI|Claude|Anthropic|Llama[\w.-]*|"
    r"Meta(?: AI)?|Mistral(?: AI)?|Mixtral|Gemma|Gemini|Bard|Google(?: DeepMind)?|DeepMind|Phi-?\d[\w.-]*|Copilot|"
    r"Microsoft|DeepSeek[\w.-]*|Falcon|Grok|xAI|Cohere|SmolLM[\w.-]*|Hugging ?Face|Pythia|EleutherAI|OLMo|Ai2|Nemotron|"
    r"NVIDIA|Granite|IBM|Kimi|Moonshot(?: AI)?|(?:Chat)?GLM[\w.-]*|Zhipu(?: AI)?)(?!\w)",
    re.IGNORECASE,
)
_SHORTEST = 3


def names_of(contenders: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the models beside serving are called, the longest names first."""
    found = set()
    for contender in contenders:
        _, outside, where = str(contender.get("engine", "")).partition("outside:")
        if outside:
            model = where.partition("/")[2] or where
            found |= {model, model.rpartition("/")[2]}
    return tuple(sorted((name for name in found if len(name) >= _SHORTEST), key=lambda name: (-len(name), name)))


def masked(text: str, names: Iterable[str]) -> str:
    """A text without `names`, and without those of models and their makers where it introduces itself.

    Elsewhere such words stay: an answer about a maker is none by it.
    """
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", MASK, text, flags=re.IGNORECASE)
    return _INTRODUCTION.sub(lambda found: _MODELS.sub(MASK, found[0]), text)
