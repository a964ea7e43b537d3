"""How calls end: grpc's errors as the project's."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from dyncity_sim.errors import DyncityError, InvalidInputError, RemoteError, UnavailableError
from dyncity_sim.wire.status import error_from_status


def ended_call(error: grpc.RpcError) -> grpc.Call:
    """What a blocking call raises is the ended call itself; grpc's types do not say so."""
    assert isinstance(error, grpc.Call)
    return error


def error_of_call(error: grpc.RpcError, target: str) -> DyncityError:
    """What a failed call stands for; a failure without a status of ours names the target."""
    call = ended_call(error)
    if call.code() is grpc.StatusCode.UNAVAILABLE and (call.details() or "").startswith("failed to connect"):
        return UnavailableError(f"{target}: no server answers there. Start one with dyncity serve, or name another.")
    status = rpc_status.from_call(call) or status_pb2.Status(
        code=call.code().value[0], message=f"{target}: {call.details() or call.code().name}"
    )
    return error_from_status(status)


@contextmanager
def server_at_fault(target: str) -> Iterator[None]:
    """A reply that does not hold together is the server's fault, not the caller's."""
    try:
        yield
    except InvalidInputError as error:
        raise RemoteError(f"{target} sent a reply that does not hold together: {error}") from error
