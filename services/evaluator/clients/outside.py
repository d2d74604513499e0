"""OpenAI-compatible models beside serving: an arm to compare with, a judge, embeddings."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from libs.contracts.errors import Busy, FailedPrecondition, InvalidInput, PermissionDenied, Unavailable
from libs.contracts.inference import Message, Provenance
from libs.contracts.task import EndpointSpec
from libs.contracts.tooling import answer_of, in_openai_form, read_message
from services.evaluator.domain.answers import Answer

Keys = Callable[[str], str | None]
"""The value of an environment variable of the evaluator."""

_MOST_BYTES = 8 << 20


class OutsideModel:
    """One endpoint. Its key is read when it is opened and is in no log, error or store."""

    def __init__(self, spec: EndpointSpec, keys: Keys, transport: httpx.AsyncBaseTransport | None = None) -> None:
        headers = {}
        if spec.key_env is not None:
            key = keys(spec.key_env)
            if not key:
                raise FailedPrecondition(
                    f"the evaluator's environment has no {spec.key_env}, the key of {spec.url}: set it and start again",
                    reason="NO_KEY",
                    field="endpoint.key_env",
                )
            headers["authorization"] = f"Bearer {key}"
        self._spec = spec
        self._client = httpx.AsyncClient(
            base_url=spec.url.rstrip("/") + "/", headers=headers, timeout=spec.seconds, transport=transport
        )

    @property
    def name(self) -> str:
        """Host and model, for reports."""
        return f"{httpx.URL(self._spec.url).host}/{self._spec.model}"

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int, tools: str
    ) -> tuple[Answer, str]:
        """One greedy answer; the provenance of an outside model is not known."""
        began = time.monotonic()
        body = await self.chat(messages, max_tokens=max_tokens, request_id=request_id, tools=tools)
        usage = body.get("usage") or {}
        answer = Answer(
            item_id,
            text_of(body),
            Provenance(base_digest=""),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=round(time.monotonic() - began, 4),
        )
        return answer, model

    async def constrained(
        self,
        model: str,
        messages: Sequence[Message],
        schema: dict[str, Any],
        item_id: str,
        request_id: str,
        max_tokens: int,
        form: str = "json_schema",
    ) -> tuple[Answer, str]:
        """An answer held to a JSON schema, as far as the endpoint holds to it; `form` is one of chat's."""
        body = await self.chat(messages, max_tokens=max_tokens, request_id=request_id, schema=schema, form=form)
        return Answer(item_id, text_of(body), Provenance(base_digest="")), model

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        request_id: str,
        schema: dict[str, Any] | None = None,
        form: str = "text",
        tools: str = "",
    ) -> dict[str, Any]:
        """A chat completion as the endpoint returns it, held to `schema` by the `form` json_schema, to any JSON by
        json_object, to nothing by text; `tools` is the JSON of those offered.
        """
        asked: dict[str, Any] = {
            "model": self._spec.model,
            "messages": [in_openai_form(message) for message in messages],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        if tools:
            asked["tools"] = json.loads(tools)
        if form == "json_schema":
            asked["response_format"] = {
                "type": form,
                "json_schema": {"name": "verdict", "strict": True, "schema": schema},
            }
        elif form == "json_object":
            asked["response_format"] = {"type": form}
        return await self._post("chat/completions", asked, request_id)

    async def embed(self, texts: Sequence[str], request_id: str) -> list[list[float]]:
        """One vector per text, in their order."""
        body = await self._post("embeddings", {"model": self._spec.model, "input": list(texts)}, request_id)
        rows = sorted(body.get("data") or [], key=lambda row: int(row.get("index", 0)))
        if len(rows) != len(texts):
            raise InvalidInput(f"{self.name} gave {len(rows)} vectors for {len(texts)} texts", field="embedding")
        return [[float(each) for each in row["embedding"]] for row in rows]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, path: str, asked: dict[str, Any], request_id: str) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=asked, headers={"x-request-id": request_id})
        except httpx.TransportError as error:
            raise Unavailable(f"{self.name} does not answer: {type(error).__name__}") from error
        status = response.status_code
        if status == 429:
            raise Busy(f"{self.name} asks to slow down")
        if status >= 500 and status != httpx.codes.NOT_IMPLEMENTED:
            raise Unavailable(f"{self.name} answered {status}")
        if status in (401, 403):
            variable = self._spec.key_env or "no key_env"
            raise PermissionDenied(f"{self.name} refused the key ({variable}) with {status}", reason="KEY_REFUSED")
        if status >= 400:
            raise InvalidInput(f"{self.name} answered {status}: {response.text[:300]}", field="messages")
        if len(response.content) > _MOST_BYTES:
            raise InvalidInput(f"{self.name} answered with {len(response.content)} bytes", field="messages")
        try:
            body = response.json()
        except ValueError as error:
            raise Unavailable(f"{self.name} answered with no JSON") from error
        if not isinstance(body, dict):
            raise Unavailable(f"{self.name} answered with no JSON object")
        return body


def text_of(body: dict[str, Any]) -> str:
    """The text of a chat completion, or its calls as `calls_as_text` writes them; empty where there is neither."""
    choices = body.get("choices") or [{}]
    message = choices[0].get("message") or {}
    try:
        return answer_of(read_message({"role": "assistant", **message}))
    except InvalidInput:
        return ""
