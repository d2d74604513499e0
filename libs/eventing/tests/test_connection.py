"""The broker may be away, come back, forget its consumers or refuse: the process says so and goes on."""

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from libs.contracts.errors import Unavailable
from libs.contracts.events import SegmentWritten
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink, _Client
from libs.eventing.publish import publish_raw
from libs.eventing.subscriptions import Consumers, Subscription
from libs.eventing.tests.support import Recorder, say, segment
from libs.eventing.watchdog import Watchdog
from libs.testing.servers import NatsServer, free_port
from libs.testing.wait import eventually

FACTS = "registry-ingestion"


def facts(link: NatsLink, handler: Recorder, watchdog: Watchdog | None = None) -> Consumers:
    return Consumers(link, [Subscription(FACTS, SegmentWritten, handler)], service="registry", watchdog=watchdog)


async def test_a_process_starts_with_the_broker_away_and_connects_when_it_comes(private_nats: NatsServer) -> None:
    private_nats.stop()
    link = NatsLink(private_nats.url, "gateway")
    await link.connect(wait=False)
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    assert not link.connected
    assert (consumers.check() or "").startswith(f"nats: not connected to {private_nats.url}")
    with pytest.raises(Unavailable):
        _ = link.js
    private_nats.start()
    await eventually(lambda: link.connected)
    await apply(link.js)
    await say(link, segment(3))
    await eventually(lambda: handler.numbers == [3])
    await consumers.stop()
    await link.close()


async def test_closing_before_the_first_connection_does_not_hang() -> None:
    link = NatsLink(f"nats://127.0.0.1:{free_port()}", "gateway")
    await link.connect(wait=False)
    await asyncio.sleep(0.05)
    await link.close()


async def test_publishing_while_the_broker_is_away_fails_at_once(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    js = link.js
    private_nats.kill()
    await eventually(lambda: not link.connected)
    with pytest.raises(Unavailable, match="not connected"):
        await publish_raw(js, "evt.x", b"1")
    await link.close()


async def test_consuming_goes_on_after_the_broker_was_killed(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "registry")
    await link.connect()
    await apply(link.js)
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    await say(link, segment(1))
    await eventually(lambda: handler.numbers == [1])
    for number in (2, 3):
        private_nats.kill()
        await eventually(lambda: (consumers.check() or "").startswith("nats: not connected"))
        private_nats.start()
        await eventually(lambda: link.connected)
        await say(link, segment(number))
        await eventually(lambda number=number: handler.numbers[-1] == number)  # type: ignore[misc]
    await eventually(lambda: consumers.check() is None)
    await consumers.stop()
    await link.close()


async def test_an_outage_leaves_no_pile_of_requests_behind(private_nats: NatsServer) -> None:
    # A client that goes on asking while disconnected buffers its questions, and gets as many messages at once later.
    link = NatsLink(private_nats.url, "registry")
    await link.connect()
    await apply(link.js)
    gate = asyncio.Event()
    handler = Recorder(gate.wait)  # type: ignore[arg-type]
    consumers = facts(link, handler)
    await consumers.start()
    private_nats.kill()
    await asyncio.sleep(5)
    private_nats.start()
    await eventually(lambda: link.connected)
    for number in range(6):
        await say(link, segment(number))
    await eventually(lambda: handler.events)
    await asyncio.sleep(0.5)
    assert (await link.js.consumer_info("EVT", FACTS)).num_ack_pending == 1
    gate.set()
    await consumers.stop()
    await link.close()


async def test_a_deleted_consumer_is_named_and_heals_when_it_is_made_again(link: NatsLink) -> None:
    handler = Recorder()
    consumers = facts(link, handler)
    await consumers.start()
    await say(link, segment(1))
    await eventually(lambda: handler.numbers == [1])
    await link.js.delete_consumer("EVT", FACTS)
    await eventually(lambda: "registry-ingestion of stream EVT does not exist" in (consumers.check() or ""))
    assert link.connected  # which is why a ping alone would say that all is well
    await say(link, segment(2))
    await apply(link.js)
    # Made again, a consumer replays the history; the inbox of the service is what stops the first one.
    await eventually(lambda: handler.numbers == [1, 1, 2])
    await eventually(lambda: consumers.check() is None)
    await consumers.stop()


async def test_a_deleted_consumer_costs_next_to_nothing(link: NatsLink) -> None:
    consumers = facts(link, Recorder())
    await consumers.start()
    await link.js.delete_consumer("EVT", FACTS)
    await eventually(lambda: consumers.check() is not None)
    sent = link.client.stats["out_msgs"]
    await asyncio.sleep(3)
    # A spinning loop asks thousands of times and burns 43 % of a core.
    assert link.client.stats["out_msgs"] - sent < 30
    await consumers.stop()


async def test_a_missing_consumer_is_never_created_by_a_service(link: NatsLink) -> None:
    await link.js.delete_consumer("EVT", FACTS)
    consumers = facts(link, Recorder())
    await consumers.start()
    await eventually(lambda: "apply the topology" in (consumers.check() or ""))
    with pytest.raises(Exception, match="consumer not found"):
        await link.js.consumer_info("EVT", FACTS)
    await consumers.stop()


async def test_a_closed_connection_ends_the_process(private_nats: NatsServer, tmp_path: Path) -> None:
    # By default a closed client leaves a loop that never yields: no probe answers and nothing is logged.
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import asyncio
        from libs.contracts.events import SegmentWritten
        from libs.eventing.apply import apply
        from libs.eventing.connection import NatsLink
        from libs.eventing.subscriptions import Consumers, Subscription

        async def handle(envelope):
            pass

        async def main():
            link = NatsLink("{private_nats.url}", "registry")
            await link.connect()
            await apply(link.js)
            consumers = Consumers(link, [Subscription("{FACTS}", SegmentWritten, handle)], service="registry")
            await consumers.start()
            asyncio.get_running_loop().call_later(0.5, lambda: asyncio.ensure_future(link.client.close()))
            await asyncio.sleep(60)

        asyncio.run(main())
        """)
    )
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(program)], capture_output=True, timeout=20, check=False,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert process.returncode == 70, process.stderr.decode()


async def test_the_loop_of_a_closed_connection_gives_way(private_nats: NatsServer) -> None:
    closed = asyncio.Event()
    link = NatsLink(private_nats.url, "registry", on_closed=closed.set)
    await link.connect()
    await apply(link.js)
    consumers = facts(link, Recorder())
    await consumers.start()
    await link.client.close()
    await asyncio.wait_for(closed.wait(), 5)
    assert consumers.check() == "nats: connection closed"
    await consumers.stop()


async def test_a_wedged_loop_ends_the_process(link: NatsLink, monkeypatch: pytest.MonkeyPatch) -> None:
    from libs.eventing import topology

    wedged = asyncio.Event()
    watchdog = Watchdog(
        link, [topology.consumer(FACTS)], lambda _: 0,
        look_seconds=0.05, stall_seconds=0.2, heal_seconds=0.3, on_wedged=wedged.set,
    )  # fmt: skip
    consumers = facts(link, Recorder(), watchdog)
    await consumers.start()
    link.js.pulls[FACTS].last_returned -= 100
    await eventually(lambda: "has not been polled" in (consumers.check() or ""))
    # Nothing polls it any more, as if its task had died unseen.
    monkeypatch.setattr(
        type(link.js.pulls[FACTS]), "last_returned", property(lambda _: 0.0, lambda *_: None), raising=False
    )
    await asyncio.wait_for(wedged.wait(), 5)
    monkeypatch.undo()
    await consumers.stop()


async def test_a_loop_that_comes_from_a_long_handler_is_not_stalled(link: NatsLink) -> None:
    from libs.eventing import topology

    running, wedged = [1], asyncio.Event()
    watchdog = Watchdog(
        link, [topology.consumer(FACTS)], lambda _: running[0],
        look_seconds=0.05, stall_seconds=0.5, heal_seconds=0.1, on_wedged=wedged.set,
    )  # fmt: skip
    consumers = facts(link, Recorder(), watchdog)
    await consumers.start()
    await asyncio.sleep(0.2)
    link.js.pulls[FACTS].last_returned -= 100
    running[0] = 0
    await asyncio.sleep(0.2)
    assert consumers.check() is None
    assert not wedged.is_set()
    await consumers.stop()


async def test_a_frozen_broker_is_noticed(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "test", ping_interval=1, max_outstanding_pings=1)
    await link.connect()
    private_nats.pause()
    try:
        await eventually(lambda: not link.connected)
    finally:
        private_nats.resume()
    await eventually(lambda: link.connected)
    await link.close()


def test_the_client_still_swallows_cancellations() -> None:
    # Why `tasks.end` cancels again: when this fails, nats-py has changed and the workaround may go.
    import inspect

    assert "except asyncio.CancelledError:\n            pass" in inspect.getsource(Client._flush_pending)


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"A", b": ", b":", b"b c", b"\r\n", b"\xff", b" ", b"\x0b"])).map(b"".join)
)
def test_headers_are_read_as_the_client_library_reads_them(raw: bytes) -> None:
    assert _Client._parse_header_lines(raw) == Client._parse_header_lines(raw)
