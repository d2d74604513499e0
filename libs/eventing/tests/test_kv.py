"""Desired state: everybody sees the newest, nobody overwrites unseen, and it outlives the broker's absence."""

import asyncio
from pathlib import Path

import pytest

from libs.contracts.errors import Conflict, InvalidInput
from libs.contracts.routes import RunState, RunWish
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState, kv_advance, kv_get, kv_put
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually

RUNS = "runs"


def wish(name: str = "r1", wish: RunWish = RunWish.RUN) -> RunState:
    return RunState(run_id=name, wish=wish)


async def watching(link: NatsLink, **more: object) -> DesiredState[RunState]:
    state = DesiredState(link, RUNS, RunState, **more)  # type: ignore[arg-type]
    await state.start()
    await asyncio.wait_for(state.synced.wait(), 10)
    return state


async def test_a_write_reaches_every_watcher(link: NatsLink) -> None:
    seen: list[tuple[str, RunState | None]] = []
    state = await watching(link, on_change=lambda key, value: seen.append((key, value)))
    await state.put("r1", wish())
    await eventually(lambda: state.values == {"r1": wish()})
    await state.put("r1", wish(wish=RunWish.CANCEL))
    await eventually(lambda: state.values == {"r1": wish(wish=RunWish.CANCEL)})
    await state.put("r1", None)
    await eventually(lambda: state.values == {})
    assert [value.wish if value else None for _, value in seen] == [RunWish.RUN, RunWish.CANCEL, None]
    assert state.check() is None
    await state.stop()


async def test_waiting_for_a_value_ends_when_it_is_there(link: NatsLink) -> None:
    state = await watching(link)
    waiting = asyncio.create_task(state.wait_for(lambda values: "r2" in values))
    await state.put("r2", wish("r2"))
    await asyncio.wait_for(waiting, 5)
    await state.stop()


async def test_of_two_writers_with_the_same_knowledge_one_loses(link: NatsLink) -> None:
    revision = await kv_put(link, RUNS, "r1", wish(), expected_revision=0)
    await kv_put(link, RUNS, "r1", wish(wish=RunWish.PAUSE), expected_revision=revision)
    with pytest.raises(Conflict):
        await kv_put(link, RUNS, "r1", wish(wish=RunWish.CANCEL), expected_revision=revision)
    assert b"pause" in ((await kv_get(link, RUNS, "r1")).value or b"")


async def test_a_deleted_key_can_be_written_again(link: NatsLink) -> None:
    await kv_put(link, RUNS, "r1", wish())
    await kv_put(link, RUNS, "r1", None)
    gone = await kv_get(link, RUNS, "r1")
    assert gone.value is None
    await kv_put(link, RUNS, "r1", wish(), expected_revision=gone.revision)


async def test_an_older_generation_never_replaces_a_newer(link: NatsLink) -> None:
    outcomes = await asyncio.gather(*(kv_advance(link, RUNS, "r1", str(n).encode(), n) for n in range(8)))
    entry = await kv_get(link, RUNS, "r1")
    assert (entry.value, entry.generation) == (b"7", 7)
    assert outcomes[7]
    assert not await kv_advance(link, RUNS, "r1", b"late", 6)
    assert not await kv_advance(link, RUNS, "r1", None, 7)
    assert await kv_advance(link, RUNS, "r1", None, 8)
    assert (await kv_get(link, RUNS, "r1")).value is None
    assert not await kv_advance(link, RUNS, "r1", b"late", 5)


async def test_a_key_that_cannot_be_one_is_refused(link: NatsLink) -> None:
    for key in ("", "a b", "a..b", ".a", "a*", "a>"):
        with pytest.raises(InvalidInput, match="cannot be a KV key"):
            await kv_put(link, RUNS, key, wish())


async def test_a_value_that_does_not_parse_leaves_the_one_before(link: NatsLink) -> None:
    state = await watching(link)
    await state.put("r1", wish())
    await eventually(lambda: "r1" in state.values)
    await link.js.publish("$KV.runs.r1", b'{"run_id": 7}', stream="KV_runs")
    await eventually(lambda: state.refused.get("r1", "").startswith("run_id"))
    assert state.values == {"r1": wish()}
    fresh = await watching(link)
    assert fresh.values == {}
    await state.put("r1", wish(wish=RunWish.PAUSE))
    await eventually(lambda: state.values == {"r1": wish(wish=RunWish.PAUSE)} and not state.refused)
    await state.stop()
    await fresh.stop()


async def test_the_watch_goes_on_after_the_broker_was_killed(private_nats: NatsServer) -> None:
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    await apply(link.js)
    state = await watching(link)
    await state.put("r1", wish())
    await eventually(lambda: "r1" in state.values)
    private_nats.kill()
    await eventually(lambda: not link.connected)
    private_nats.start()
    await eventually(lambda: link.connected)
    writer = NatsLink(private_nats.url, "writer")
    await writer.connect()
    await kv_put(writer, RUNS, "r2", wish("r2"))
    await kv_put(writer, RUNS, "r1", None)
    await eventually(lambda: set(state.values) == {"r2"})
    await state.stop()
    await writer.close()
    await link.close()


async def test_a_process_starts_from_its_local_copy_with_the_broker_away(
    private_nats: NatsServer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "runs.json"
    link = NatsLink(private_nats.url, "test")
    await link.connect()
    await apply(link.js)
    state = await watching(link, cache_path=cache)
    await state.put("r1", wish())
    await eventually(cache.exists)
    await eventually(lambda: "r1" in state.values)
    await state.stop()
    await link.close()
    private_nats.stop()

    link = NatsLink(private_nats.url, "test")
    await link.connect(wait=False)
    known: list[str] = []
    state = DesiredState(link, RUNS, RunState, cache, on_change=lambda key, _: known.append(key))
    await state.start()
    assert state.values == {"r1": wish()}
    assert known == ["r1"]
    assert state.check() is None
    assert not state.live
    private_nats.start()
    await eventually(lambda: state.live)
    await state.put("r1", None)
    await eventually(lambda: state.values == {})
    await state.stop()
    await link.close()


async def test_a_damaged_local_copy_is_ignored(link: NatsLink, tmp_path: Path) -> None:
    cache = tmp_path / "runs.json"
    state = await watching(link, cache_path=cache)
    await state.put("r1", wish())
    await eventually(cache.exists)
    await eventually(lambda: b"r1" in cache.read_bytes())
    await state.stop()
    cache.write_bytes(cache.read_bytes().replace(b"run", b"ran"))
    fresh = DesiredState(link, RUNS, RunState, cache)
    fresh._read_cache()
    assert fresh.values == {}
    cache.write_bytes(b"{")
    fresh._read_cache()
    assert fresh.values == {}


async def test_without_broker_and_copy_a_process_is_not_ready(tmp_path: Path) -> None:
    link = NatsLink("nats://127.0.0.1:9", "test")
    await link.connect(wait=False)
    state = DesiredState(link, RUNS, RunState, tmp_path / "none.json")
    await state.start()
    assert (state.check() or "").startswith("nats: not connected")
    await state.stop()
    await link.close()


async def test_an_entry_whose_beat_stops_disappears(link: NatsLink) -> None:
    # `engines` keeps entries for a while only; here a shorter one, so that the test need not wait for it.
    found = (await link.js.stream_info("KV_engines")).config
    await link.js.update_stream(found.evolve(max_age=1.0, duplicate_window=1.0, subject_delete_marker_ttl=1.0))
    state = DesiredState(link, "engines", RunState, drift_seconds=0.5)
    await state.start()
    await asyncio.wait_for(state.synced.wait(), 10)
    await state.put("e1", wish("e1"))
    await eventually(lambda: "e1" in state.values)
    await eventually(lambda: state.values == {}, 10)
    await state.stop()


async def test_a_bucket_that_moved_without_a_word_is_read_anew(link: NatsLink) -> None:
    state = await watching(link, drift_seconds=0.3)
    await state.put("r1", wish())
    await eventually(lambda: "r1" in state.values)
    for info in await link.js.consumers_info("KV_runs"):
        await link.js.delete_consumer("KV_runs", str(info.name))
    await kv_put(link, RUNS, "r2", wish("r2"))
    await eventually(lambda: set(state.values) == {"r1", "r2"})
    await state.stop()


async def test_a_missing_bucket_is_named_and_found_when_it_is_made(link: NatsLink) -> None:
    await link.js.delete_stream("KV_runs")
    state = DesiredState(link, RUNS, RunState)
    await state.start()
    await eventually(lambda: (state.check() or "") == "bucket runs does not exist: apply the topology")
    await apply(link.js)
    await asyncio.wait_for(state.synced.wait(), 10)
    await state.stop()
