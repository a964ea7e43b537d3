"""The server process: bind, load, serve, drain."""

import asyncio
import logging
import signal
from collections.abc import Callable

import grpc
from dyncity.v1 import generator_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from dyncity_sim.engine.engine import Engine
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.server.interceptor import ErrorInterceptor
from dyncity_sim.server.servicer import SERVICE_NAME, OccupancyGeneratorServicer
from dyncity_sim.server.standard_services import HealthServicer, ReflectionServicer
from dyncity_sim.wire.limits import SERVER_OPTIONS

logger = logging.getLogger(__name__)

HEALTH_NAMES = ("", SERVICE_NAME)
"""Services that health answers for; the empty name is the server as a whole."""


class Server:
    """One gRPC server over one engine.

    Args:
        engine: not started; the server starts and closes it.
        host: name or address to bind; an IPv6 address without brackets.
        port: port to bind, 0 for any that is free.
    """

    def __init__(self, engine: Engine, host: str, port: int) -> None:
        self._engine = engine
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._health = HealthServicer(HEALTH_NAMES)
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=SERVER_OPTIONS)
        generator_pb2_grpc.add_OccupancyGeneratorServicer_to_server(  # type: ignore[no-untyped-call]
            OccupancyGeneratorServicer(engine), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflected = ReflectionServicer((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), engine.draining)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, self._server)

    @property
    def target(self) -> str:
        """Where clients reach the server, ``host:port``, once bound."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """Bind, answer health with NOT_SERVING, load and warm up the model, then answer SERVING.

        Raises:
            InvalidInputError: the address cannot be bound.
            DyncityError: whatever the backend raises.
        """
        self._port = self._bind()
        await self._server.start()
        await self._engine.start()
        self._health.set(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_s: float) -> None:
        """Take no new work, give what is under way ``grace_s`` seconds, then stop.

        Streams of health and reflection end at once.
        """
        self._engine.drain()
        self._health.set(health_pb2.HealthCheckResponse.NOT_SERVING, last=True)
        await self._server.stop(grace_s)
        await self._engine.close()

    def _bind(self) -> int:
        try:
            port = self._server.add_insecure_port(self.target)
        except RuntimeError as error:
            raise InvalidInputError(
                "address",
                f"{self.target}, which cannot be bound",
                "a free port on an address of this machine",
                "Is another server running there? Port 0 picks a free one.",
            ) from error
        return int(port)


async def serve(engine: Engine, host: str, port: int, grace_s: float, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal cuts the draining short.

    Args:
        engine: not started.
        host: as Server.
        port: as Server.
        grace_s: seconds that work under way gets to finish.
        announce: gets one line once health says SERVING.

    Raises:
        InvalidInputError: the address cannot be bound.
        DyncityError: whatever the backend raises while it loads.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)

    server = Server(engine, host, port)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(signals.get())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is not None:
        stopping.cancel()
        await server.drain(0.0)
        await starting
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await server.drain(0.0)
        return

    announce(f"SERVING {engine.info.model_id} on {server.target}")
    logger.info("%s: draining for at most %.0f s", (await stopping).name, grace_s)
    draining = asyncio.create_task(server.drain(grace_s))
    hurrying = asyncio.create_task(signals.get())
    await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        logger.info("second signal: dropping the work under way")
        await server.drain(0.0)
    hurrying.cancel()
    await draining
