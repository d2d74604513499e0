"""Files that lie in object storage already, read by their URI."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from libs.artifacts.s3 import connect, s3_errors
from libs.contracts.errors import InvalidInput, PermissionDenied, Unavailable

_CHUNK = 1024 * 1024


class Buckets:
    """Objects of the buckets that imports may read: those `allowed`, or with none named every bucket but our own."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: SecretStr,
        region: str,
        *,
        own: str,
        allowed: Collection[str] = (),
    ) -> None:
        """`own` is the bucket of Pawl itself: other tenants' objects lie there, so no URI reaches into it."""
        self._client = connect(endpoint, access_key, secret_key.get_secret_value(), own, region, connections=4)
        self._own = own
        self._allowed = frozenset(allowed)

    def locate(self, uri: str) -> tuple[str, str]:
        """Bucket and key of `s3://bucket/key`. Raises InvalidInput, PermissionDenied."""
        parts = urlsplit(uri)
        key = unquote(parts.path.lstrip("/"))
        if parts.scheme != "s3" or not parts.netloc or not key or parts.query or parts.fragment:
            raise InvalidInput(f"{uri!r} must look like s3://bucket/key", field="uri")
        if parts.netloc == self._own or (self._allowed and parts.netloc not in self._allowed):
            raise PermissionDenied(
                f"imports may not read the bucket {parts.netloc!r}"
                + (f"; they may read {', '.join(sorted(self._allowed))}" if self._allowed else ""),
                field="uri",
            )
        return parts.netloc, key

    async def stream(self, uri: str) -> AsyncIterator[bytes]:
        """The object's bytes, chunk by chunk. Raises NotFound, Unavailable when the connection ends early."""
        bucket, key = self.locate(uri)
        response: Any = await asyncio.to_thread(self._open, bucket, key)
        announced, received = int(response.headers.get("Content-Length") or -1), 0
        try:
            while chunk := await asyncio.to_thread(self._read, response, uri):
                received += len(chunk)
                yield chunk
        finally:
            with suppress(OSError):
                response.close()
            response.release_conn()
        if received < announced:
            raise Unavailable(f"{uri} ended after {received} of {announced} bytes", reason="S3_UNAVAILABLE")

    def _open(self, bucket: str, key: str) -> Any:
        with s3_errors(f"s3://{bucket}/{key}"):
            return self._client.get_object(bucket, key)

    def _read(self, response: Any, uri: str) -> bytes:
        with s3_errors(uri):
            return bytes(response.read(_CHUNK))
