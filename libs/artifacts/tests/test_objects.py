"""Single objects on a real S3 server."""

import asyncio
import hashlib
import io
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from minio import Minio

from libs.artifacts import ObjectStore
from libs.contracts.errors import (
    Conflict,
    DataLoss,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.contracts.ids import digest_bytes
from libs.testing.servers import S3Server
from libs.testing.wait import eventually


def store_on(server: S3Server, bucket: str = "objects", endpoint: str | None = None, **options: str) -> ObjectStore:
    return ObjectStore(
        endpoint or server.endpoint, options.get("access_key", server.access_key),
        options.get("secret_key", server.secret_key), bucket, server.region,
    )  # fmt: skip


def raw(server: S3Server) -> Minio:
    return Minio(
        server.endpoint.removeprefix("http://"),
        server.access_key,
        server.secret_key,
        secure=False,
        region=server.region,
    )


def stored_files(server: S3Server) -> list[Path]:
    return [path for path in server.data.rglob("*") if path.is_file()]


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_bytes_come_back_under_their_digest(object_store: ObjectStore) -> None:
    for data in (b"", b"a ticket", os.urandom(300_000)):
        digest = await object_store.put_bytes(data, kind="example")
        assert digest == digest_bytes(data)
        assert await object_store.get_bytes(digest) == data
        assert await object_store.exists(digest)


async def test_what_was_never_put_is_not_found(object_store: ObjectStore, tmp_path: Path) -> None:
    absent = digest_bytes(b"absent")
    assert not await object_store.exists(absent)
    with pytest.raises(NotFound):
        await object_store.get_bytes(absent)
    with pytest.raises(NotFound):
        await object_store.fetch(absent, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


async def test_a_large_file_goes_up_in_parts_and_comes_back_whole(object_store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(1024) * 1024 * 40)
    digest = await object_store.put_file(source, kind="base")
    fetched = await object_store.fetch(digest, tmp_path / "deep" / "down" / "weights")
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == digest.removeprefix("sha256:")
    assert [path.name for path in fetched.parent.iterdir()] == ["weights"]


async def test_the_same_bytes_are_written_once(private_s3: S3Server) -> None:
    store = store_on(private_s3)
    await store.ensure_bucket()
    digest = await store.put_bytes(b"once", kind="example")
    (file,) = stored_files(private_s3)
    first = file.stat()
    await store.put_bytes(b"once", kind="example")
    (file,) = stored_files(private_s3)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    plain = digest.removeprefix("sha256:")
    assert file.relative_to(private_s3.data) == Path("objects/default") / plain[:2] / plain


async def test_a_corrupted_object_is_data_loss_and_leaves_no_file(private_s3: S3Server, tmp_path: Path) -> None:
    store = store_on(private_s3)
    await store.ensure_bucket()
    digest = await store.put_bytes(b"the right bytes", kind="example")
    raw(private_s3).put_object("objects", store.key(digest), io.BytesIO(b"the wrong bytes"), 15)
    with pytest.raises(DataLoss, match="does not hold what its name says"):
        await store.get_bytes(digest)
    target = tmp_path / "target"
    target.write_bytes(b"what was there before")
    with pytest.raises(DataLoss):
        await store.fetch(digest, target)
    assert target.read_bytes() == b"what was there before"
    assert list(tmp_path.glob(".target*")) == []


async def test_a_truncated_object_is_healed_by_putting_it_again(private_s3: S3Server) -> None:
    store = store_on(private_s3)
    await store.ensure_bucket()
    digest = await store.put_bytes(b"the whole of it", kind="example")
    raw(private_s3).put_object("objects", store.key(digest), io.BytesIO(b"the who"), 7)
    await store.put_bytes(b"the whole of it", kind="example")
    assert await store.get_bytes(digest) == b"the whole of it"


async def test_a_stream_of_unknown_length_is_stored_with_its_size(object_store: ObjectStore) -> None:
    digest, size = await object_store.put_stream(chunked(b"one ", b"", b"two"), kind="import")
    assert (digest, size) == (digest_bytes(b"one two"), 7)
    assert await object_store.get_bytes(digest) == b"one two"


async def test_a_stream_beyond_its_limit_is_refused_naming_the_limit(object_store: ObjectStore) -> None:
    with pytest.raises(InvalidInput, match="more than 5 bytes"):
        await object_store.put_stream(chunked(b"123", b"456"), kind="import", limit=5)


async def test_an_object_beyond_the_reading_limit_is_refused(object_store: ObjectStore) -> None:
    digest = await object_store.put_bytes(b"x" * 100, kind="example")
    with pytest.raises(InvalidInput, match="larger than 99 bytes"):
        await object_store.get_bytes(digest, limit=99)


async def test_a_server_that_is_away_is_transient_and_found_again(private_s3: S3Server, tmp_path: Path) -> None:
    store = store_on(private_s3)
    await store.ensure_bucket()
    digest = await store.put_bytes(b"still there", kind="example")
    private_s3.stop()
    for attempt in (
        store.get_bytes(digest),
        store.put_bytes(b"new", kind="example"),
        store.exists(digest),
        store.ping(),
    ):
        with pytest.raises(Unavailable):
            await attempt
    with pytest.raises(Unavailable):
        await store.fetch(digest, tmp_path / "file")
    private_s3.start()
    assert await store.get_bytes(digest) == b"still there"


async def test_wrong_credentials_are_permanent_on_reading_and_on_writing(s3_server: S3Server) -> None:
    stranger = store_on(s3_server, access_key="somebody", secret_key="somebody's secret")
    with pytest.raises(Unauthenticated, match="InvalidAccessKeyId"):
        await stranger.get_bytes(digest_bytes(b"x"))
    # Whether an object is there is asked by HEAD, whose answer has no body that could say more than "no".
    with pytest.raises(PermissionDenied):
        await stranger.put_bytes(b"x", kind="example")


async def test_a_missing_bucket_is_not_a_missing_object(s3_server: S3Server) -> None:
    store = store_on(s3_server, "no-such-bucket")
    with pytest.raises(NotFound, match="no bucket 'no-such-bucket'"):
        await store.ping()
    with pytest.raises(NotFound, match="no-such-bucket"):
        await store.put_bytes(b"x", kind="example")
    with pytest.raises(NotFound, match="bucket"):
        await store.exists(digest_bytes(b"x"))


async def test_a_bucket_may_be_ensured_by_many_at_once(s3_server: S3Server) -> None:
    store = store_on(s3_server, "made-by-many")
    await asyncio.gather(*(store.ensure_bucket() for _ in range(4)))
    await store.ping()


async def test_tenants_do_not_see_one_another(object_store: ObjectStore) -> None:
    digest = await object_store.put_bytes(b"mine", kind="example")
    other = object_store.for_tenant("acme")
    assert not await other.exists(digest)
    await other.put_bytes(b"theirs", kind="example")
    assert [stored.digest async for stored in object_store.list_objects()] == [digest]
    with pytest.raises(InvalidInput) as refused:
        object_store.for_tenant("../default")
    assert refused.value.field == "tenant"


async def test_an_erased_object_is_gone_and_may_be_erased_again(object_store: ObjectStore) -> None:
    digest = await object_store.put_bytes(b"personal", kind="example")
    await object_store.delete(digest)
    await object_store.delete(digest)
    assert not await object_store.exists(digest)


async def test_a_file_that_changes_while_it_is_uploaded_is_refused(object_store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"first")
    claimed = digest_bytes(b"FIRST")
    with pytest.raises(Conflict, match="changed while it was uploaded"):
        await object_store._upload_file(file, claimed, 5)
    assert not await object_store.exists(claimed)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [("127.0.0.1:9000", "must look like"), ("http://u:p@h", "credentials"), ("http://h/path", "must look like")],
)
def test_a_bad_address_is_refused_naming_the_setting(endpoint: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        ObjectStore(endpoint, "a", "b")
    assert refused.value.field == "s3_endpoint"


@pytest.mark.parametrize(
    "digest", ["", "sha256:12", "md5:" + "0" * 64, "sha256:../../" + "0" * 58, "sha256:" + "A" * 64]
)
async def test_what_is_no_digest_is_refused_before_anything_is_asked(object_store: ObjectStore, digest: str) -> None:
    with pytest.raises(InvalidInput, match="sha256"):
        await object_store.get_bytes(digest)


async def test_a_missing_file_is_named(object_store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing-here"):
        await object_store.put_file(tmp_path / "nothing-here", kind="base")


async def test_a_full_disk_is_resource_exhausted_and_leaves_nothing(object_store: ObjectStore, tmp_path: Path) -> None:
    digest = await object_store.put_bytes(b"x" * 4096, kind="base")
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    target = tmp_path / "target"
    transfers = object_store._transfers

    def refuse(*_: object, **__: object) -> None:
        with full.open("wb", buffering=0) as device:
            device.write(b"x")

    original, transfers._receive = transfers._receive, refuse  # type: ignore[method-assign]
    with pytest.raises(ResourceExhausted, match="no space left"):
        await object_store.fetch(digest, target)
    transfers._receive = original  # type: ignore[method-assign]
    assert not target.exists()
    assert list(tmp_path.glob(".target*")) == []


async def test_a_connection_that_breaks_is_resumed_where_it_broke(s3_server: S3Server, tmp_path: Path) -> None:
    direct = store_on(s3_server, "breaking")
    await direct.ensure_bucket()
    data = os.urandom(3_000_000)
    digest = await direct.put_bytes(data, kind="base")
    with breaking_proxy(s3_server.port, cut_after=[1_200_000, 900_000]) as (port, asked):
        store = store_on(s3_server, "breaking", f"http://127.0.0.1:{port}")
        fetched = await store.fetch(digest, tmp_path / "weights")
        assert fetched.read_bytes() == data
        assert len(asked) == 3
        assert [
            line.split(b"=")[0] for request in asked[1:] for line in request.split(b"\r\n") if b"bytes=" in line
        ] == [b"Range: bytes"] * 2


async def test_a_cancelled_download_leaves_nothing_half_written(s3_server: S3Server, tmp_path: Path) -> None:
    direct = store_on(s3_server, "cancelled")
    await direct.ensure_bucket()
    digest = await direct.put_bytes(os.urandom(3_000_000), kind="base")
    with breaking_proxy(s3_server.port, stall_after=1_200_000) as (port, asked):
        store = store_on(s3_server, "cancelled", f"http://127.0.0.1:{port}")
        download = asyncio.create_task(store.fetch(digest, tmp_path / "weights"))
        await eventually(lambda: any(path.stat().st_size for path in tmp_path.glob(".weights*")))
        assert asked
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
    await eventually(lambda: list(tmp_path.iterdir()) == [])


@contextmanager
def breaking_proxy(
    port: int, *, cut_after: list[int] | None = None, stall_after: int | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """A TCP proxy that cuts the n-th connection after so many bytes of answer, or stops passing them on."""
    cuts, asked, over = list(cut_after or []), list[bytes](), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far, suppress(OSError):
            request = near.recv(65536)
            asked.append(request)
            far.sendall(request)
            budget = cuts.pop(0) if cuts else (stall_after or 1 << 40)
            while budget > 0 and (data := far.recv(min(65536, budget))):
                near.sendall(data)
                budget -= len(data)
            if stall_after is not None:
                over.wait(20)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=serve, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        over.set()
        listener.close()
