"""Who may import over HTTP: the API keys of the registry, kept on disk while the broker is away."""

import hashlib
from pathlib import Path

from libs.contracts.errors import PermissionDenied, Unauthenticated, Unavailable
from libs.contracts.routes import ApiKey, KeyRole
from libs.contracts.subjects import KEYS
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState


class Keys:
    """The declared API keys."""

    def __init__(self, link: NatsLink, cache_path: Path) -> None:
        self._state = DesiredState(link, KEYS, ApiKey, cache_path)

    async def start(self) -> None:
        """Begin to follow the bucket."""
        await self._state.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._state.stop()

    def operator(self, authorization: str) -> ApiKey:
        """The key behind `Bearer <key>`. Raises Unauthenticated, PermissionDenied without the operator's role."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("no API key: send 'Authorization: Bearer <key>'", reason="KEY_MISSING")
        key = self._state.values.get(hashlib.sha256(secret.strip().encode()).hexdigest())
        if key is None:
            trouble = self._state.check()
            if trouble is not None:
                raise Unavailable(f"no keys are known yet: {trouble}", reason="NOT_READY")
            raise Unauthenticated("unknown API key", reason="KEY_UNKNOWN")
        if KeyRole.OPERATOR not in key.roles:
            raise PermissionDenied(f"the key {key.name!r} needs the role operator", reason="ROLE_MISSING")
        return key
