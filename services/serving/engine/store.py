"""The engine's shelf: trees by digest on local disk, verified before use and usable with everything else away."""

import asyncio
from pathlib import Path

from libs.artifacts import ObjectStore, verify_tree
from libs.artifacts.files import remove
from libs.artifacts.trees import manifest_file
from libs.contracts.errors import InvalidInput
from services.serving.engine.domain import check_files

_MAX_ADAPTER_BYTES = 8 * 1024**3


class Shelf:
    """Content-addressed directories under `<root>/<hex>`."""

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self._root = root
        self._objects = objects

    def path(self, digest: str) -> Path:
        """Where a tree lies, fetched or not."""
        return self._root / digest.removeprefix("sha256:")

    async def base(self, digest: str, tenant: str) -> Path:
        """The base's directory; fetched unless it is here and verifies."""
        return await self._objects.for_tenant(tenant).fetch_tree(digest, self.path(digest))

    async def adapter(self, digest: str, tenant: str) -> Path:
        """An adapter's directory; what its manifest lists is checked before a byte of it is fetched.

        Raises InvalidInput on an unsafe or oversized tree, NotFound, DataLoss, Unavailable.
        """
        place = self.path(digest)
        if await asyncio.to_thread(verify_tree, place, digest) is not None:
            return place
        objects = self._objects.for_tenant(tenant)
        manifest = await objects.get_manifest(digest)
        check_files(manifest.files)
        if manifest.size > _MAX_ADAPTER_BYTES:
            raise InvalidInput(f"the adapter has {manifest.size} bytes", reason="ADAPTER_TOO_LARGE", field="files")
        return await objects.fetch_tree(digest, place)

    async def discard(self, digest: str) -> None:
        """Delete a tree from the disk."""
        place = self.path(digest)

        def erase() -> None:
            manifest_file(place).unlink(missing_ok=True)
            remove(place)

        await asyncio.to_thread(erase)
