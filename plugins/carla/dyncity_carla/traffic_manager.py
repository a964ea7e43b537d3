"""CARLA's traffic manager, which is part of the client library and runs in this process."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from dyncity_carla.calls import Calls


class TrafficManager:
    """Drives vehicles of the server's world, synchronous and seeded: it steps with our ticks.

    Args:
        carla: the client library.
        client: the ``carla.Client``.
        calls: how calls to the server go.
    """

    def __init__(self, carla: ModuleType, client: Any, calls: Calls) -> None:
        self._carla, self._client, self._calls = carla, client, calls
        self._manager: Any = None

    def drive(self, actor_ids: Sequence[int], seed: int, port: int) -> None:
        """Hand vehicles over to a traffic manager that listens on a port.

        Raises:
            SimulatorError: the server or the library refused.
        """
        with self._calls.asking(f"a traffic manager on port {port} (--traffic-port names another)"):
            self._manager = self._client.get_trafficmanager(port)
            self._manager.set_synchronous_mode(True)
            self._manager.set_random_device_seed(seed)
            make = self._carla.command
            self._client.apply_batch_sync([make.SetAutopilot(actor_id, True, port) for actor_id in actor_ids], False)

    def end(self) -> None:
        """Give it up; harmless when none drives."""
        if self._manager is not None:
            with self._calls.asking("the traffic manager to end"):
                self._manager.set_synchronous_mode(False)
                self._manager.shut_down()
            self._manager = None

    def release(self) -> None:
        """Let the client library go."""
        self._manager = self._client = None
