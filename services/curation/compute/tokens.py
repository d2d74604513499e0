"""Token lengths under a base's tokenizer and chat template, with the tokenizers library alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from libs.contracts.errors import DataLoss, InvalidInput
from libs.contracts.tooling import in_form, read_message


class _Generation(Extension):
    """`{% generation %}`, by which a template marks what the model says: its body counts, the mark does not."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes between the marks."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TokenCounter:
    """Counts the tokens of conversations as training will see them.

    `files` are paths by name: tokenizer.json, and chat_template.jinja or the tokenizer_config.json that holds one.
    Raises InvalidInput when there is no template or none that can be read, DataLoss when the tokenizer cannot be.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(files["tokenizer.json"])
        except KeyError as error:
            raise InvalidInput("the base has no tokenizer.json", field="base") from error
        except Exception as error:
            raise DataLoss(f"tokenizer.json cannot be read: {error}", field="base") from error
        config, template = files.get("tokenizer_config.json"), files.get("chat_template.jinja")
        settings = json.loads(Path(config).read_text()) if config else {}
        text = Path(template).read_text() if template else settings.get("chat_template")
        if not isinstance(text, str):
            raise InvalidInput("the base has no chat template", field="base")
        # As transformers renders templates: trimmed blocks, loop controls, nothing that could reach outside.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        self._source = text
        try:
            self._template = environment.from_string(text)
        except TemplateSyntaxError as error:
            raise InvalidInput(f"the base's chat template cannot be read: {error}", field="base") from error
        self._special = {name: _plain(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token")}

    def lengths(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], tools: Sequence[Any] | None = None
    ) -> list[int | None]:
        """Tokens of each conversation with the tools offered in it, None for one that cannot be read or rendered."""
        texts: list[str | None] = []
        for messages, offered in zip(conversations, tools or [None] * len(conversations), strict=True):
            try:
                told = in_form(self._source, [read_message(each) for each in messages], offered or ())
                given = {"messages": told, "tools": offered, "add_generation_prompt": False, **self._special}
                texts.append(self._template.render(given))
            except (InvalidInput, TemplateError, TypeError, KeyError):
                texts.append(None)
        encoded = self._tokenizer.encode_batch_fast([text or "" for text in texts], add_special_tokens=False)
        return [len(each.ids) if text is not None else None for each, text in zip(encoded, texts, strict=True)]


def _plain(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _refuse(message: str) -> None:
    raise TemplateError(message)
