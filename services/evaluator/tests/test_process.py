"""The evaluator as a process: starts, answers, is killed and goes on."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from libs.artifacts import ObjectStore
from libs.contracts.errors import NotFound
from libs.contracts.estimates import Verdict
from libs.contracts.events import Assessment, ReportCompleted
from libs.contracts.stubs.pawl.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from libs.eventing.connection import NatsLink
from libs.runtime.grpc_client import call, channel
from libs.testing.servers import NatsServer, S3Server, free_port
from libs.testing.wait import eventually
from services.evaluator.tests.support import KEY, Facts, FakeGateway, Traffic, command, put_suite, right, send, spec

ROOT = Path(__file__).parents[3]


async def spawn(environment: dict[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.evaluator", cwd=ROOT, env={**os.environ, **environment}, stderr=stderr
        )


async def test_a_killed_process_finishes_its_report_and_answers_questions(
    link: NatsLink,
    nats_server: NatsServer,
    s3_server: S3Server,
    object_store: ObjectStore,
    gateway: FakeGateway,
    gateway_address: str,
    tmp_path: Path,
) -> None:
    port = free_port()
    environment = {
        "PAWL_NATS_URL": nats_server.url,
        "PAWL_S3_ENDPOINT": s3_server.endpoint,
        "PAWL_S3_ACCESS_KEY": s3_server.access_key,
        "PAWL_S3_SECRET_KEY": s3_server.secret_key,
        "PAWL_S3_BUCKET": object_store._bucket,
        "PAWL_S3_REGION": s3_server.region,
        "PAWL_EVALUATOR_STATE_DIR": str(tmp_path / "state"),
        "PAWL_EVALUATOR_GRPC_PORT": str(port),
        "PAWL_EVALUATOR_HEALTH_PORT": "0",
        "PAWL_EVALUATOR_GATEWAY_ADDRESS": gateway_address,
        "PAWL_EVALUATOR_API_KEY": KEY,
        "PAWL_EVALUATOR_SETTLE_SECONDS": "0.2",
        "PAWL_EVALUATOR_ASSESS_SECONDS": "0.2",
    }
    log = tmp_path / "evaluator.log"
    held = asyncio.Event()

    async def before(model: str, number: int) -> None:
        if number >= 40 and not held.is_set():
            await asyncio.sleep(60)

    gateway.before = before
    suite = await put_suite(object_store, tmp_path / "suite")
    process = await spawn(environment, log)
    try:
        await send(link, command(suite))
        await eventually(lambda: sum(gateway.calls.values()) >= 45, 30)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        held.set()
        process = await spawn(environment, log)
        facts = Facts(link)

        async def report() -> Any:
            return await facts.of(ReportCompleted)

        envelope = (await eventually(report, 40))[0]
        assert envelope.data.verdict is Verdict.PASS
        # In flight, in the queue, in the transaction: eight each.
        assert sum(count - 1 for count in gateway.calls.values()) <= 24

        traffic = Traffic(link)
        await traffic.rollout("shadow", 5, spec=spec())

        async def assessed() -> Any:
            await traffic.pair(right(1), right(1), reference=right(1))
            return [found for found in await facts.of(Assessment) if found.data.pairs]

        await eventually(assessed, 20, every=0.2)
        connection = channel(f"127.0.0.1:{port}")
        stub = evaluator_pb2_grpc.EvaluatorServiceStub(connection)
        listed = await call(stub.ListReports, evaluator_pb2.ListReportsRequest(task="triage"))
        assert [(row.report_id, row.verdict) for row in listed.reports] == [("report-1", "pass")]
        whole = await call(stub.GetReport, evaluator_pb2.GetReportRequest(report_id="report-1", with_html=True))
        assert len(json.loads(whole.report_json)["items"]) == 60
        assert whole.report_html.startswith("<!doctype html>")
        with pytest.raises(NotFound, match="no task 'triage'"):
            await call(stub.StartEvaluation, evaluator_pb2.StartEvaluationRequest(task="triage", version=1))
        told = await call(stub.ListAssessments, evaluator_pb2.ListAssessmentsRequest(task="triage", version=2))
        assert json.loads(told.assessments_json[-1])["stage"] == "shadow"
        with pytest.raises(NotFound, match="no report 'nothing'"):
            await call(stub.GetReport, evaluator_pb2.GetReportRequest(report_id="nothing"))
        await connection.close()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert KEY not in log.read_text()
