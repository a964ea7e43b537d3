"""The one place where an exception becomes a status code."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from dyncity_sim.errors import DyncityError, InvalidInputError
from dyncity_sim.wire.status import internal_status, status_from_error

logger = logging.getLogger(__name__)

# grpc's own class takes no type arguments at run time, so the alias is a string.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# grpc's types describe the handlers of blocking servers only.
Handler: TypeAlias = Any
Method = Callable[[Any, Any], Awaitable[Any]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Maps errors of methods, unary and bidirectional, by ``wire.status``; what a client must not see is an incident.

    An incident is INTERNAL with a random id; the log has the id beside the stack trace.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method
        # Without a deserializer requests arrive as bytes, so that errors in parsing them are mapped too.
        if handler is not None and handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _mapping_errors(_unary(handler, name), name), response_serializer=handler.response_serializer
            )
        if handler is not None and handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _mapping_errors(_streaming(handler, name), name), response_serializer=handler.response_serializer
            )
        return handler


def _mapping_errors(method: Method, name: str) -> Method:
    async def guarded(data: Any, context: Context) -> Any:
        try:
            return await method(data, context)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except DyncityError as error:
            status = status_from_error(error) or _incident(name)
        except Exception:
            status = _incident(name)
        await _abort(context, status)

    return guarded


def _unary(handler: Handler, name: str) -> Method:
    async def answer(data: bytes, context: Context) -> Any:
        return await handler.unary_unary(_parsed(handler, data, name), context)

    return answer


def _streaming(handler: Handler, name: str) -> Method:
    async def parsed(data: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for message in data:
            yield _parsed(handler, message, name)

    async def converse(data: AsyncIterator[bytes], context: Context) -> None:
        # Closed here and not by the collector, so that a caller who hangs up drops the work at once.
        async with aclosing(handler.stream_stream(parsed(data), context)) as replies:
            async for reply in replies:
                await context.write(reply)

    return converse


def _parsed(handler: Handler, data: bytes, name: str) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError as error:
        raise InvalidInputError("request", f"{len(data)} bytes that do not parse", f"a request of {name}") from error


def _incident(method: str) -> status_pb2.Status:
    incident_id = uuid.uuid4().hex[:12]
    logger.exception("incident %s in %s", incident_id, method)
    return internal_status(incident_id)


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort raises")
