"""The trainer as a process: commands in, facts out, whatever is killed meanwhile."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest_asyncio

from libs.contracts.ids import digest_bytes
from libs.contracts.routes import RunWish
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from libs.runtime.grpc_client import channel
from libs.testing.wait import eventually
from services.trainer.tests.support import Bench, Trainer


@pytest_asyncio.fixture
async def running(trainer: Trainer, bench: Bench) -> Trainer:
    if trainer._process is None or trainer._process.poll() is not None:
        trainer.start()
    await trainer.ready()
    return trainer


async def ask(trainer: Trainer, run_id: str) -> Any:
    async with channel(f"127.0.0.1:{trainer.grpc_port}") as opened:
        stub = trainer_pb2_grpc.TrainerServiceStub(opened)
        return (await stub.GetRun(trainer_pb2.GetRunRequest(run_id=run_id))).run


async def test_a_command_becomes_an_adapter_with_all_its_facts(running: Trainer, bench: Bench, tmp_path: Path) -> None:
    command = await bench.command(epochs=2)
    traceparent = await bench.send(command)
    completed = (await bench.until(command.run_id, "completed")).data
    facts = await bench.facts(command.run_id)

    kinds = [fact.type for fact in facts]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert "progressed" in kinds
    assert "checkpointed" in kinds
    assert {fact.headers["traceparent"].split("-")[1] for fact in facts} == {traceparent.split("-")[1]}
    assert {fact.headers["ce-turnid"] for fact in facts} == {command.turn_id}
    reported = [fact.data["step"] for fact in facts if fact.type == "progressed"]
    assert reported[0] == 1
    assert reported[-1] == 50
    assert completed["steps"] == 50
    assert completed["killed_at_step"] == 0
    assert completed["resumed_at_step"] == 0
    assert completed["loss_curve"][-1][1] < completed["loss_curve"][0][1] / 2

    adapter = await bench.objects.fetch_tree(completed["adapter_digest"], tmp_path / "adapter")
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "pawl.json", "parity.json", "README.md",
    }  # fmt: skip
    told = json.loads((adapter / "pawl.json").read_text())
    assert told["base_digest"] == command.base_digest
    assert told["dataset_digest"] == command.dataset_digest
    assert json.loads((adapter / "adapter_config.json").read_text())["modules_to_save"] is None
    described = json.loads(await bench.objects.get_bytes(completed["run_manifest_digest"]))
    assert described["recipe"]["rank"] == 8
    assert described["lock_digest"].startswith("sha256:")
    assert described["environment"]["torch"]

    run = await ask(running, command.run_id)
    assert run.status == "succeeded"
    assert run.adapter_digest == completed["adapter_digest"]
    assert run.pid == 0

    async with channel(f"127.0.0.1:{running.grpc_port}") as opened:
        stub = trainer_pb2_grpc.TrainerServiceStub(opened)
        told = await stub.DescribeRun(trainer_pb2.DescribeRunRequest(run_id=command.run_id, estimate=True), timeout=170)
        compared = {row["what"]: row["off"] for row in json.loads(told.comparison_json)}
        assert abs(compared["peak memory (bytes)"]) < 0.1, compared

        inputs: dict[str, Any] = {
            "spec_json": command.spec.model_dump_json(), "base_digest": command.base_digest,
            "dataset_digest": command.dataset_digest,
        }  # fmt: skip
        plan = json.loads((await stub.PlanRun(trainer_pb2.PlanRunRequest(**inputs), timeout=170)).plan_json)
        assert (plan["steps"], plan["fits"], plan["calibrated_by"]) == (50, True, 1)
        mask = json.loads((await stub.ShowMask(trainer_pb2.ShowMaskRequest(rows=2, **inputs), timeout=170)).mask_json)
        assert [part for part in mask["mask"][1]["parts"] if part[1]] == [["sum 1<|end|>", True]]

        request = trainer_pb2.ReproduceRunRequest(run_id=command.run_id)
        steps = [step async for step in stub.ReproduceRun(request, timeout=170)]
        assert steps[-1].same, steps[-1].reason


async def test_a_finished_run_that_is_commanded_again_says_nothing_new(running: Trainer, bench: Bench) -> None:
    command = await bench.command(max_steps=4)
    await bench.send(command)
    await bench.until(command.run_id, "completed")
    before = len(await bench.facts(command.run_id))
    await bench.send(command)
    await eventually(lambda: running.log.count("run has ended, nothing to do"), 20)
    info = await bench.link.js.consumer_info("CMD", "trainer-train")
    assert len(await bench.facts(command.run_id)) == before
    assert info.num_pending == 0


async def test_a_training_process_killed_twice_ends_with_the_bytes_of_one_that_was_not(
    running: Trainer, bench: Bench, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"max_steps": 120, "epochs": 99, "checkpoint_steps": 5, "dropout": 0.1}
    whole, command = await bench.command(**options), await bench.command(**options)
    await bench.send(whole)
    await bench.send(command)
    for attempt, step in ((1, 20), (2, 60)):
        await bench.until(command.run_id, "progressed", _past(attempt, step))
        os.kill((await ask(running, command.run_id)).pid, signal.SIGKILL)
    resumed = (await bench.until(command.run_id, "started", lambda data: data["epoch"] == 3)).data
    completed = (await bench.until(command.run_id, "completed")).data
    assert resumed["resumed_at_step"] >= 60
    assert completed["resumed_at_step"] == resumed["resumed_at_step"]
    assert completed["killed_at_step"] > 60
    assert completed["steps"] == 120
    unbroken = (await bench.until(whole.run_id, "completed")).data
    found = [
        (await bench.objects.fetch_tree(each["adapter_digest"], tmp_path / each["run_id"]))
        / "adapter_model.safetensors"
        for each in (unbroken, completed)
    ]
    assert found[0].read_bytes() == found[1].read_bytes()


def _past(attempt: int, step: int) -> Callable[[dict[str, Any]], bool]:
    return lambda data: data["epoch"] == attempt and data["step"] > step


async def test_a_killed_trainer_leaves_no_process_behind_and_its_run_goes_on_elsewhere(
    running: Trainer, bench: Bench
) -> None:
    command = await bench.command(max_steps=5000, epochs=999, checkpoint_steps=5)
    await bench.send(command)
    await bench.until(command.run_id, "checkpointed", lambda data: data["step"] >= 20)
    child = (await ask(running, command.run_id)).pid
    running.kill()
    await eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", 5)
    shutil.rmtree(running.home / "state" / "runs")
    running.start()
    resumed = (await bench.until(command.run_id, "started", lambda data: data["epoch"] == 2)).data
    assert resumed["resumed_at_step"] >= 20, "the local directory is gone: this came from object storage"
    await bench.wish(command, RunWish.CANCEL)
    await bench.until(command.run_id, "failed")


async def test_a_stopped_trainer_checkpoints_first_and_hands_its_run_over(running: Trainer, bench: Bench) -> None:
    command = await bench.command(max_steps=5000, epochs=999, checkpoint_steps=10_000)
    await bench.send(command)
    reported = (await bench.until(command.run_id, "progressed", lambda data: data["step"] > 5)).data["step"]
    assert await asyncio.to_thread(running.terminate) == 0
    running.start()
    resumed = (await bench.until(command.run_id, "started", lambda data: data["epoch"] == 2)).data
    assert resumed["resumed_at_step"] >= reported
    saved = [fact.data["step"] for fact in await bench.facts(command.run_id) if fact.type == "checkpointed"]
    assert saved == [resumed["resumed_at_step"]]
    await bench.wish(command, RunWish.CANCEL)
    await bench.until(command.run_id, "failed")


async def test_pause_holds_a_run_and_run_continues_it_and_cancel_ends_it(running: Trainer, bench: Bench) -> None:
    command = await bench.command(max_steps=5000, epochs=999)
    await bench.send(command)
    await bench.until(command.run_id, "progressed", lambda data: data["step"] > 5)
    await bench.wish(command, RunWish.PAUSE)

    async def paused() -> bool:
        return bool((await ask(running, command.run_id)).status == "paused")

    await eventually(paused, 30)
    assert (await ask(running, command.run_id)).pid == 0
    await bench.wish(command, RunWish.RUN)
    resumed = (await bench.until(command.run_id, "started", lambda data: data["epoch"] == 2)).data
    assert resumed["resumed_at_step"] > 5
    await bench.wish(command, RunWish.CANCEL, "not needed")
    failed = (await bench.until(command.run_id, "failed")).data
    assert failed["cancelled"]
    assert failed["reason"] == "cancelled by ann: not needed"
    run = await ask(running, command.run_id)
    assert run.status == "cancelled"
    assert run.pid == 0


async def test_a_base_that_is_not_there_fails_the_run_with_its_name(running: Trainer, bench: Bench) -> None:
    command = await bench.command()
    missing = command.model_copy(update={"base_digest": digest_bytes(b"nowhere")})
    await bench.send(missing)
    failed = (await bench.until(missing.run_id, "failed")).data
    assert failed["reason"].startswith("BASE_MISSING: the base model sha256:")
    assert not failed["cancelled"]
