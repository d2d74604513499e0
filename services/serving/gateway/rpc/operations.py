"""OperationsService on the wire: the fleet and who used what, for operators."""

from datetime import UTC, date, datetime

from libs.contracts.errors import InvalidInput
from libs.contracts.routes import EngineReport, KeyRole
from libs.contracts.stubs.pawl.serving.v1 import operations_pb2 as pb
from libs.contracts.stubs.pawl.serving.v1 import operations_pb2_grpc
from services.serving.gateway.domain import Demand, Ledger, Tables, demands
from services.serving.gateway.rpc.metadata import Context, metadata_of

SERVICE = "pawl.serving.v1.OperationsService"


class OperationsServicer(operations_pb2_grpc.OperationsServiceServicer):
    """Answers of one gateway: what it knows of the engines, and what was used through it."""

    def __init__(self, *, tables: Tables, ledger: Ledger) -> None:
        self._tables = tables
        self._ledger = ledger

    async def DescribeFleet(  # noqa: N802 - the generated name
        self,
        request: pb.DescribeFleetRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.DescribeFleetResponse:
        """Engines and what the routes want of them; the operator's alone, since engines serve all tenants."""
        self._tables.caller(metadata_of(context).get("authorization", "")).need(KeyRole.OPERATOR)
        engines, now = self._tables.engines(), datetime.now(UTC)
        return pb.DescribeFleetResponse(
            engines=[_engine(each, now) for each in sorted(engines, key=lambda each: each.engine_id)],
            demands=[_demand(each) for each in demands(self._tables.every_route(), engines)],
        )

    async def ReportUsage(  # noqa: N802 - the generated name
        self, request: pb.ReportUsageRequest, context: Context
    ) -> pb.ReportUsageResponse:
        """Sums by day; a key that is not an operator's sees those of its own tenant."""
        caller = self._tables.caller(metadata_of(context).get("authorization", ""))
        for name, day in (("since", request.since), ("until", request.until)):
            _check_day(name, day)
        tenant = None if KeyRole.OPERATOR in caller.roles else caller.tenant
        return pb.ReportUsageResponse(
            lines=[
                pb.UsageLine(
                    day=key.day,
                    tenant=key.tenant,
                    task=key.task,
                    version=key.version,
                    purpose=key.purpose,
                    key=key.key,
                    answers=use.answers,
                    prompt_tokens=use.prompt_tokens,
                    completion_tokens=use.completion_tokens,
                    engine_seconds=use.engine_seconds,
                    cost=use.cost,
                )
                for key, use in self._ledger.between(request.since, request.until, tenant)
            ]
        )


def _check_day(name: str, day: str) -> None:
    try:
        right = not day or date.fromisoformat(day).isoformat() == day
    except ValueError:
        right = False
    if not right:
        raise InvalidInput(f"{day[:40]!r} is not a date such as 2026-01-31", field=name)


def _engine(report: EngineReport, now: datetime) -> pb.Engine:
    return pb.Engine(
        engine_id=report.engine_id,
        address=report.address,
        base_digest=report.base_digest,
        slots=report.max_loras,
        max_adapters=report.max_adapters,
        routable=report.routable,
        resident=report.resident,
        pinned=report.pinned,
        cold=report.cold,
        failed=report.failed,
        in_flight=report.in_flight,
        waiting=report.waiting,
        hourly_cost=report.hourly_cost,
        silent_seconds=max(0.0, (now - report.beat_at).total_seconds()),
    )


def _demand(demand: Demand) -> pb.Demand:
    return pb.Demand(
        base_digest=demand.base_digest,
        serving=demand.serving,
        standby=demand.standby,
        others=demand.others,
        engines=demand.engines,
        slots=demand.slots,
        max_adapters=demand.max_adapters,
        advice=demand.advice,
    )
