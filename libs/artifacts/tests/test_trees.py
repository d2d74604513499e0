"""Trees of files: one digest for all, whole or absent on disk."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifacts import FileRef, Limits, Manifest, ObjectStore, manifest_digest, manifest_of, verify_tree
from libs.contracts.errors import DataLoss, InvalidInput, NotFound, Unavailable
from libs.contracts.ids import digest_bytes
from libs.testing.servers import S3Server
from libs.testing.wait import eventually

EMPTY = digest_bytes(b"")


def adapter(directory: Path) -> Path:
    (directory / "sub").mkdir(parents=True)
    (directory / "adapter_config.json").write_text('{"r":16}')
    (directory / "adapter_model.safetensors").write_bytes(os.urandom(200_000))
    (directory / "sub" / "größe.txt").write_text("16")
    (directory / "empty").write_bytes(b"")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def private(server: S3Server) -> ObjectStore:
    return ObjectStore(server.endpoint, server.access_key, server.secret_key, "trees", server.region)


async def test_a_tree_comes_back_as_it_was(object_store: ObjectStore, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    digest = await object_store.put_tree(source, kind="adapter", metadata={"task": "triage", "rank": 16})
    fetched = await object_store.fetch_tree(digest, tmp_path / "here" / "fetched")
    assert contents(fetched) == contents(source)
    manifest = await object_store.get_manifest(digest)
    assert (manifest.kind, dict(manifest.metadata)) == ("adapter", {"task": "triage", "rank": 16})
    assert manifest.size == sum(len(data) for data in contents(source).values())
    assert verify_tree(fetched, digest) == manifest


async def test_the_digest_of_a_tree_can_be_known_without_uploading_it(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    source = adapter(tmp_path / "source")
    assert manifest_digest(source, kind="base") == await object_store.put_tree(source, kind="base")
    before = manifest_digest(source)
    (source / "sub" / "größe.txt").write_text("17")
    assert manifest_digest(source) != before


async def test_a_tree_that_is_there_and_verifies_needs_no_server(private_s3: S3Server, tmp_path: Path) -> None:
    store = private(private_s3)
    await store.ensure_bucket()
    digest = await store.put_tree(adapter(tmp_path / "source"), kind="adapter")
    fetched = await store.fetch_tree(digest, tmp_path / "fetched")
    private_s3.stop()
    assert await store.fetch_tree(digest, tmp_path / "fetched") == fetched
    with pytest.raises(Unavailable):
        await store.fetch_tree(digest, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "no manifest", "forged manifest"])
async def test_a_damaged_local_tree_is_noticed_and_replaced(
    object_store: ObjectStore, tmp_path: Path, damage: str
) -> None:
    source = adapter(tmp_path / "source")
    digest = await object_store.put_tree(source, kind="adapter")
    fetched = await object_store.fetch_tree(digest, tmp_path / "fetched")
    match damage:
        case "changed":
            (fetched / "adapter_config.json").write_text('{"r":17}')
        case "missing":
            (fetched / "empty").unlink()
        case "added":
            (fetched / "extra.py").write_text("import os")
        case "no manifest":
            (tmp_path / ".fetched.manifest.json").unlink()
        case "forged manifest":
            (tmp_path / ".fetched.manifest.json").write_text("{}")
    assert verify_tree(fetched, digest) is None
    await object_store.fetch_tree(digest, fetched)
    assert contents(fetched) == contents(source)
    assert verify_tree(fetched, digest) is not None
    assert sorted(path.name for path in tmp_path.iterdir() if "partial" in path.name) == []


async def test_another_tree_at_the_place_is_replaced_whole(object_store: ObjectStore, tmp_path: Path) -> None:
    first = adapter(tmp_path / "first")
    second = tmp_path / "second"
    second.mkdir()
    (second / "only.txt").write_text("only this")
    place = tmp_path / "place"
    await object_store.fetch_tree(await object_store.put_tree(first, kind="adapter"), place)
    await object_store.fetch_tree(await object_store.put_tree(second, kind="adapter"), place)
    assert contents(place) == {"only.txt": b"only this"}


async def test_many_may_fetch_the_same_tree_to_the_same_place(object_store: ObjectStore, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    digest = await object_store.put_tree(source, kind="adapter")
    await asyncio.gather(*(object_store.fetch_tree(digest, tmp_path / "place") for _ in range(4)))
    assert contents(tmp_path / "place") == contents(source)


async def test_a_tree_with_a_lost_or_corrupted_file_is_refused_and_leaves_nothing(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    digest = await object_store.put_tree(adapter(tmp_path / "source"), kind="adapter")
    manifest = await object_store.get_manifest(digest)
    await object_store.delete(manifest.files["adapter_config.json"].digest)
    with pytest.raises(NotFound):
        await object_store.fetch_tree(digest, tmp_path / "fetched")
    await eventually(lambda: [path.name for path in tmp_path.iterdir()] == ["source"])


async def test_a_manifest_that_leaves_the_tree_is_refused_before_anything_is_written(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    inside = await object_store.put_bytes(b"payload", kind="file")
    for path in (
        "../escaped",
        "/etc/passwd",
        "a/../../escaped",
        "a\\..\\b",
        "C:/x",
        "",
        "a//b",
        "./a",
        "a\nb",
        "a\x00b",
    ):
        body = {
            "schema": "pawl.manifest/1",
            "kind": "adapter",
            "metadata": {},
            "files": {path: {"digest": inside, "size": 7}},
        }
        forged = await object_store.put_bytes(json.dumps(body).encode(), kind="manifest")
        with pytest.raises(InvalidInput, match="inside the tree"):
            await object_store.fetch_tree(forged, tmp_path / "place" / "tree")
    assert list(tmp_path.rglob("*")) == []


async def test_bytes_that_are_no_manifest_are_data_loss_naming_the_place(object_store: ObjectStore) -> None:
    body = {
        "schema": "pawl.manifest/1",
        "kind": "adapter",
        "metadata": {},
        "files": {"a": {"digest": "md5:1", "size": 7}},
    }
    with pytest.raises(DataLoss, match="not a manifest") as refused:
        await object_store.get_manifest(await object_store.put_bytes(json.dumps(body).encode(), kind="manifest"))
    assert refused.value.field == "files.a.digest"


def test_a_link_is_refused_unless_it_is_asked_to_be_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(InvalidInput, match="symbolic link"):
        manifest_of(snapshot)
    assert manifest_of(snapshot, follow_symlinks=True).files["model.safetensors"].digest == digest_bytes(b"weights")
    (snapshot / "up").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="up is a symbolic link"):
        manifest_of(snapshot, follow_symlinks=True)


def test_a_special_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe is not a regular file"):
        manifest_of(tmp_path)


def test_limits_are_named_when_they_are_passed(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"12345")
    with pytest.raises(InvalidInput, match="more than 2 files"):
        manifest_of(tmp_path, limits=Limits(files=2))
    with pytest.raises(InvalidInput, match="'a' has 5 bytes, more than 4"):
        manifest_of(tmp_path, limits=Limits(file_bytes=4))
    with pytest.raises(InvalidInput, match="holds 15 bytes, more than 14"):
        manifest_of(tmp_path, limits=Limits(total_bytes=14))


def test_a_path_that_is_a_file_and_a_directory_is_refused() -> None:
    files = {"a": FileRef(EMPTY, 0), "a/b": FileRef(EMPTY, 0)}
    with pytest.raises(InvalidInput, match="'a' is both a file and a directory"):
        Manifest("tree", files).check(Limits())


def test_metadata_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not JSON"):
        Manifest("tree", {}, {"loss": float("nan")}).to_json()


@given(
    st.dictionaries(st.from_regex(r"[a-zäß0-9_]{1,8}(/[a-z.]{3,8})?", fullmatch=True), st.integers(0, 10), max_size=6)
)
def test_a_manifest_means_the_same_after_a_trip_through_json_in_any_order(sizes: dict[str, int]) -> None:
    refs = {path: FileRef(EMPTY, size) for path, size in sizes.items()}
    if any(other.startswith(f"{path}/") for path in refs for other in refs):
        return
    manifest = Manifest("tree", refs, {"b": 1, "a": [None, "ü"]})
    backwards = Manifest("tree", dict(reversed(refs.items())), {"a": [None, "ü"], "b": 1})
    assert manifest.digest == backwards.digest
    assert Manifest.from_json(manifest.to_json()).digest == manifest.digest


async def test_what_a_killed_process_left_is_swept_at_the_next_try(object_store: ObjectStore, tmp_path: Path) -> None:
    digest = await object_store.put_tree(adapter(tmp_path / "source"), kind="adapter")
    old, young = tmp_path / ".place.1.partial", tmp_path / ".place.2.partial"
    for left in (old, young):
        left.mkdir()
        (left / "half").write_bytes(b"half")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    await object_store.fetch_tree(digest, tmp_path / "place")
    assert not old.exists()
    assert young.exists(), "another process may still be writing it"
