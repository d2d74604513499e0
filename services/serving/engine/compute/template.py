"""Chat messages to token ids, as the base was trained to read them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import digest_bytes
from services.serving.engine.domain import Prompt


class Renderer:
    """The tokenizer and chat template of a base directory. Loads no code from it."""

    def __init__(self, directory: Path, max_model_len: int) -> None:
        """`max_model_len`: tokens that prompt and answer may have together."""
        from transformers import AutoTokenizer

        self.max_model_len = max_model_len
        self.tokenizer_digest, self.template_digest = template_digests(directory)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        if not self._tokenizer.chat_template:
            raise FailedPrecondition("the base has no chat template", field="chat_template")

    def render(self, messages: Sequence[tuple[str, str]]) -> Prompt:
        """Token ids of (role, content) pairs, ready for the assistant's turn.

        Raises InvalidInput on `messages` that the template refuses or that leave no room for an answer.
        """
        try:
            ids = self._tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in messages],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except TemplateError as failure:
            raise InvalidInput(f"the chat template refuses the messages: {failure}", field="messages") from failure
        if len(ids) >= self.max_model_len:
            raise InvalidInput(
                f"the prompt has {len(ids)} tokens, the model takes {self.max_model_len} with the answer",
                reason="PROMPT_TOO_LONG",
                field="messages",
                prompt_tokens=len(ids),
                max_model_len=self.max_model_len,
            )
        if not ids:
            raise InvalidInput("the messages render to nothing", field="messages")
        return Prompt(tuple(int(each) for each in ids))


def template_digests(directory: Path) -> tuple[str, str]:
    """(tokenizer digest, template digest) of a base directory. Raises FailedPrecondition when a file is missing."""
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise FailedPrecondition("the base has no tokenizer.json", field="tokenizer.json")
    template = directory / "chat_template.jinja"
    if template.is_file():
        text = template.read_bytes()
    else:
        config = directory / "tokenizer_config.json"
        held = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
        if not isinstance(held, str):
            raise FailedPrecondition("the base has no chat template", field="chat_template")
        text = held.encode()
    return digest_bytes(tokenizer.read_bytes()), digest_bytes(text)
