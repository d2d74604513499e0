"""A teacher behind our own gateway and engine: what it writes waits for a person, and only what is approved trains."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest_asyncio

from libs.artifacts import ObjectStore
from libs.contracts.stubs.pawl.curation.v1 import review_pb2 as pb
from libs.eventing.connection import NatsLink
from services.curation.clients.endpoint import EndpointChat
from services.curation.tests.conftest import House, tickets
from services.curation.workflows.synthesising import Synthesis
from tests.e2e.stack import RunningStack

ANSWER = {
    "type": "object", "properties": {"team": {"enum": ["billing", "network"]}},
    "required": ["team"], "additionalProperties": False,
}  # fmt: skip


@pytest_asyncio.fixture
async def house(link: NatsLink, object_store: ObjectStore, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    opened = await House(link, object_store, database_url, tmp_path).start()
    yield opened
    await opened.stop()


async def lines_of(house: House, digest: str) -> list[dict[str, Any]]:
    manifest = await house.objects.get_manifest(digest)
    names = [name for name in manifest.files if name.endswith(".jsonl")]
    texts = [(await house.objects.get_bytes(manifest.files[name].digest)).splitlines() for name in names]
    return [json.loads(line) for text in texts for line in text]


async def test_of_what_our_own_engine_writes_only_the_approved_trains_with_its_lineage(
    stack: RunningStack, house: House
) -> None:
    told = stack.status()
    teacher = {
        "url": told["endpoints"]["http"], "model": "support-triage", "structured": True, "max_characters": 60,
        "per_call": 1, "max_tokens": 400, "temperature": 1.0, "evolve": 0.0,
    }  # fmt: skip
    policy: dict[str, Any] = {
        "output": {"format": "json", "schema": ANSWER}, "data": {"curation": {"synthesis": teacher}},
    }  # fmt: skip
    chat = EndpointChat(house.models, told["api_key"])
    synthesis = Synthesis(house.database, house.library, chat, house.home / "errands")
    await house.apply(**policy)
    rows = [
        replace(row, answer=json.dumps({"team": "network" if at % 2 else "billing"}))
        for at, row in enumerate(tickets(160))
    ]
    first = await house.built(rows, **policy)
    assert not [each for each in await lines_of(house, first.digest) if each.get("synthetic")]
    written = await synthesis.write("default", "triage", 16, "")
    assert written.queued >= 2, written
    waiting = (await house.reviews.ListReview(pb.ListReviewRequest(task="triage", kind="synthetic"), None)).items
    assert len(waiting) == written.queued
    chosen, refused = waiting[:2]
    for item, state in ((chosen, "approved"), (refused, "rejected")):
        await house.reviews.Decide(pb.DecideRequest(task="triage", item_id=item.item_id, state=state, by="ann"), None)
    second = await house.built([], 2, **policy)
    (made,) = [each for each in await lines_of(house, second.digest) if each.get("synthetic")]
    assert made["row_id"] == chosen.row_id
    assert json.loads(made["messages"][-1]["content"])["team"] in ("billing", "network")
    assert (made["lineage"]["model"], made["lineage"]["method"]) == ("support-triage", "self-instruct")
    assert set(made["lineage"]["seeds"]) <= {row.row_id for row in rows}
