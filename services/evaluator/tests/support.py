"""A small world for the evaluator: a gateway that answers by rule, a suite, live traffic."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.answers import answer_digest
from libs.contracts.commands import Contender, EvaluateModel
from libs.contracts.envelope import Event, envelop
from libs.contracts.errors import NotFound, PermissionDenied, Unauthenticated
from libs.contracts.events import RolloutChanged
from libs.contracts.inference import Inference, Message, Outcome, Provenance, Role, Signal
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from libs.contracts.task import TaskSpec
from libs.eventing.cloudevents import decode
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish

TENANT, TASK, KEY = "default", "triage", "evaluator-key"
BASE = "sha256:" + "b" * 64
ADAPTER = "sha256:" + "a" * 64
SCHEMA = {"type": "object", "required": ["category"], "properties": {"category": {"type": "string"}}}
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


def spec(**changes: Any) -> TaskSpec:
    document: dict[str, Any] = {
        "task": TASK,
        "base": "tiny",
        "output": {"format": "json", "schema": SCHEMA},
        "evaluation": {
            "gates": [
                {"name": "better-than-base", "kind": "superiority", "against": "base"},
                {"name": "not-worse", "kind": "non_inferiority", "against": "stable", "margin": 0.05},
                {"name": "valid", "kind": "floor", "metric": "json_valid", "at_least": 0.8},
            ],
            "concurrency": 8,
            "repeat_items": 0,
        },
        "rollout": {
            "shadow": {"min_pairs": 20, "margin": 0.05},
            "canary": {"steps": [5, 50, 100], "min_windows": 5, "window_seconds": 0.2},
        },
    }
    return TaskSpec.model_validate({**document, **changes})


def label(number: int) -> str:
    return json.dumps({"category": f"c{number % 4}"})


def right(number: int) -> str:
    return label(number)


def wrong(number: int) -> str:
    return label(number + 1)


async def put_suite(store: ObjectStore, directory: Path, items: int = 60) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "item_id": f"item-{number}",
            "messages": [{"role": "user", "content": f"ticket {number}"}],
            "answer": json.dumps({"category": f"c{number % 4}"}, indent=1),
            "category": f"c{number % 4}",
            "group": f"g{number}",
        }
        for number in range(items)
    ]
    (directory / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return await store.put_tree(directory, kind="suite", metadata={})


@dataclass
class FakeGateway(inference_pb2_grpc.InferenceServiceServicer):
    """Stands in for serving: answers by rule, so that the right verdict is known beforehand."""

    answers: dict[int, Callable[[int], str]]
    calls: Counter[str] = field(default_factory=Counter)
    digests: dict[int, tuple[str, str]] = field(default_factory=lambda: {0: (BASE, ""), 1: (BASE, ADAPTER)})
    before: Callable[[str, int], Any] | None = None
    rule: Callable[[int, list[str]], str] | None = None
    called: Callable[[int, Any], tuple[str, str]] | None = None
    """Name and arguments of the call that a version makes of a request that offers tools."""

    async def Generate(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {KEY}":
            raise Unauthenticated("unknown key")
        if metadata.get("x-pawl-purpose") != "evaluation":
            raise PermissionDenied("candidates are for evaluation only")
        task, _, version = request.model.partition("@")
        if task != TASK or int(version) not in self.answers:
            raise NotFound(f"no model {request.model}", field="model")
        words = request.messages[-1].content.split()
        number = int(words[1]) if words[:1] == ["ticket"] and words[1].isdigit() else -1
        self.calls[f"{version}/{number}"] += 1
        if self.before is not None:
            await self.before(request.model, number)
        base, adapter = self.digests[int(version)]
        calls = []
        if self.called is not None and request.form.tools_json:
            name, arguments = self.called(int(version), request)
            calls = [inference_pb2.ToolCall(id="call-1", name=name, arguments=arguments)]
        return inference_pb2.GenerateResponse(
            request_id=request.request_id,
            text="" if calls else self.told(int(version), number, [message.content for message in request.messages]),
            tool_calls=calls,
            finish_reason="stop",
            usage=inference_pb2.Usage(prompt_tokens=10 * len(request.messages), completion_tokens=5),
            provenance=inference_pb2.Provenance(
                model_version=request.model, base_digest=base, adapter_digest=adapter, tokenizer_digest="t",
                template_digest="m",
            ),
        )  # fmt: skip

    def told(self, version: int, number: int, messages: list[str]) -> str:
        return self.rule(version, messages) if self.rule is not None else self.answers[version](number)

    async def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        raise NotImplementedError

    async def ExplainRoute(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotFound("nobody here asks for a reason")

    def GenerateStream(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotFound("nobody here asks for a stream")


def command(suite_digest: str, report_id: str = "report-1", **changes: Any) -> EvaluateModel:
    return EvaluateModel(
        tenant=TENANT,
        task=TASK,
        turn_id="turn-1",
        spec=changes.pop("spec", spec()),
        report_id=report_id,
        candidate=Contender(name="fine_tuned", version=1, digest=ADAPTER),
        baselines=(Contender(name="base", version=0, digest=BASE), Contender(name="stable", version=0, digest=BASE)),
        suite_digest=suite_digest,
        dataset_digest="sha256:" + "d" * 64,
        **changes,
    )


async def send(link: NatsLink, event: Event, **options: Any) -> None:
    await publish(link.js, envelop(event, source="test", tenant=TENANT, task=TASK, **options))


class Facts:
    """What the evaluator said, in order."""

    def __init__(self, link: NatsLink) -> None:
        self._link = link
        self._read: list[Any] = []
        self._next = 1

    async def of(self, model: type[Any]) -> list[Any]:
        """Envelopes of one type on the EVT stream."""
        info = await self._link.js.stream_info("EVT")
        while self._next <= int(info.state.last_seq):
            self._read.append(await self._link.js.get_msg("EVT", self._next))
            self._next += 1
        return [
            decode(model, message.subject, message.data or b"", message.headers)
            for message in self._read
            if message.subject == model.subject
        ]


class Traffic:
    """Production as seen on the streams."""

    def __init__(self, link: NatsLink, version: int = 2, stable: int = 1) -> None:
        self._link = link
        self.version, self.stable = version, stable
        self._count = 0

    async def rollout(
        self, stage: str, generation: int, share: float = 0.0, turn: str = "turn-1", **changes: Any
    ) -> None:
        fact = RolloutChanged(
            tenant=TENANT, task=TASK, turn_id=turn, generation=generation, stage=stage, version=self.version,
            stable_version=self.stable, share=share, spec=changes.get("spec", spec()), started_at=datetime.now(UTC),
        )  # fmt: skip
        await send(self._link, fact, traceparent=TRACE, turn_id=turn)

    def inference(self, role: Role, output: str, **changes: Any) -> Inference:
        self._count += 1
        values: dict[str, Any] = {
            "request_id": f"request-{self._count}",
            "generation": 5,
            "version": self.stable if role is Role.STABLE else self.version,
            "role": role,
            "unit": f"unit-{self._count}",
            "assignment_probability": 1.0,
            "messages": (Message(role="user", content="hello"),),
            "output": output,
            "finish_reason": "stop",
            "provenance": Provenance(base_digest=BASE),
            "created_at": datetime.now(UTC),
        }
        return Inference(**{**values, **changes})

    async def pair(self, stable: str, shadow: str, *, reference: str | None, **changes: Any) -> Inference:
        asked = self.inference(Role.STABLE, stable, **changes)
        mirrored = self.inference(Role.SHADOW, shadow, **changes, pair_id=asked.request_id, unit=asked.unit)
        told = [self.outcome(asked, reference)] if reference is not None else []
        await asyncio.gather(*(send(self._link, event) for event in (asked, mirrored, *told)))
        return asked

    async def window(self, role: Role, rho: float, *, bad: bool, generation: int, **changes: Any) -> Inference:
        probability = rho if role is Role.CANARY else 1.0 - rho
        output = "not json" if bad else label(0)
        asked = self.inference(role, output, generation=generation, assignment_probability=probability, **changes)
        await send(self._link, asked)
        return asked

    def outcome(self, asked: Inference, reference: str | None, **changes: Any) -> Outcome:
        same = reference is not None and answer_digest(reference) == answer_digest(asked.output)
        values: dict[str, Any] = {
            "feedback_id": f"feedback-{asked.request_id}",
            "source": "app",
            "kind": "correction",
            "signal": Signal.GOOD if same else Signal.BAD,
            "request_id": asked.request_id,
            "version": asked.version,
            "role": asked.role,
            "generation": asked.generation,
            "unit": asked.unit,
            "reference_digest": answer_digest(reference) if reference is not None else None,
            "answered_at": asked.created_at,
            "created_at": datetime.now(UTC),
        }
        return Outcome(**{**values, **changes})
