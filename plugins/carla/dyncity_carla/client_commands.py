"""What we ask for as the client library's objects: blueprints, transforms, and the commands of a batch."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from dyncity_carla.calls import Calls
from dyncity_carla.frames import CarlaTransform
from dyncity_carla.ports import Blueprint, Command, Destroy, Place, Spawn
from dyncity_sim.errors import SimulatorError


class ClientCommands:
    """Makes the client library's objects for one world.

    Args:
        carla: the client library.
        calls: how calls to the server go.
        world: the ``carla.World``, whose blueprint library is asked for when it is first needed.
    """

    def __init__(self, carla: ModuleType, calls: Calls, world: Any) -> None:
        self._carla, self._calls, self._world = carla, calls, world
        self._blueprints: dict[str, Any] | None = None

    def blueprints(self) -> Sequence[Blueprint]:
        """The server's library, sorted by id."""
        return [
            Blueprint(name, {attribute.id: self._value(attribute) for attribute in blueprint})
            for name, blueprint in sorted(self._library().items())
        ]

    def blueprint(self, blueprint_id: str, role_name: str) -> Any:
        """A ``carla.ActorBlueprint`` to spawn under a role name.

        Raises:
            SimulatorError: the server has none of this id.
        """
        blueprint = self._library().get(blueprint_id)
        if blueprint is None:
            raise SimulatorError(f"The CARLA server at {self._calls.address} has no blueprint {blueprint_id!r}.")
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", role_name)
        return blueprint

    def transform(self, at: CarlaTransform) -> Any:
        """A ``carla.Transform``."""
        carla = self._carla
        return carla.Transform(
            carla.Location(at.x_m, at.y_m, at.z_m),
            carla.Rotation(pitch=at.pitch_deg, yaw=at.yaw_deg, roll=at.roll_deg),
        )

    def command(self, command: Command) -> Any:
        """A command of ``carla.command``; what is spawned has no physics."""
        make = self._carla.command
        match command:
            case Place(actor_id, to):
                return make.ApplyTransform(actor_id, self.transform(to))
            case Destroy(actor_id):
                return make.DestroyActor(actor_id)
            case Spawn(blueprint_id, role_name, at, settle):
                made = make.FutureActor
                spawn = make.SpawnActor(self.blueprint(blueprint_id, role_name), self.transform(at))
                spawn.then(make.SetSimulatePhysics(made, False))
                return spawn.then(make.ApplyTransform(made, self.transform(settle)))

    def release(self) -> None:
        """Let the client library go."""
        self._blueprints = self._world = None

    def _library(self) -> dict[str, Any]:
        if self._blueprints is None:
            with self._calls.asking("its blueprint library"):
                self._blueprints = {blueprint.id: blueprint for blueprint in self._world.get_blueprint_library()}
        return self._blueprints

    def _value(self, attribute: Any) -> str:
        """The value of a blueprint's attribute as text; colours have none that matters here."""
        kinds = self._carla.ActorAttributeType
        match attribute.type:
            case kinds.String:
                return str(attribute.as_str())
            case kinds.Int:
                return str(attribute.as_int())
            case kinds.Float:
                return str(attribute.as_float())
            case kinds.Bool:
                return str(attribute.as_bool()).lower()
            case _:
                return ""
