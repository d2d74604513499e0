"""A running server of somebody else's in the model's place: vLLM's OpenAI server, its adapters loaded over HTTP.

It gets token ids, rendered here as for a model of ours, and the files of adapters by path: `state_dir` must be the same
directory to both. What vLLM lets others do to it is not done: names carry the version's digest and none is used again,
nothing is loaded in place, and an adapter without files is not asked for. It pins nothing and unloads by name only.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from libs.contracts.errors import Busy, InvalidInput, Unavailable
from libs.telemetry import get_logger
from services.serving.engine.clients.completions import body_of, pieces_of
from services.serving.engine.domain import AdapterRefused, Meter, Piece, Prompt, SamplingChoice, Version, check_smoke

log = get_logger(__name__)

_LOOK_SECONDS, _LOOKS = 1.0, 3
"""It is dead once it has not answered so many looks, so far apart."""
_OURS = re.compile(r"^[^@]+@sha256:[0-9a-f]{64}$")
_OPERATION = httpx.Timeout(300.0, connect=5.0)
_GENERATION = httpx.Timeout(None, connect=5.0)
"""Whoever waits for an answer has a deadline and hangs up; a server that went away is noticed by looking."""


class OutsideModel:
    """One server with one base; one engine of ours before it, for the engine unloads what others of its kind left."""

    waiting = 0
    """Requests wait in there, unseen."""

    def __init__(self, client: httpx.AsyncClient, base: str, max_model_len: int, *, priorities: bool) -> None:
        """`base` is the server's own name of it; `priorities`: it was started with `--scheduling-policy priority`."""
        self._client = client
        self._base = base
        self._priorities = priorities
        self._meter = Meter()
        self._operations = asyncio.Lock()
        self._added: dict[int, str] = {}
        self._listed: frozenset[str] = frozenset()
        self.max_model_len = max_model_len
        self.dead = False

    @classmethod
    async def start(cls, url: str, key: str, *, priorities: bool = False) -> "OutsideModel":
        """Wait until the server answers, and unload what an engine before this one had it load."""
        client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )
        cards, told = await _cards_or_why(client), ""
        while isinstance(cards, str):
            if cards != told:
                log.warning("the server does not answer yet", url=url, why=cards)
            told = cards
            await asyncio.sleep(_LOOK_SECONDS)
            cards = await _cards_or_why(client)
        # A base has no parent; one of its names is enough.
        base = next((each for each in cards if not each.get("parent")), None)
        if base is None:
            raise InvalidInput(f"{url} lists no base model", field="PAWL_ENGINE_OUTSIDE_URL")
        made = cls(client, str(base["id"]), int(base.get("max_model_len") or 0) or 4096, priorities=priorities)
        for name in (str(each["id"]) for each in cards if _OURS.match(str(each["id"]))):
            await made._operate("unload", {"lora_name": name})
        return made

    @property
    def running(self) -> int:
        """Requests sent and not yet answered."""
        return self._meter.running

    async def watch(self) -> None:
        """Look at the server until it is `dead`: it went away, or started anew and knows our adapters no more."""
        missed = 0
        while not self.dead:
            await asyncio.sleep(_LOOK_SECONDS)
            before = set(self._added.values())
            try:
                self._listed = await self._names()
            except Unavailable as failure:
                missed += 1
                self.dead = missed >= _LOOKS
                log.warning("the server does not answer", looks=missed, why=str(failure))
                continue
            missed = 0
            lost = (before & set(self._added.values())) - self._listed
            if lost:
                log.error("the server lost adapters", names=sorted(lost))
                self.dead = True

    async def add(self, version: Version) -> None:
        """Have an adapter loaded from its directory. Raises AdapterRefused, or Unavailable when the server is away."""
        if not await asyncio.to_thread(Path(version.path).is_dir):
            raise AdapterRefused(f"{version.path} is gone", field="path")
        await self._operate("load", {"lora_name": version.name, "lora_path": version.path})
        self._added[version.number] = version.name

    async def pin(self, version: Version) -> bool:  # noqa: ARG002 - asked of every model
        """Never: such a server keeps the adapters used last."""
        return False

    async def remove(self, version: Version) -> None:
        """Take the name away; no request may use it any more."""
        self._added.pop(version.number, None)
        await self._operate("unload", {"lora_name": version.name})

    async def resident(self) -> set[int]:
        """Numbers of the adapters that the server lists, as of the last look at it."""
        try:
            self._listed = await self._names()
        except Unavailable as failure:
            log.warning("the server does not say what it holds", why=str(failure))
        return {number for number, name in self._added.items() if name in self._listed}

    async def smoke(self, version: Version, prompt: Prompt) -> None:
        """Answer a short prompt with a version just added. Raises AdapterRefused when something else answers."""
        await check_smoke(self.generate("smoke", prompt, SamplingChoice(max_tokens=2), version), version)

    async def generate(
        self,
        request_id: str,  # noqa: ARG002 - the server counts its own
        prompt: Prompt,
        sampling: SamplingChoice,
        version: Version,
        *,
        priority: int = 0,
        with_logprobs: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        """The answer of one version, piece by piece; closing the iterator hangs up, which aborts it there."""
        if version.number and (version.number not in self._added or not os.access(version.path, os.R_OK)):
            raise Unavailable(f"{version.name} is not loaded", reason="VERSION_NOT_LOADED")
        body = body_of(prompt, sampling, self.max_model_len - len(prompt.token_ids), with_logprobs=with_logprobs)
        body |= {"model": version.name or self._base, "priority": priority if self._priorities else 0}
        ended = 0
        try:
            with self._meter.run() as share:
                async with self._client.stream("POST", "/v1/completions", json=body, timeout=_GENERATION) as answer:
                    if answer.status_code != 200:
                        await answer.aread()
                        raise _refusal(answer.status_code, _told(answer), sampling)
                    async for event in _events(answer, sampling):
                        for piece in pieces_of(event, sampling, self._base, with_logprobs=with_logprobs):
                            ended += bool(piece.finish_reason)
                            last = ended == sampling.n
                            yield replace(piece, last=last, engine_seconds=share.seconds)
        except httpx.HTTPError as failure:
            raise Unavailable(f"the server went away: {failure!r}", reason="ENGINE_DEAD") from failure
        except (ValueError, KeyError, TypeError) as failure:
            raise Unavailable(
                f"the server's answer cannot be read: {failure!r}", reason="GENERATION_FAILED"
            ) from failure
        if ended < sampling.n:
            raise Unavailable("the server ended without finishing", reason="GENERATION_FAILED")

    async def close(self) -> None:
        """Close the connections; the server goes on."""
        await self._client.aclose()

    async def _names(self) -> frozenset[str]:
        return frozenset(str(each["id"]) for each in await _cards(self._client))

    async def _operate(self, what: str, body: dict[str, str]) -> None:
        async with self._operations:
            try:
                answer = await self._client.post(f"/v1/{what}_lora_adapter", json=body, timeout=_OPERATION)
            except httpx.HTTPError as failure:
                raise Unavailable(f"the server is away: {failure!r}", reason="ENGINE_DEAD") from failure
        told = _told(answer)
        if answer.status_code == 200 or (what == "unload" and answer.status_code == 404 and told):
            return
        if not told and answer.status_code == 404:
            told = "it loads none at run time: start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        raise AdapterRefused(f"the server cannot {what} the adapter: {told or answer.status_code}")


async def _cards(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    try:
        answer = await client.get("/v1/models", timeout=5.0)
        answer.raise_for_status()
        return [dict(each) for each in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as failure:
        raise Unavailable(f"no list of models: {failure!r}", reason="ENGINE_DEAD") from failure


async def _cards_or_why(client: httpx.AsyncClient) -> list[dict[str, Any]] | str:
    try:
        return await _cards(client)
    except Unavailable as failure:
        return str(failure)


async def _events(answer: httpx.Response, sampling: SamplingChoice) -> AsyncGenerator[dict[str, Any], None]:
    if sampling.whole:
        yield json.loads(await answer.aread())
        return
    async for line in answer.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            event = json.loads(line[6:])
            if "error" in event:
                # What it finds wrong with a request only now comes in the stream, after a status of 200.
                told = event["error"]
                raise _refusal(int(told["code"]), str(told["message"]), sampling)
            yield event


def _told(answer: httpx.Response) -> str:
    """What the server says is wrong; empty where it is not the model server that speaks."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _refusal(status: int, told: str, sampling: SamplingChoice) -> Busy | InvalidInput | Unavailable:
    if status in (400, 422):
        return InvalidInput(f"the engine refuses the request: {told}", field=sampling.suspect)
    if status in (429, 503):
        return Busy(f"the server is busy: {told}", reason="OUTSIDE_BUSY", retry_after=1)
    if status == 404:
        # Started anew a moment ago: the next look at it says so.
        return Unavailable(f"the server does not know the model: {told}", reason="VERSION_NOT_LOADED")
    return Unavailable(f"the server answers with status {status}: {told}", reason="GENERATION_FAILED")
