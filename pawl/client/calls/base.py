"""What every group of calls stands on: channels, credentials, errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import grpc

from libs.contracts.errors import Unavailable
from libs.runtime.grpc_client import errors_from_rpc
from pawl.client.connection import Connection

DEADLINE_SECONDS = 30.0


class Calls:
    """One connection, with a gRPC channel for each endpoint asked."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channels: dict[str, grpc.Channel] = {}

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            channel.close()

    def channel(self, name: str) -> grpc.Channel:
        """The gRPC channel to an endpoint, opened on first use."""
        if name not in self._channels:
            self._channels[name] = grpc.insecure_channel(
                self.connection.address(name),
                options=[("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_http_proxy", 0)],
            )
        return self._channels[name]

    def credentials(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a gRPC call that names who asks."""
        return (("authorization", f"Bearer {self.connection.api_key}"),)


@contextmanager
def rpc(service: str) -> Iterator[None]:
    """Turn gRPC failures into the error tree; an absent service is named."""
    try:
        yield
    except grpc.RpcError as error:
        failure = errors_from_rpc(cast("grpc.Call", error))  # the error of a blocking call is the call
        if failure.reason == Unavailable.default_reason:
            raise Unavailable(f"the {service} does not answer: is the stack up? (`pawl status`) {failure}") from error
        raise failure from error
