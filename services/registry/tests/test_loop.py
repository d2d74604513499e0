"""The registry's half of the loop on a real broker and a real database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import grpc
import pytest

from libs.contracts.commands import BuildDataset, EvaluateModel, TrainModel
from libs.contracts.estimates import Verdict
from libs.contracts.events import RolloutChanged, TaskApplied, TurnChanged, TurnState
from libs.contracts.routes import RunState
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from libs.contracts.subjects import COMMANDS, EVENTS, RUNS, TASKS
from libs.eventing.kv import kv_get
from libs.outbox.migrate import drift
from libs.runtime.grpc_client import errors_from_rpc
from libs.telemetry import trace_id
from libs.testing.wait import eventually
from services.registry.domain.state import Turn
from services.registry.store import METADATA
from services.registry.tests.house import House
from services.registry.tests.world import (
    BASE,
    TRACE,
    adapter,
    assessment,
    built,
    imported,
    progressed,
    report,
    segment,
    trained,
)


def at(*states: TurnState) -> Callable[[Turn], bool]:
    return lambda turn: turn.state in states


async def go_to_evaluating(house: House, *, times: int = 1) -> Turn:
    await house.apply()
    await house.say(segment(1, example=100), times=times)
    await house.say(imported(1), times=times)
    turn = await house.until(at(TurnState.CURATING))
    await house.say(built(turn), times=times)
    turn = await house.until(at(TurnState.TRAINING))
    await house.say(progressed(turn, 5), times=times)
    await house.say(trained(turn, 1), times=times)
    await house.until(at(TurnState.LOADING))
    await house.load(adapter(1))
    return await house.until(at(TurnState.EVALUATING))


async def go_to_promoted(house: House, *, times: int = 1) -> Turn:
    turn = await go_to_evaluating(house, times=times)
    await house.say(report(turn, Verdict.PASS), times=times)
    turn = await house.until(at(TurnState.SHADOW))
    for share in (5, 25, 50, 100):
        await house.say(assessment(turn, Verdict.PASS, datetime.now(UTC)), times=times)
        turn = await house.until(partial(_has_share, share))
    return turn


def _has_share(share: int, turn: Turn) -> bool:
    return turn.share == share


async def subjects(house: House, kind: str, stream: str = EVENTS) -> int:
    info = await house.link.js.stream_info(stream, subjects_filter=kind)
    return int((info.state.subjects or {}).get(kind, 0))


async def test_the_migrated_schema_is_the_declared_one(house: House, database_url: str) -> None:
    assert await drift(database_url, "services.registry", METADATA) == []


async def test_applying_a_task_writes_its_specification_and_its_route(house: House) -> None:
    answer = await house.apply(system="Be kind.")
    assert answer.changed
    route = await house.until_route(lambda route: route.generation == 1)
    assert [(arm.version, arm.share, arm.digest) for arm in route.arms] == [(0, 1.0, BASE)]
    applied = TaskApplied.model_validate_json((await kv_get(house.link, TASKS, "default.triage")).value or b"")
    assert (applied.revision, applied.spec.system) == (1, "Be kind.")
    again = await house.apply(system="Be kind.")
    assert (again.changed, again.task.revision) == (False, 1)
    assert (await house.apply(system="Be brief.")).task.revision == 2


async def test_a_base_that_was_not_uploaded_is_refused_by_name(house: House) -> None:
    house.objects.clear()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.apply()
    error = errors_from_rpc(refused.value)
    assert (error.reason, error.field) == ("BASE_MISSING", "base_digest")


async def test_a_wrong_specification_names_the_field(house: House) -> None:
    spec = json.dumps({"task": "triage", "base": "b", "recipe": {"rank": 7}})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.rpc.ApplyTask(pb.ApplyTaskRequest(spec_json=spec, base_digest=BASE))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "rank" in (errors_from_rpc(refused.value).field or "")


async def test_an_unknown_task_is_answered_with_the_nearest_known_one(house: House) -> None:
    await house.apply()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.rpc.ListVersions(pb.ListVersionsRequest(task="triag"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "did you mean 'triage'" in (refused.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError, match="no turn"):
        await house.rpc.GetTurn(pb.GetTurnRequest(turn_id="turn-x"))


async def test_the_loop_turns_from_an_import_to_a_promoted_version(house: House) -> None:
    turn = await go_to_promoted(house)
    route = await house.until_stable(1)
    assert {arm.version: arm.role.value for arm in route.arms} == {1: "stable", 0: "previous"}
    told = (await house.rpc.GetTurn(pb.GetTurnRequest(turn_id=turn.turn_id))).turn
    assert [step.state for step in told.steps] == [
        "curating", "training", "loading", "evaluating", "shadow", "canary", "canary", "canary", "promoted",
    ]  # fmt: skip
    assert json.loads(told.progress_json)["curve"] == [[1, 2.0], [10, 0.5]]
    versions = (await house.rpc.ListVersions(pb.ListVersionsRequest(task="triage"))).versions
    assert [(version.number, version.status) for version in versions] == [(0, "previous"), (1, "stable")]
    assert json.loads(versions[1].evidence_json)["report"]["verdict"] == "pass"
    log = (await house.rpc.ListDecisions(pb.ListDecisionsRequest(task="triage"))).decisions
    assert [entry.sequence for entry in log] == sorted(entry.sequence for entry in log)
    assert [entry.action for entry in log][:2] == ["applied", "curating"]
    assert json.loads(log[-1].evidence_json)["e_value"] == 30.0
    rolled = await house.rpc.RollBack(pb.RollBackRequest(task="triage", by="ada", reason="complaints"))
    assert [arm["version"] for arm in json.loads(rolled.task.route_json)["arms"]] == [0]


async def test_one_trace_runs_from_the_trigger_through_every_message_of_the_turn(house: House) -> None:
    turn = await go_to_promoted(house)
    assert trace_id(turn.traceparent) == trace_id(TRACE)
    for model in (BuildDataset, TrainModel, EvaluateModel):
        message = await house.link.js.get_last_msg(COMMANDS, model.subject)
        assert trace_id(message.headers["traceparent"]) == trace_id(TRACE)
        assert message.headers["ce-turnid"] == turn.turn_id
    for fact in (TurnChanged, RolloutChanged):
        await eventually(partial(_has, house, fact.subject))
        message = await house.link.js.get_last_msg(EVENTS, fact.subject)
        assert trace_id(message.headers["traceparent"]) == trace_id(TRACE)
    route = await house.until_stable(1)
    arm = route.version(1)
    assert arm is not None
    assert arm.traceparent == turn.traceparent


async def _has(house: House, subject: str) -> bool:
    return await subjects(house, subject) > 0


async def test_facts_delivered_twice_change_nothing_the_second_time(house: House) -> None:
    await go_to_promoted(house, times=2)
    route = await house.until_stable(1)
    assert route.generation == (await house.task()).generation == 7
    assert [await house.commands(model.subject) for model in (BuildDataset, TrainModel, EvaluateModel)] == [1, 1, 1]
    assert await subjects(house, RolloutChanged.subject) == 5


async def test_a_wish_about_a_run_is_desired_state(house: House) -> None:
    await house.apply()
    await house.say(segment(1, corrections=10))
    turn = await house.until(at(TurnState.CURATING))
    await house.say(built(turn))
    turn = await house.until(at(TurnState.TRAINING))
    run_id, turn_id = turn.run_id, turn.turn_id
    for wish in ("pause", "cancel"):
        await house.rpc.SteerTurn(pb.SteerTurnRequest(turn_id=turn_id, wish=wish, by="ada", reason="cost"))

        async def wished(wish: str = wish) -> bool:
            entry = await kv_get(house.link, RUNS, run_id)
            return entry.value is not None and RunState.model_validate_json(entry.value).wish.value == wish

        await eventually(wished)
    told = (await house.rpc.GetTurn(pb.GetTurnRequest(turn_id=turn_id))).turn
    assert (told.state, told.reason) == ("cancelled", "cancelled by ada: cost")


async def test_a_refused_version_can_be_overridden_by_name(house: House) -> None:
    turn = await go_to_evaluating(house)
    await house.say(report(turn, Verdict.INCONCLUSIVE))
    await house.until(at(TurnState.REFUSED))
    answer = await house.rpc.OverrideGates(
        pb.OverrideGatesRequest(task="triage", version=1, gates=["better-than-base"], by="grace", reason="new product")
    )
    assert (answer.turn.state, answer.turn.trigger) == ("loading", "override")
    await house.handlers.tick()
    route = await house.until_route(lambda route: any(arm.version == 1 and arm.share > 0 for arm in route.arms))
    assert {arm.version: (arm.role.value, arm.share) for arm in route.arms} == {
        0: ("stable", 0.95), 1: ("canary", 0.05),
    }  # fmt: skip
    log = (await house.rpc.ListDecisions(pb.ListDecisionsRequest(task="triage"))).decisions
    (granted,) = [entry for entry in log if entry.action == "override"]
    assert (granted.by, granted.reason) == ("grace", "new product")


async def test_a_fact_about_an_unknown_task_becomes_a_dead_letter(house: House) -> None:
    await house.say(segment(1, corrections=10).model_copy(update={"task": "nobody"}))

    async def buried() -> bool:
        return await subjects(house, "dlq.registry-ingestion", "DLQ") == 1

    await eventually(buried)
