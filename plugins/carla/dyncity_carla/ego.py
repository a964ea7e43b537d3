"""The ego in CARLA: found by its role name or made, without physics, and put on the poses of plans."""

from dataclasses import dataclass

import numpy as np

from dyncity_carla.assets import Library
from dyncity_carla.frames import CarlaTransform, carla_from_pose, mirrored_points, pose_from_carla
from dyncity_carla.maps import spawn_places
from dyncity_carla.plan import ego_pose, pose_of_car
from dyncity_carla.ports import ActorInfo, BoundingBox, Place, RoadMap, Waypoint
from dyncity_carla.route import choose
from dyncity_carla.session import Session
from dyncity_sim.domain.frames import Pose, planar_from_poses, wrap_angle
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import InvalidInputError, SimulatorError

EGO_SIZE_M = (4.7, 1.9, 1.5)
"""The ego that is made is the car nearest to this size."""

FREE_ROAD_M = 250.0
"""An ego is made where its road goes on this far, if there is such a place."""

LANE_SPACING_M = 20.0
MOST_TURNED_DEG = 45.0
"""An ego turned farther from its lane would have to be swung round."""

MOST_PLACES = 200
"""Places that are tried for an ego."""

VIEW_M = (-8.0, 0.0, 3.0)
VIEW_DOWN_RAD = np.deg2rad(15.0)
"""Where those who watch stand in the ego frame, and how far they look down."""


@dataclass(frozen=True)
class Ego:
    """A vehicle that follows plans.

    Attributes:
        actor_id: the server's id of it.
        box: its bounding box.
    """

    actor_id: int
    box: BoundingBox

    def placed(self, pose_world_from_ego: Pose) -> Place:
        """The command that puts the ego frame on a pose."""
        pose = pose_of_car(pose_world_from_ego)
        pose[:3, 3] -= pose[:3, :3] @ self._ground_from_origin
        return Place(self.actor_id, carla_from_pose(pose))

    def pose(self, transform: CarlaTransform) -> Pose:
        """The ego frame, upright, of where the vehicle stands."""
        pose = pose_from_carla(transform)
        centre = pose[:3, 3] + pose[:3, :3] @ self._ground_from_origin
        return ego_pose(centre, float(planar_from_poses(pose)[2]))

    def in_vehicle(self, point_ego_m: tuple[float, float, float]) -> tuple[float, float, float]:
        """A point of the ego frame in the vehicle's own left-handed frame: where a sensor is to be attached."""
        offset = pose_of_car(np.eye(4))[:3, 3]
        x_m, y_m, z_m = mirrored_points(np.array(point_ego_m) - offset + self._ground_from_origin).tolist()
        return x_m, y_m, z_m

    @property
    def _ground_from_origin(self) -> np.ndarray:
        """Middle of the box's underside seen from the vehicle's origin, right-handed."""
        return mirrored_points(np.array([self.box.centre_m[0], self.box.centre_m[1], self.box.bottom_m]))


def view_of(pose_world_from_ego: Pose) -> CarlaTransform:
    """Where a spectator stands who follows an ego: behind and above it, looking over it."""
    pose_ego_from_view = np.eye(4)
    cos, sin = np.cos(VIEW_DOWN_RAD), np.sin(VIEW_DOWN_RAD)
    pose_ego_from_view[:3, :3] = [[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]
    pose_ego_from_view[:3, 3] = VIEW_M
    return carla_from_pose(pose_world_from_ego @ pose_ego_from_view)


def is_vehicle_called(role: str, actor: ActorInfo) -> bool:
    """Whether an actor is a vehicle of this role name: what is attached to it may have the same."""
    return actor.role_name == role and actor.type_id.startswith("vehicle.")


def find_or_make_ego(
    session: Session, role: str, roads: RoadMap, library: Library, rng: np.random.Generator
) -> tuple[Ego, CarlaTransform]:
    """The vehicle of this role name, taken over, or a new one at a place drawn by ``rng``; and where it stands.

    Raises:
        InvalidInputError: several vehicles have this role name.
        SimulatorError: another run of this machine drives it, or there is no room for a new one.
    """
    world = session.world
    found = [actor for actor in world.actors() if is_vehicle_called(role, actor)]
    if len(found) > 1:
        raise InvalidInputError("--ego", f"{role!r}, the role name of {len(found)} vehicles", "one vehicle's role name")
    if found:
        actor_id = found[0].id
        snapshot = world.snapshot().actor(actor_id)
        if snapshot is None:
            raise SimulatorError(f"The ego {role!r} is no longer in the world of {world.address}: spawn it again.")
        session.borrow(found[0])
        return Ego(actor_id, world.bounding_box(actor_id)), snapshot.transform
    blueprint_id = library.nearest(ActorKind.CAR, EGO_SIZE_M).id
    places = _places(session, roads, rng)
    for place in places:
        made = session.spawn_ego(blueprint_id, role, place)
        if made is not None:
            world.set_physics(made, False)
            return Ego(made, world.bounding_box(made)), place
    raise SimulatorError(
        f"None of {len(places)} places on the roads of {world.address} has room for an ego: remove vehicles, or name "
        "one that is there: --ego ROLE_NAME."
    )


def lane_under(roads: RoadMap, place: CarlaTransform) -> Waypoint:
    """The driving lane that a vehicle stands on or beside.

    Raises:
        SimulatorError: it stands off every road, or across its lane.
    """
    pose = pose_from_carla(place)
    waypoint = roads.nearest(pose[:3, 3])
    if waypoint is None:
        raise SimulatorError(
            f"The ego at x = {place.x_m:.1f}, y = {place.y_m:.1f} stands off every driving lane: put it on a road."
        )
    turned_deg = _turned_deg(pose, waypoint)
    if turned_deg > MOST_TURNED_DEG:
        raise SimulatorError(
            f"The ego at x = {place.x_m:.1f}, y = {place.y_m:.1f} is turned by {turned_deg:.0f} degrees from its lane, "
            f"and plans go along lanes: turn it along the lane, to within {MOST_TURNED_DEG:g} degrees."
        )
    return waypoint


def _turned_deg(pose: Pose, waypoint: Waypoint) -> float:
    """Angle between the headings of a thing and of a lane."""
    yaw_rad, lane_yaw_rad = (planar_from_poses(each)[2] for each in (pose, waypoint.pose_world_from_lane))
    return abs(float(np.rad2deg(wrap_angle(yaw_rad - lane_yaw_rad))))


def _places(session: Session, roads: RoadMap, rng: np.random.Generator) -> list[CarlaTransform]:
    """Where an ego may be made, in an order drawn by ``rng``; those whose road goes on come first."""
    points = spawn_places(session.world, roads, LANE_SPACING_M)
    drawn = [points[index] for index in rng.permutation(len(points))[:MOST_PLACES]]
    return sorted(drawn, key=lambda place: not _is_free(roads, place))


def _is_free(roads: RoadMap, place: CarlaTransform) -> bool:
    """Whether a place lies along a road that goes on for FREE_ROAD_M, whatever way is taken."""
    pose = pose_from_carla(place)
    waypoint = roads.nearest(pose[:3, 3])
    if waypoint is None or _turned_deg(pose, waypoint) > MOST_TURNED_DEG:
        return False
    # The ways are those of a route of its own: trying out spends none of the drive's chances.
    rng = np.random.default_rng(0)
    driven_m = 0.0
    while driven_m < FREE_ROAD_M:
        ways = waypoint.next(10.0)
        if not ways:
            return False
        waypoint, driven_m = choose(ways, rng), driven_m + 10.0
    return True
