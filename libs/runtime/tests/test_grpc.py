"""Calls between processes: errors keep their class, traces go on, a stop is clean."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from pydantic import BaseModel

from libs.contracts import errors
from libs.contracts.errors import FailedPrecondition, InvalidInput, PawlError, Permanent, Unavailable
from libs.runtime.grpc_client import call, channel, errors_from_rpc, remaining, rpc_errors
from libs.runtime.grpc_server import GrpcServer
from libs.telemetry import current_traceparent, span, trace_id
from libs.testing.wait import eventually

NAME = "pawl.sample.v1.Sample"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PawlError)]


class Sample:
    """A servicer of raw bytes: what it does is what its tests look at."""

    def __init__(self) -> None:
        self.behave: Callable[[bytes], Any] = lambda request: request
        self.closed = asyncio.Event()
        self.entered = asyncio.Event()
        self.seen: dict[str, Any] = {}

    async def one(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.entered.set()
        self.seen = {"traceparent": current_traceparent(), "left": remaining(context, 1000.0)}
        answer = self.behave(request)
        return bytes(await answer if asyncio.iscoroutine(answer) else answer)

    async def many(self, request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        try:
            for number in range(int(request)):
                self.entered.set()
                yield str(number).encode()
                if number == 2:
                    self.behave(request)
        finally:
            self.closed.set()

    async def written(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        for number in range(int(request)):
            await context.write(str(number).encode())

    async def gather(self, requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b"".join([request async for request in requests])

    async def both(
        self, requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request * 2


def register(servicer: Sample, server: Any) -> None:
    handlers: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(servicer.one),
        "Many": grpc.unary_stream_rpc_method_handler(servicer.many),
        "Written": grpc.unary_stream_rpc_method_handler(servicer.written),
        "Gather": grpc.stream_unary_rpc_method_handler(servicer.gather),
        "Both": grpc.stream_stream_rpc_method_handler(servicer.both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


@pytest.fixture
async def sample() -> Sample:
    return Sample()


@pytest.fixture
async def server(sample: Sample) -> AsyncIterator[GrpcServer]:
    serving = GrpcServer("127.0.0.1", 0)
    serving.add(register, sample, NAME)
    await serving.start()
    yield serving
    await serving.stop(0)


@pytest.fixture
async def client(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with channel(server.address) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_an_error_arrives_as_the_class_it_was_raised_as(
    client: Any, sample: Sample, kind: type[PawlError]
) -> None:
    def refuse(_: bytes) -> bytes:
        raise kind("größe fehlt", reason="NO_SIZE", field="rows.3.size", limit=5)

    sample.behave = refuse
    with pytest.raises(kind) as caught:
        await call(client.unary_unary(f"/{NAME}/One"), b"")
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.reason, caught.value.field) == ("größe fehlt", "NO_SIZE", "rows.3.size")
    assert caught.value.metadata == {"limit": "5"}
    failure = caught.value.__cause__
    assert isinstance(failure, grpc.aio.AioRpcError)
    assert failure.code().value[0] == kind.grpc_code


async def test_an_unexpected_error_tells_the_caller_nothing_but_whose_fault_it_is(
    client: Any, sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(_: bytes) -> bytes:
        raise KeyError("password of the database")

    sample.behave = break_down
    with pytest.raises(PawlError, match="internal error") as caught:
        await call(client.unary_unary(f"/{NAME}/One"), b"")
    assert caught.value.reason == "INTERNAL"
    assert "password" not in str(caught.value.__cause__)
    assert caught.value.metadata["trace"]
    assert "call failed" in caplog.text


async def test_what_a_model_refuses_is_invalid_input_at_its_field(client: Any, sample: Sample) -> None:
    class Inner(BaseModel):
        rank: int

    class Outer(BaseModel):
        recipe: list[Inner]

    sample.behave = lambda _: Outer.model_validate({"recipe": [{"rank": "x"}]})
    with pytest.raises(InvalidInput) as caught:
        await call(client.unary_unary(f"/{NAME}/One"), b"")
    assert caught.value.field == "recipe.0.rank"


async def test_an_error_in_the_middle_of_a_stream_keeps_its_class(client: Any, sample: Sample) -> None:
    def refuse(_: bytes) -> bytes:
        raise FailedPrecondition("no adapter", field="version")

    sample.behave = refuse
    received: list[bytes] = []

    async def read() -> None:
        with rpc_errors():
            async for token in client.unary_stream(f"/{NAME}/Many")(b"9"):
                received.append(token)

    with pytest.raises(FailedPrecondition) as caught:
        await read()
    assert received == [b"0", b"1", b"2"]
    assert caught.value.field == "version"


async def test_all_four_kinds_of_call_work_in_either_style(client: Any) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for each in (b"a", b"b"):
            yield each

    assert await call(client.unary_unary(f"/{NAME}/One"), b"x") == b"x"
    assert [each async for each in client.unary_stream(f"/{NAME}/Many")(b"3")] == [b"0", b"1", b"2"]
    assert [each async for each in client.unary_stream(f"/{NAME}/Written")(b"3")] == [b"0", b"1", b"2"]
    assert await client.stream_unary(f"/{NAME}/Gather")(requests()) == b"ab"
    assert [each async for each in client.stream_stream(f"/{NAME}/Both")(requests())] == [b"aa", b"bb"]


async def test_a_client_that_hangs_up_closes_the_stream_on_the_server(client: Any, sample: Sample) -> None:
    stream = client.unary_stream(f"/{NAME}/Many")(b"100000000")
    assert await stream.read() == b"0"
    stream.cancel()
    async with asyncio.timeout(10):
        await sample.closed.wait()


async def test_the_trace_goes_on_across_the_call_and_comes_back(client: Any, sample: Sample) -> None:
    with span("caller"):
        here = current_traceparent()
        answer = client.unary_unary(f"/{NAME}/One")(b"")
        await answer
    assert here is not None
    assert trace_id(sample.seen["traceparent"]) == trace_id(here)
    assert sample.seen["traceparent"] != here
    assert dict(await answer.trailing_metadata())["traceparent"] == sample.seen["traceparent"]


async def test_a_call_without_a_deadline_gets_one(server: GrpcServer, sample: Sample) -> None:
    sample.behave = lambda _: asyncio.sleep(60)
    async with channel(server.address, default_deadline=0.3) as impatient:
        with pytest.raises(Unavailable) as caught:
            await call(impatient.unary_unary(f"/{NAME}/One"), b"")
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert sample.seen["left"] < 0.4


async def test_a_server_that_is_not_there_is_unavailable_and_found_when_it_comes_back() -> None:
    serving = GrpcServer("127.0.0.1", 0)
    serving.add(register, Sample(), NAME)
    await serving.start()
    port = serving.port
    await serving.stop(0)
    async with channel(f"127.0.0.1:{port}") as client:
        with pytest.raises(Unavailable):
            await call(client.unary_unary(f"/{NAME}/One"), b"", timeout=5)
        again = GrpcServer("127.0.0.1", port)
        again.add(register, Sample(), NAME)
        await again.start()

        async def answers() -> bool:
            try:
                return bool(await call(client.unary_unary(f"/{NAME}/One"), b"x", timeout=1) == b"x")
            except Unavailable:
                return False

        await eventually(answers)
        await again.stop(0)


async def test_a_server_that_is_slow_to_be_reached_is_waited_for(server: GrpcServer) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As over a long way, with TLS, or to a machine that has much to do.
        await asyncio.sleep(0.6)
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    far = await asyncio.start_server(door, "127.0.0.1", 0)
    async with channel(f"127.0.0.1:{far.sockets[0].getsockname()[1]}") as client:
        assert await call(client.unary_unary(f"/{NAME}/One"), b"x", timeout=10) == b"x"
    far.close()


async def test_an_unknown_method_is_permanent(client: Any) -> None:
    with pytest.raises(Permanent) as caught:
        await call(client.unary_unary(f"/{NAME}/Nothing"), b"")
    assert caught.value.reason == "UNIMPLEMENTED"


async def test_a_status_of_a_foreign_server_becomes_the_class_of_its_code() -> None:
    empty = grpc.aio.Metadata()
    for code, kind in ((grpc.StatusCode.NOT_FOUND, errors.NotFound), (grpc.StatusCode.UNKNOWN, errors.Transient)):
        assert type(errors_from_rpc(grpc.aio.AioRpcError(code, empty, empty, details="x"))) is kind
    broken = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    failure = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, empty, broken, details="x")
    assert type(errors_from_rpc(failure)) is errors.NotFound


async def test_health_serves_then_not_while_it_drains(client: Any, server: GrpcServer, sample: Sample) -> None:
    health = health_pb2_grpc.HealthStub(client)
    for name in ("", NAME):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

    release = asyncio.Event()

    async def until_released() -> bytes:
        await release.wait()
        return b"finished"

    sample.behave = lambda _: until_released()
    running = asyncio.ensure_future(client.unary_unary(f"/{NAME}/One")(b"", timeout=30))
    await sample.entered.wait()
    stopping = asyncio.create_task(server.stop(30))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert not stopping.done()
    with pytest.raises(Unavailable) as refused:
        await call(client.unary_unary(f"/{NAME}/One"), b"late")
    assert refused.value.reason == "DRAINING"
    release.set()
    assert await running == b"finished"
    # The watch is still open: it does not hold the stop for the whole grace period.
    async with asyncio.timeout(10):
        await stopping


async def test_a_call_that_outlasts_the_grace_is_cancelled(client: Any, server: GrpcServer, sample: Sample) -> None:
    sample.behave = lambda _: asyncio.sleep(600)
    running = asyncio.ensure_future(call(client.unary_unary(f"/{NAME}/One"), b"", timeout=30))
    await sample.entered.wait()
    async with asyncio.timeout(10):
        await server.stop(0.2)
    with pytest.raises(Unavailable):
        await running


async def test_one_service_can_be_reported_as_not_serving(client: Any, server: GrpcServer) -> None:
    health = health_pb2_grpc.HealthStub(client)
    await server.set_serving(serving=False, service=NAME)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=NAME))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_and_can_be_left_out(client: Any) -> None:
    async def ask(over: grpc.aio.Channel) -> set[str]:
        stub = reflection_pb2_grpc.ServerReflectionStub(over)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = stub.ServerReflectionInfo(iter([request]))
        return {each.name async for answer in answers for each in answer.list_services_response.service}

    names = await ask(client)
    assert names == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    quiet = GrpcServer("127.0.0.1", 0, with_reflection=False)
    await quiet.start()
    async with channel(quiet.address) as over:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(over)
    # The refusal may overtake the question, which then cannot be sent any more: INTERNAL, in the client's words.
    assert refused.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    await quiet.stop(0)


async def test_calls_are_counted_by_method_and_code(client: Any, sample: Sample) -> None:
    def count(code: str) -> float:
        return REGISTRY.get_sample_value("pawl_grpc_requests_total", {"method": f"/{NAME}/One", "code": code}) or 0.0

    before = count("OK"), count("NOT_FOUND")
    await call(client.unary_unary(f"/{NAME}/One"), b"")

    def refuse(_: bytes) -> bytes:
        raise errors.NotFound("no such task")

    sample.behave = refuse
    with pytest.raises(errors.NotFound):
        await call(client.unary_unary(f"/{NAME}/One"), b"")
    await eventually(lambda: (count("OK"), count("NOT_FOUND")) == (before[0] + 1, before[1] + 1))


async def test_a_taken_port_is_refused_naming_port_and_variable(server: GrpcServer) -> None:
    second = GrpcServer("127.0.0.1", server.port, variable="PAWL_REGISTRY_GRPC_PORT")
    with pytest.raises(FailedPrecondition, match=f"127.0.0.1:{server.port}") as refused:
        await second.start()
    assert refused.value.field == "PAWL_REGISTRY_GRPC_PORT"


async def test_a_message_beyond_the_limit_is_refused_and_the_server_lives_on(sample: Sample) -> None:
    small = GrpcServer("127.0.0.1", 0, max_message_bytes=1000)
    small.add(register, sample, NAME)
    await small.start()
    async with channel(small.address) as over:
        with pytest.raises(errors.Transient):
            await call(over.unary_unary(f"/{NAME}/One"), b"x" * 2000)
        assert await call(over.unary_unary(f"/{NAME}/One"), b"x") == b"x"
    await small.stop(0)


async def test_a_long_message_and_much_metadata_do_not_lose_the_status(client: Any, sample: Sample) -> None:
    def refuse(_: bytes) -> bytes:
        raise InvalidInput("ü" * 100_000, field="y" * 100_000, **{f"v{n}": "z" * 100_000 for n in range(50)})

    sample.behave = refuse
    with pytest.raises(InvalidInput) as caught:
        await call(client.unary_unary(f"/{NAME}/One"), b"")
    assert caught.value.message.startswith("üüü")
    assert caught.value.message.endswith("…")
    assert caught.value.field is not None
    assert caught.value.field.startswith("yyy")
