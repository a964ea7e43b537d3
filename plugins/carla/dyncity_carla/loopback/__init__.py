"""A stand-in for a CARLA 0.9.16 server on the loopback interface: the wire and the bookkeeping, no rendering.

A separate process speaks CARLA's RPC and streaming protocols to the real ``carla`` client library, on any
OpenDRIVE file. What passes against it has spoken correctly to the client library; it has not run in CARLA.
"""
