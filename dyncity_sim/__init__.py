"""Generated 4D occupancy for driving simulators: client, server, scenes and ground truth."""

__version__ = "0.1.0"
