"""Chat messages to token ids, as the base was trained to read them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Message
from libs.contracts.tooling import in_form
from services.serving.engine.domain import Prompt


class Renderer:
    """The tokenizer and chat template of a base directory. Loads no code from it."""

    def __init__(self, directory: Path, max_model_len: int, *, chats: bool = True) -> None:
        """`max_model_len`: tokens that prompt and answer may have together. A base that `chats` has a template."""
        from transformers import AutoTokenizer

        self.max_model_len = max_model_len
        self.tokenizer_digest, self.template_digest = template_digests(directory, chats=chats)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        if chats and not self._tokenizer.chat_template:
            raise FailedPrecondition("the base has no chat template", field="chat_template")

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, salt: str = "") -> Prompt:
        """Token ids of a conversation, ready for the assistant's turn.

        Raises InvalidInput on `messages` that the template refuses or that leave no room for an answer.
        """
        form = in_form(str(self._tokenizer.chat_template), messages, tools)
        try:
            ids = self._tokenizer.apply_chat_template(
                form,
                tools=list(tools) or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except (TemplateError, TypeError) as failure:
            raise InvalidInput(f"the chat template refuses the messages: {failure}", field="messages") from failure
        return self._fitting(ids, "messages", salt)

    def plain(self, text: str, *, salt: str = "") -> Prompt:
        """Token ids of a text as it stands. Raises InvalidInput on a `prompt` that leaves no room for an answer."""
        return self._fitting(self._tokenizer(text, add_special_tokens=True)["input_ids"], "prompt", salt)

    def _fitting(self, ids: Sequence[int], field: str, salt: str) -> Prompt:
        if len(ids) >= self.max_model_len:
            raise InvalidInput(
                f"the prompt has {len(ids)} tokens, the model takes {self.max_model_len} with the answer",
                reason="PROMPT_TOO_LONG",
                field=field,
                prompt_tokens=len(ids),
                max_model_len=self.max_model_len,
            )
        if not ids:
            raise InvalidInput("there is nothing in it", field=field)
        return Prompt(tuple(int(each) for each in ids), salt)


def template_digests(directory: Path, *, chats: bool = True) -> tuple[str, str]:
    """(tokenizer digest, template digest) of a base directory; no template, where none is needed, is an empty digest.

    Raises FailedPrecondition when a file is missing.
    """
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise FailedPrecondition("the base has no tokenizer.json", field="tokenizer.json")
    template = directory / "chat_template.jinja"
    if template.is_file():
        text = template.read_bytes()
    else:
        config = directory / "tokenizer_config.json"
        held = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
        if not isinstance(held, str) and not chats:
            return digest_bytes(tokenizer.read_bytes()), ""
        if not isinstance(held, str):
            raise FailedPrecondition("the base has no chat template", field="chat_template")
        text = held.encode()
    return digest_bytes(tokenizer.read_bytes()), digest_bytes(text)
