"""What travels beside a call."""

from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


def metadata_of(context: Context) -> dict[str, str]:
    """The call's metadata; of a name that comes twice, the last."""
    return {str(key): str(value) for key, value in context.invocation_metadata() or ()}
