"""An inference server of somebody else's (vLLM, NIM) that speaks OpenAI's API, asked like an engine.

What it says of itself cannot be checked from here: its answers carry the digests that the operator declared, and none
of tokenizer or template. A name must belong to one version for ever: such servers cache prompts by name.
"""

import json
import os
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from libs.contracts.errors import Busy, InvalidInput, PawlError, Unavailable
from libs.contracts.ids import Digest
from libs.contracts.inference import Provenance
from libs.contracts.routes import EngineReport
from libs.contracts.tooling import in_openai_form
from services.serving.gateway.domain import Chunk, Embedded, Inquiry, TextBatch, TokenLogprob, Usage

_FINISH = {"stop": "stop", "length": "length", "tool_calls": "stop"}
_REFUSALS: Mapping[int, type[PawlError]] = {400: InvalidInput, 422: InvalidInput, 429: Busy}
"""What is the caller's to mend. A key that it does not take and a name that it does not know are ours."""


class OutsideServer(BaseModel):
    """One server; `models` maps version digests to its names of them, `key_variable` names the variable of its key.

    One that `embeds` makes vectors of texts, and is asked for nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    url: str = Field(pattern=r"^https?://[^\s]+$")
    base_digest: Digest
    models: dict[Digest, str]
    key_variable: str = ""
    max_model_len: int = 0
    embeds: bool = False

    @property
    def address(self) -> str:
        """What it is asked by: one URL may answer for several entries, such as one that embeds."""
        return f"{self.url}#{self.name}"

    def report(self) -> EngineReport:
        """Its report among the engines'."""
        now = datetime.now(UTC)
        return EngineReport(
            engine_id=self.name,
            address=self.address,
            base_digest=self.base_digest,
            routable=tuple(self.models),
            resident=tuple(self.models),
            max_model_len=self.max_model_len,
            embeds=self.embeds,
            started_at=now,
            beat_at=now,
        )


def read_servers(path: Path | None) -> tuple[OutsideServer, ...]:
    """The servers in a JSON file; InvalidInput names the file, the entry and the field that is wrong."""
    if path is None:
        return ()
    try:
        servers = TypeAdapter(tuple[OutsideServer, ...]).validate_python(json.loads(path.read_text()))
    except OSError as failure:
        raise InvalidInput(f"{path}: {failure.strerror}", field="PAWL_GATEWAY_OUTSIDE") from failure
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}: {where}: {first['msg']}", field="PAWL_GATEWAY_OUTSIDE") from failure
    except ValueError as failure:
        raise InvalidInput(f"{path}: not JSON: {failure}", field="PAWL_GATEWAY_OUTSIDE") from failure
    names = [each.name for each in servers]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InvalidInput(f"{path}: {number}.name: {name!r} is taken already", field="PAWL_GATEWAY_OUTSIDE")
    return servers


class OutsideCalls:
    """Calls to one server."""

    def __init__(self, server: OutsideServer) -> None:
        self._server = server
        key = os.environ.get(server.key_variable, "") if server.key_variable else ""
        self._client = httpx.AsyncClient(
            base_url=server.url.rstrip("/"),
            headers={"authorization": f"Bearer {key}"} if key else {},
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def infer(self, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        """Pieces of an answer; closing the iterator hangs up, which such servers take as an abort."""
        name = self._server.models[inquiry.digest]
        made_by = self._declared(inquiry.digest)
        path = "/v1/completions" if inquiry.prompt else "/v1/chat/completions"
        usage: Usage | None = None
        held: Chunk | None = None
        try:
            async with self._client.stream("POST", path, json=_body(inquiry, name), timeout=inquiry.timeout) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _refusal(_read(answer), answer.status_code, self._server.name)
                async for line in answer.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    event = json.loads(line[6:])
                    if "error" in event:
                        # What it finds wrong with a request only now comes after a status of 200.
                        raise _refusal(event, _status(event["error"]), self._server.name)
                    if event.get("usage"):
                        told = event["usage"]
                        cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                        usage = Usage(int(told["prompt_tokens"]), int(told["completion_tokens"]), int(cached))
                    for choice in event.get("choices", ()):
                        # The last piece waits for the usage, which such servers send after it.
                        if held is not None:
                            yield held
                        held = _chunk(choice, made_by)
        except httpx.TimeoutException as failure:
            raise Unavailable(f"{self._server.name} took too long", reason="DEADLINE_EXCEEDED") from failure
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as failure:
            raise Unavailable(f"{self._server.name} does not answer: {failure}", reason="OUTSIDE_FAILED") from failure
        if held is not None:
            yield Chunk(
                held.text, made_by, held.finish_reason, usage or Usage(), held.index, (), held.logprobs
            )  # fmt: skip

    async def embed(self, wanted: TextBatch) -> Embedded:
        """One vector for each text, in their order."""
        name, texts = self._server.name, wanted.texts
        body = {"model": self._server.models[wanted.digest], "input": list(texts), "encoding_format": "float"}
        try:
            answer = await self._client.post("/v1/embeddings", json=body, timeout=wanted.timeout)
            if answer.status_code != 200:
                raise _refusal(_read(answer), answer.status_code, name)
            told = answer.json()
            found = sorted(told["data"], key=lambda each: int(each["index"]))
            vectors = tuple(tuple(float(value) for value in each["embedding"]) for each in found)
            tokens = int((told.get("usage") or {}).get("prompt_tokens", 0))
        except httpx.TimeoutException as failure:
            raise Unavailable(f"{name} took too long", reason="DEADLINE_EXCEEDED") from failure
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as failure:
            raise Unavailable(f"{name} does not answer: {failure}", reason="OUTSIDE_FAILED") from failure
        if len(vectors) != len(texts):
            raise Unavailable(f"{name} gave {len(vectors)} vectors for {len(texts)} texts", reason="OUTSIDE_FAILED")
        return Embedded(vectors, self._declared(wanted.digest), tokens)

    def _declared(self, digest: str) -> Provenance:
        base = self._server.base_digest
        return Provenance(base_digest=base, adapter_digest="" if digest == base else digest)


def _body(inquiry: Inquiry, name: str) -> dict[str, Any]:
    wish, form = inquiry.sampling, inquiry.form
    schema = form.constraint()
    body: dict[str, Any] = {
        "model": name,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": wish.temperature,
        "top_p": wish.top_p,
        "max_tokens": wish.max_tokens,
        "seed": wish.seed,
        "stop": list(wish.stop) or None,
        "presence_penalty": wish.presence_penalty,
        "frequency_penalty": wish.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in wish.logit_bias.items()} or None,
        "n": wish.n if wish.n > 1 else None,
    }
    if inquiry.prompt:
        body |= {"prompt": inquiry.prompt, "logprobs": wish.top_logprobs if wish.logprobs else None}
    else:
        body |= {
            "messages": [in_openai_form(each) for each in inquiry.messages],
            "logprobs": wish.logprobs or None,
            "top_logprobs": wish.top_logprobs or None,
        }
    if schema:
        wanted = {"name": "answer", "schema": json.loads(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    elif form.json_object:
        body["response_format"] = {"type": "json_object"}
    if form.offers_tools:
        # Offered, but read by us: the text comes as it was generated, from every engine alike.
        body |= {"tools": json.loads(form.tools), "tool_choice": "none"}
    return {field: value for field, value in body.items() if value is not None}


def _chunk(choice: Mapping[str, Any], made_by: Provenance) -> Chunk:
    text = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
    finish = choice.get("finish_reason") or ""
    content = (choice.get("logprobs") or {}).get("content") or ()
    return Chunk(
        text or "",
        made_by,
        _FINISH.get(finish, "stop") if finish else "",
        index=int(choice.get("index", 0)),
        logprobs=tuple(
            TokenLogprob(
                each["token"],
                float(each["logprob"]),
                tuple((top["token"], float(top["logprob"])) for top in each.get("top_logprobs") or ()),
            )
            for each in content
        ),
    )


def _read(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _status(error: Any) -> int:
    """Of an error in a stream: as a number where the server says one, or what OpenAI's name of its kind stands for."""
    code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    return code if isinstance(code, int) else 400 if kind == "invalid_request_error" else 500


def _refusal(body: Any, status: int, name: str) -> PawlError:
    kind = _REFUSALS.get(status, Unavailable)
    reason = "OUTSIDE_FAILED" if kind is Unavailable else None
    try:
        told = body["error"]
        return kind(f"{name}: {told['message']}", field=told.get("param"), reason=reason)
    except (KeyError, TypeError):
        return kind(f"{name}: status {status}", reason=reason)
