"""The tokenizer of the tiny base: byte-level BPE with single digits, learned from the generated text."""

import random
from collections.abc import Iterator
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from triage.base.corpus import FIRST, prose, task
from triage.base.words import CITIES, COMMON, GOODS, REASONS
from triage.language import NAMES, PRODUCTS

PAD, BOS, END, USER, ASSISTANT, SYSTEM = "<pad>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL = (PAD, BOS, END, USER, ASSISTANT, SYSTEM)
PAD_ID, BOS_ID, END_ID = 0, 1, 2
VOCABULARY = 4096
POSITIONS = 512

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}<|assistant|>{% generation %}{{ m.content }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# A name or code has the same pieces in a sentence and in JSON, for the space before a capital or digit stands
# alone: what is to be copied then looks the same at both places. A JSON key with its punctuation may become one token.
PIECES = (
    r"""["{},\[\]]*"(?:[a-z_]+":[{\["]*)+"""  # {"name":"   ","item":{"name":"
    r"""|[.,;:!?]+ ?"""
    r"""| ?[\p{Ll}\p{Lo}\p{M}'’]+"""  # noqa: RUF001
    r"""|[\p{Lu}\p{Lt}][\p{L}\p{M}'’]*-?"""  # noqa: RUF001
    r"""|\p{N}"""
    r"""| ?[^\s\p{L}\p{N}.,;:!?]+"""
    r"""|\s+"""
)


def _documents(seed: int, n: int) -> Iterator[str]:
    rng = random.Random(f"tokenizer-{seed}")
    for _ in range(n):
        if rng.random() < 0.5:
            yield prose(rng)
        else:
            one = task(rng, FIRST)
            yield one.question
            yield one.answer
    for word in (*COMMON, *NAMES, *PRODUCTS, *CITIES, *GOODS, *REASONS):
        for _ in range(4):
            yield f"{word} {word} {word.capitalize()}"


def make_tokenizer(seed: int, documents: int = 30_000) -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template; the same for the same seed."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    bpe.train_from_iterator(_documents(seed, documents), trainer)
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
