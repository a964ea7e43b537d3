"""Sizes both ends of the wire agree on."""

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message either side takes or sends; 32 raw chunks of CarlaSC. gRPC's own default is 4 MiB."""

MAX_VOXEL_BYTES = MAX_MESSAGE_BYTES
"""Most bytes an unpacked voxel array may have: what would not fit raw is refused packed as well."""

MAX_FRAMES = 4096
"""Most frames of a plan or a sequence in a message; each of their numbers is an object of Python for a while."""

KEEPALIVE_INTERVAL_MS = 20_000
"""How often a client with a call under way asks whether the server's machine is still there."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
    # A server that has just come up should be found at once; gRPC's default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""What a client's channel is opened with."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Clients ping at KEEPALIVE_INTERVAL_MS; gRPC's default takes that for abuse and hangs up.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_INTERVAL_MS // 2),
    # With port sharing on, a second server on a busy port would start and steal half of the calls.
    ("grpc.so_reuseport", 0),
)
"""What a server is opened with."""
