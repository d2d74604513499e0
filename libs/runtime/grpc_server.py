"""A gRPC server with what every one of ours has: health, reflection, rich errors, traces, metrics, a clean stop."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from libs.contracts.errors import FailedPrecondition
from libs.runtime.grpc_interceptor import CallInterceptor
from libs.runtime.health import port_refused

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_FLUSH_SECONDS = 0.2
"""For answers that are still on their way out when no call is running any more."""


class GrpcServer:
    """One gRPC server in the running event loop; add servicers, then `start`.

    `variable` names the setting behind the port, for the error when the port is taken. `credentials` turns TLS on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        variable: str = "grpc_port",
        with_reflection: bool = True,
        credentials: grpc.ServerCredentials | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._host = host
        self._asked_port = port
        self._variable = variable
        self._with_reflection = with_reflection
        self._credentials = credentials
        self._max_message_bytes = max_message_bytes
        self._interceptors = tuple(interceptors)
        self._services: dict[str, Callable[[grpc.aio.Server], None]] = {}
        self._calls = CallInterceptor()
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port listened on (the chosen one when 0 was asked for)."""
        return self._port or self._asked_port

    @property
    def address(self) -> str:
        """`host:port` for a client on the same machine."""
        return f"{self._host}:{self.port}"

    def add(self, register: Callable[[Any, Any], None], servicer: object, full_service_name: str) -> None:
        """Add a servicer by its generated `add_..._to_server`.

        The full name (`pawl.registry.v1.Registry`) is what health and reflection call it.
        """
        if self._server is not None:
            raise FailedPrecondition("servicers are added before the server starts", field=full_service_name)
        self._services[full_service_name] = lambda server: register(servicer, server)

    async def start(self) -> None:
        """Listen and report SERVING. Raises FailedPrecondition, naming port and variable, when the port is taken."""
        server = grpc.aio.server(
            interceptors=(self._calls, *self._interceptors),
            options=(
                # With port sharing on, a second process on the port would take half of the calls without a word.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        for register in self._services.values():
            register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._with_reflection:
            names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        target = f"[{self._host}]:{self._asked_port}" if ":" in self._host else f"{self._host}:{self._asked_port}"
        try:
            if self._credentials is not None:
                self._port = server.add_secure_port(target, self._credentials)
            else:
                self._port = server.add_insecure_port(target)
        except RuntimeError as failure:
            raise port_refused(self._host, self._asked_port, self._variable) from failure
        await server.start()
        self._server = server
        await self.set_serving(serving=True)

    async def set_serving(self, *, serving: bool, service: str | None = None) -> None:
        """Change what health answers, for one service or for all of them."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (service,) if service is not None else ("", *self._services):
            await self._health.set(name, status)

    async def stop(self, grace: float = 5.0) -> None:
        """Report NOT_SERVING, refuse new calls, let running ones finish within `grace` seconds; may be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        self._calls.refuse()
        # Not by the server's own grace period: a health watch never ends by itself and would hold all of it, and
        # a second, shorter `server.stop` beside the first crashes the gRPC core.
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._calls.idle()
        await server.stop(min(grace, _FLUSH_SECONDS))
