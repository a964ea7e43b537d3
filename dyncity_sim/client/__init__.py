"""The typed client: everything a program needs to call a server, without torch or any simulator."""

from dyncity_sim.client.client import DyncityClient
from dyncity_sim.client.stream import ChunkStream
from dyncity_sim.wire.server_info import ServerInfo

__all__ = ["ChunkStream", "DyncityClient", "ServerInfo"]
