"""Segments, ledgers and suites at hand: fetched once by digest, kept on disk, and forgotten when erased."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.errors import NotFound


class Library:
    """Objects of the tenants on local disk. `root` may be emptied at any time."""

    def __init__(self, objects: Callable[[str], ObjectStore], root: Path, secrets: TenantSecrets) -> None:
        self._objects = objects
        self._root = root
        self._secrets = secrets

    def objects(self, tenant: str) -> ObjectStore:
        """The store of a tenant."""
        return self._objects(tenant)

    async def secret(self, tenant: str) -> str:
        """The secret that the tenant's pseudonyms are keyed by, in hex."""
        return (await self._secrets.of(tenant)).hex()

    async def file(self, tenant: str, digest: str, suffix: str = ".parquet") -> Path:
        """A file by digest; NotFound, DataLoss as of the store."""
        path = self._path(tenant, digest, suffix)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            await self._objects(tenant).fetch(digest, path)
        return path

    async def files(self, tenant: str, digests: Iterable[str]) -> list[Path]:
        """Files by digest, in order."""
        return [await self.file(tenant, digest) for digest in digests]

    async def segments(self, tenant: str, segments: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Number and path of segments given by number and digest."""
        return [(number, str(await self.file(tenant, digest))) for number, digest in segments]

    async def items(self, tenant: str, suite_digest: str) -> Path:
        """The `items.jsonl` of a suite; NotFound names the suite without one."""
        manifest = await self._objects(tenant).get_manifest(suite_digest)
        ref = manifest.files.get("items.jsonl")
        if ref is None:
            raise NotFound(f"{suite_digest} is no suite: it has no items.jsonl", field="suites")
        return await self.file(tenant, ref.digest, ".jsonl")

    async def base(self, tenant: str, base_digest: str) -> dict[str, str]:
        """Paths of tokenizer.json, and of the chat template or the tokenizer's settings that hold one."""
        manifest = await self._objects(tenant).get_manifest(base_digest)
        wanted = ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json")
        refs = {name: manifest.files[name] for name in wanted if name in manifest.files}
        return {name: str(await self.file(tenant, ref.digest, f".{name}")) for name, ref in refs.items()}

    async def within(self, tenant: str, trees: Iterable[str]) -> set[str]:
        """Digests of every file of trees; a tree that is gone holds none."""
        found: set[str] = set()
        for digest in sorted(set(trees)):
            try:
                manifest = await self._objects(tenant).get_manifest(digest)
            except NotFound:
                continue
            found |= {ref.digest for ref in manifest.files.values()}
        return found

    async def forget(self, tenant: str, digests: Iterable[str]) -> None:
        """Drop files from disk."""
        for digest in digests:
            for suffix in (".parquet", ".jsonl"):
                await asyncio.to_thread(self._path(tenant, digest, suffix).unlink, missing_ok=True)

    def _path(self, tenant: str, digest: str, suffix: str) -> Path:
        return self._root / tenant / f"{digest.removeprefix('sha256:')}{suffix}"
