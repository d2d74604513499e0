"""A command becomes one dataset version, through restarts, repetition and failure."""

import json

import pytest

from libs.contracts.errors import NotFound
from libs.contracts.events import DatasetBuilt, DatasetRefused
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.eventing.deadletters import list_dead
from libs.eventing.publish import publish
from libs.outbox.migrate import drift
from libs.testing.wait import eventually
from services.curation.store import METADATA, datasets
from services.curation.tests.conftest import House, tickets


async def test_the_migrated_schema_is_the_one_the_code_uses(house: House) -> None:
    assert await drift(house.database_url, "services.curation", METADATA) == []


async def test_a_command_becomes_a_dataset_with_its_suite_and_report(house: House) -> None:
    await house.segment(tickets(150))
    await house.ask(1, watermark=1)
    [(subject, body, headers)] = await house.answers(1)
    assert (subject, headers["ce-turnid"]) == (DatasetBuilt.subject, "turn-1")
    built = DatasetBuilt.model_validate(body)
    manifest = await house.objects.get_manifest(built.digest)
    assert {"train.jsonl", "validation.jsonl", "test.jsonl", "report.json", "README.md", "croissant.json"} == set(
        manifest.files
    )
    assert manifest.metadata["suite_digest"] == built.suite_digest
    proof = manifest.metadata["leakage_proof"]["edges"]
    assert {kind for kind, each in proof.items() if each["crossing"] == 0} == set(proof) >= {"exact", "near"}
    suite = await house.objects.get_manifest(built.suite_digest)
    items = await house.objects.get_bytes(suite.files["items.jsonl"].digest)
    assert len(items.splitlines()) == built.splits["test"]
    servicer = house.rpc
    answer = await servicer.GetDataset(pb.GetDatasetRequest(task="triage"), None)
    assert (answer.dataset.digest, json.loads(answer.report_json)["rows"]["in"]) == (built.digest, 150)
    with pytest.raises(NotFound, match="no dataset 9"):
        await servicer.GetDataset(pb.GetDatasetRequest(task="triage", number=9), None)


async def test_a_command_that_is_delivered_again_builds_nothing_new(house: House) -> None:
    await house.segment(tickets(100))
    envelope = await house.ask(1, watermark=1)
    await house.answers(1)
    await house.curator.build(envelope)
    other = await house.ask(1, watermark=1)
    assert other.id != envelope.id
    first, second = await house.answers(2)
    assert first[1] == second[1]


async def test_a_command_waits_for_segments_it_has_not_heard_of(house: House) -> None:
    fact = await house.segment(tickets(100), announce=False)
    await house.ask(1, watermark=1)
    await eventually(lambda: _delivered_twice(house), 15)
    assert await house.facts() == []
    await house.say(fact)
    [(subject, _, _)] = await house.answers(1)
    assert subject == DatasetBuilt.subject


async def _delivered_twice(house: House) -> bool:
    info = await house.link.js.consumer_info("CMD", "curation-build")
    return (info.num_redelivered or 0) > 0


async def test_a_second_version_keeps_the_frozen_suite(house: House) -> None:
    await house.segment(tickets(120))
    await house.ask(1, watermark=1)
    await house.answers(1)
    await house.segment(tickets(120, 300, kind="correction", source="desk"))
    await house.ask(2, watermark=2)
    first, second = [DatasetBuilt.model_validate(body) for _, body, _ in await house.answers(2)]
    assert (second.suite_version, second.suite_digest) == (1, first.suite_digest)
    await house.ask(3, watermark=2, evaluation={"suite": {"admit": {"sources": ["desk"]}}})
    third = DatasetBuilt.model_validate((await house.answers(3))[2][1])
    assert third.suite_version == 2


async def test_changed_fractions_move_no_row(house: House) -> None:
    await house.segment(tickets(150))
    await house.ask(1, watermark=1)
    await house.answers(1)
    await house.ask(2, watermark=1, data={"split": {"train": 0.3, "validation": 0.1, "test": 0.6}})
    first, second = [DatasetBuilt.model_validate(body) for _, body, _ in await house.answers(2)]
    assert first.splits == second.splits


async def test_too_little_data_is_refused_in_public(house: House) -> None:
    await house.segment(tickets(5))
    await house.ask(1, watermark=1)
    [(subject, body, _)] = await house.answers(1)
    assert subject == DatasetRefused.subject
    assert "min_train_rows" in body["reason"]
    assert (await datasets.listed(house.database, "default", "triage")) == []


async def test_a_schema_that_is_none_is_refused_by_name(house: House) -> None:
    await house.segment(tickets(50))
    await house.ask(1, watermark=1, output={"format": "json", "schema": {"type": "nonsense"}})
    [(_, body, _)] = await house.answers(1)
    assert body["reason"].startswith("output.schema:")


async def test_a_damaged_segment_is_refused_and_its_command_a_dead_letter(house: House) -> None:
    digest = await house.objects.put_bytes(b"not parquet", kind="segment")
    fact = (await house.segment(tickets(5), announce=False)).model_copy(update={"digest": digest})
    await house.say(fact)
    await house.ask(1, watermark=1)
    [(subject, body, _)] = await house.answers(1)
    assert subject == DatasetRefused.subject
    assert "cannot be read" in body["reason"]
    assert len(await list_dead(house.link.js)) == 1


async def test_a_build_cut_off_by_a_drain_is_done_by_the_next_process(house: House) -> None:
    await house.segment(tickets(150))
    envelope = await house.ask(1, watermark=1)
    await eventually(lambda: any((house.home / "work").glob("*/request.json")))
    await house.stop()
    assert not list((house.home / "work").glob("*"))
    house.link._broker = type(house.link._broker)(house.link.client, graceful_timeout=0.4)
    await house.start()
    [(subject, _, headers)] = await house.answers(1)
    assert (subject, headers["ce-causeid"]) == (DatasetBuilt.subject, envelope.id)
    await publish(house.link.js, envelope)
