"""The standard services of a gRPC server, health and reflection, whose streams end when the server drains.

Those of grpcio's packages end when clients end them alone: one open stream would hold a server for its whole grace.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dyncity_sim.errors import UnavailableError
from dyncity_sim.server.streaming import until_drained

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Status: TypeAlias = health_pb2.HealthCheckResponse.ServingStatus


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """``grpc.health.v1.Health`` with one status for all services; NOT_SERVING at first.

    Args:
        services: names that it answers for.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = services
        self._status: Status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._last = False
        self._changed = asyncio.Event()

    def set(self, status: Status, last: bool = False) -> None:
        """Tell a status from now on; watchers who know the last one are done."""
        self._status, self._last = status, last
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status of a service."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service now and whenever it changes, up to the last one."""
        told = None
        while True:
            changed, last = self._changed, self._last
            known = request.service in self._services
            status = self._status if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
            if last:
                return
            told = status
            await changed.wait()


class ReflectionServicer(reflection.aio.ReflectionServicer):  # type: ignore[misc, name-defined]
    """``grpc.reflection.v1alpha.ServerReflection``: what the server offers.

    Args:
        services: names of its services.
        draining: returns when the server begins to drain.
    """

    def __init__(self, services: tuple[str, ...], draining: Callable[[], Awaitable[None]]) -> None:
        super().__init__(services)
        self._draining = draining

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer questions until there are no more, or the server drains."""
        with suppress(UnavailableError):
            async with aclosing(until_drained(request_iterator, self._draining)) as requests:
                async for reply in super().ServerReflectionInfo(requests, context):
                    yield reply
