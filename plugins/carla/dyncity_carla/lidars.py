"""Semantic LiDARs of the client library: attached, listened to, and stopped before they are destroyed."""

from typing import Any

from dyncity_carla.calls import Calls
from dyncity_carla.client_objects import sweep_of
from dyncity_carla.mailbox import Mailbox
from dyncity_carla.ports import LidarSpec, LidarSweep

SEMANTIC_LIDAR = "sensor.lidar.ray_cast_semantic"


class Lidars:
    """The LiDARs that this client listens to, by the server's ids.

    Args:
        calls: how calls to the server go.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._listening: dict[int, tuple[Any, Mailbox[LidarSweep]]] = {}

    def listen(self, sensor: Any, role_name: str) -> int:
        """Begin to listen to a ``carla.Sensor``; returns its id.

        Raises:
            SimulatorError: the server refused.
        """
        mailbox: Mailbox[LidarSweep] = Mailbox(f"LiDAR {role_name}")
        self._listening[int(sensor.id)] = (sensor, mailbox)
        # The library's memory is not ours to keep: what is needed is copied in its own thread.
        sensor.listen(lambda measured: mailbox.put(measured.frame, sweep_of(measured)))
        return int(sensor.id)

    def sweep(self, sensor_id: int, frame: int) -> LidarSweep:
        """The measurement of one tick.

        Raises:
            SimulatorError: it was lost, or did not come in time.
        """
        return self._listening[sensor_id][1].take(frame, self._calls.timeout_s)

    def stop(self, sensor_id: int) -> None:
        """Stop listening and take the sensor out of the world, in this order."""
        sensor, _ = self._listening.pop(sensor_id)
        with self._calls.asking(f"LiDAR {sensor_id} to stop"):
            sensor.stop()
            sensor.destroy()

    def release(self) -> None:
        """Stop listening to all of them; they stay in the world."""
        for sensor, _ in self._listening.values():
            sensor.stop()
        self._listening.clear()


def set_up(blueprint: Any, spec: LidarSpec, ticks_per_s: float) -> None:
    """Make a ``carla.ActorBlueprint`` the LiDAR that is asked for, turning once per tick."""
    for name, value in (
        ("channels", spec.channels),
        ("range", spec.range_m),
        ("points_per_second", round(spec.points_per_sweep * ticks_per_s)),
        ("rotation_frequency", ticks_per_s),
        ("lower_fov", spec.lower_deg),
        ("upper_fov", spec.upper_deg),
    ):
        blueprint.set_attribute(name, str(value))
