"""A secret of each tenant: the operator's where one is configured, else made once and kept beside its objects."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from pydantic import SecretStr

from libs.contracts.errors import DataLoss

_BYTES = 32
_SETTLED_SECONDS = 1.0


class Kept(Protocol):
    """Where a tenant's secret is kept: `ObjectStore`."""

    async def get_secret(self) -> bytes | None:
        """The secret, None when there is none."""
        ...

    async def offer_secret(self, secret: bytes) -> None:
        """Keep it unless there is one."""
        ...


class TenantSecrets:
    """Secrets by tenant, each asked for once. One configured stands for all tenants, whose keys differ all the same."""

    def __init__(
        self, kept: Callable[[str], Kept], configured: SecretStr, *, settled: float = _SETTLED_SECONDS
    ) -> None:
        """`settled`: seconds after which an offer that another process made at the same moment is seen."""
        self._kept = kept
        self._configured = configured.get_secret_value().encode()
        self._settled = settled
        self._known: dict[str, bytes] = {}
        self._turn = asyncio.Lock()

    async def of(self, tenant: str) -> bytes:
        """The secret of a tenant; raises as the object store does, DataLoss when what it keeps is none."""
        if self._configured:
            return self._configured
        if tenant not in self._known:
            async with self._turn:
                if tenant not in self._known:
                    self._known[tenant] = await self._found(self._kept(tenant))
        return self._known[tenant]

    async def _found(self, kept: Kept) -> bytes:
        secret = await kept.get_secret()
        if secret is None:
            await kept.offer_secret(secrets.token_bytes(_BYTES))
            # Not every server refuses the second of two offers: the last one stands, and everybody reads that.
            await asyncio.sleep(self._settled)
            secret = await kept.get_secret()
        if secret is None or len(secret) != _BYTES:
            raise DataLoss("the tenant's secret is damaged: restore it, or configure one", reason="SECRET_DAMAGED")
        return secret
