"""CARLA behind the simulator port: an ego that follows plans, and generated actors around it as it does."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from dyncity_carla.assets import Library
from dyncity_carla.census import Census
from dyncity_carla.connection import connect
from dyncity_carla.ego import find_or_make_ego, lane_under, view_of
from dyncity_carla.frames import CarlaTransform, carla_from_pose
from dyncity_carla.furniture import Furniture
from dyncity_carla.maps import open_map
from dyncity_carla.options import DriveOptions
from dyncity_carla.plan import STEP_US, Planner, pose_of_car
from dyncity_carla.player import Casting, Figure, Player, Unspawned, told_of
from dyncity_carla.ports import Place, Snapshot
from dyncity_carla.route import Route
from dyncity_carla.sensing import Observer, RoadSurface, draw_rig
from dyncity_carla.session import Session
from dyncity_carla.settings import STEP_S
from dyncity_carla.shown_file import ShownFile
from dyncity_carla.speed import SpeedLimits
from dyncity_carla.timeline import Timeline, between
from dyncity_carla.world import CarlaWorld
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import Pose, wrap_angle
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, merged_labels
from dyncity_sim.errors import InvalidInputError, SimulatorError
from dyncity_sim.scene.actors.live import LiveTracks

ARRIVED_M = 0.02
ARRIVED_DEG = 0.1
"""An ego this close to where it was put, and turned so nearly as it was to be, is there; the client library computes in
single precision."""

MOST_LATE_TICKS = 200
"""Another client's ticks that pass before the ego is where it was put; more, and something else moves it."""

BOX_LIFE_S = 0.15

_log = logging.getLogger(__name__)


class CarlaSimulator:
    """A drive in a CARLA world; implements the simulator port. Use as a context manager.

    The world's ego follows plans exactly, without physics. With ticks of our own the world stands still while a chunk
    is waited for; where another client ticks, the ego and everything generated hold their places until the chunk is
    there, and the drive takes longer in simulated time.

    Args:
        options: server, ego, sensors.
        map_spec: empty for the world that is loaded, else a town of the server or an OpenDRIVE file.
        seed: decides where an ego is made, which way it takes, and where sensors stand.

    Attributes:
        map_name: of the world that is driven in, e.g. ``Town01``.

    Raises:
        MapError: the world has no lane to drive on.
        MissingExtraError: CARLA's client library is not installed.
        SimulatorError: as its messages say.
    """

    grid: Grid = CARLASC_GRID

    def __init__(self, options: DriveOptions, map_spec: str, seed: int) -> None:
        if seed < 0:
            raise InvalidInputError("seed", seed, "an integer of at least 0")
        self._resources = ExitStack()
        try:
            self._open(options, map_spec, seed)
        except BaseException:
            self._resources.close()
            raise

    def _open(self, options: DriveOptions, map_spec: str, seed: int) -> None:
        server = options.server
        self._world = connect(server.host, server.port, server.timeout_s, server.allow_version_mismatch)
        self._resources.callback(self._world.release)
        self._roads = open_map(self._world, map_spec, server.ticks)
        self.map_name = self._world.map_name().rpartition("/")[2]
        self._session = self._resources.enter_context(Session(self._world, server.ticks))
        self._ticks_per_frame = round(STEP_S / self._session.step_s)
        library = Library(self._world.blueprints())
        self._ego, place = find_or_make_ego(
            self._session, options.ego, self._roads, library, np.random.default_rng([seed, 1])
        )
        lane = lane_under(self._roads, place)
        centre = pose_of_car(self._ego.pose(place))[:3, 3]
        centre[2] = lane.pose_world_from_lane[2, 3]
        self._planner = Planner(
            Route(lane, np.random.default_rng([seed, 2]), centre), SpeedLimits(self._roads.opendrive), 0.0, 0
        )
        self._time_us = 0
        self._player = Player(self._session, self._world.bounding_box, self._session.run.role)
        self._casting = Casting(library)
        self._live, self._timeline = LiveTracks(), Timeline(())
        self._furniture = None if options.furniture == "none" else Furniture(library)
        self._style = options.furniture
        self._spectator = self._world.spectator() if options.follow else None
        self._census = Census(self._world)
        self._observer = Observer(CARLASC_GRID, RoadSurface(self._roads))
        rig = draw_rig(np.random.default_rng([seed, 3]), options.lidars, options.points_per_sweep)
        self._lidars = [
            self._session.attach_lidar(
                self._ego.actor_id, replace(spec, position_m=self._ego.in_vehicle(spec.position_m)), f"lidar{number}"
            )
            for number, spec in enumerate(rig)
        ]
        self._shown = None if options.shown is None else self._resources.enter_context(ShownFile(options.shown))
        self._pose: Pose = self._ego.pose(place)
        self._snapshot = self._move_to(self._pose, ())

    @property
    def attribution(self) -> str:
        """CARLA's towns ask for credit; a world made of an OpenDRIVE file is its author's."""
        return "CARLA team, Computer Vision Center (CC-BY)" if self.map_name.startswith("Town") else ""

    @property
    def session(self) -> Session:
        """The run's stay in the server's world."""
        return self._session

    @property
    def world(self) -> CarlaWorld:
        """The server's world."""
        return self._world

    @property
    def opendrive(self) -> str:
        """The road network as an OpenDRIVE document."""
        return self._roads.opendrive

    @property
    def shown_tracks(self) -> tuple[Track, ...]:
        """The generated actors on the tracks that they were shown on; those that found no room are among them."""
        return self._live.tracks

    @property
    def unspawned(self) -> tuple[Unspawned, ...]:
        """Every generated thing that found no room at first, with what became of it."""
        return self._player.unspawned

    def observe(self) -> RecordedFrame:
        """What the sensors and the boxes of actors say of the cells around the ego now."""
        sweeps = [self._world.sweep(lidar, self._snapshot.frame) for lidar in self._lidars]
        actors = self._census.states(self._snapshot, self._ego.actor_id)
        return self._observer.frame(sweeps, actors, self._census.numbers, self._ego.actor_id, self._pose, self._time_us)

    def plan(self, frames: int, heeds_others: bool = False) -> EgoPlan:
        """Where the ego will be over ``frames`` steps from the end of the last plan on; nothing moves.

        Args:
            frames: at least two.
            heeds_others: stop behind who is in the way now; of use where all that was planned is driven.

        Raises:
            InvalidInputError: fewer than two frames.
            RoadEndsError: the road ends.
        """
        others = self._census.states(self._snapshot, self._ego.actor_id) if heeds_others else ()
        return self._planner.plan(frames, others)

    def follow(self, plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        """Put the ego on each pose of ``plan`` in turn, show what was generated for it, and yield each frame.

        Raises:
            InvalidInputError: the plan does not begin one step ahead of now.
            SimulatorError: the server, or whoever ticks it, does not play along.
        """
        if plan.times_us[0] != self._time_us + STEP_US:
            raise InvalidInputError(
                "plan.times_us[0]", int(plan.times_us[0]), f"{self._time_us + STEP_US}, one step ahead of now"
            )
        return self._follow(plan, generated)

    def close(self) -> None:
        """Give everything back to the server; harmless when done before."""
        refused = [figure for figure in self._player.unspawned if not figure.shown_later]
        if refused:
            _log.warning("%d generated things found no room: %s", len(refused), "; ".join(told_of(refused)))
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self, plan: EgoPlan, generated: GeneratedChunk | None) -> Iterator[RecordedFrame]:
        if generated is not None:
            occupancy = in_merged_classes(generated.occupancy)
            self._timeline = Timeline(self._live.add(occupancy))
            if self._furniture is not None:
                self._furniture.add(occupancy)
        for pose, time_us in zip(plan.poses_world_from_ego, plan.times_us.tolist(), strict=True):
            self._go_to(pose, time_us)
            yield self.observe()

    def _go_to(self, pose: Pose, time_us: int) -> None:
        """One frame on, in as many ticks as it takes; between frames everything is on its way from one to the next."""
        first, first_us = self._pose, self._time_us
        for tick in range(1, self._ticks_per_frame + 1):
            share = tick / self._ticks_per_frame
            last = tick == self._ticks_per_frame
            now_us = time_us if last else round(first_us + share * (time_us - first_us))
            figures = self._casting.figures(self._timeline, now_us)
            self._snapshot = self._move_to(pose if last else between(first, pose, share), figures)
        found = self._snapshot.actor(self._ego.actor_id)
        assert found is not None
        self._pose, self._time_us = self._ego.pose(found.transform), time_us
        if self._shown is not None:
            ego = self._ego.actor_id, self._pose
            self._shown.tell(self._snapshot.frame, time_us, ego, figures, self._player.shown)

    def _move_to(self, pose: Pose, figures: Sequence[Figure]) -> Snapshot:
        """Show figures with the ego on a pose, and let the world go on until it is there."""
        placed = self._ego.placed(pose)
        standing: Sequence[Figure] = ()
        if self._furniture is not None and self._style == "props":
            standing = self._furniture.figures
        elif self._furniture is not None:
            self._draw(self._furniture)
        view = [] if self._spectator is None else [Place(self._spectator, view_of(pose))]
        self._world.forget_ticks()
        outcome = self._player.present([*figures, *standing], [placed, *view])[0]
        if outcome.refusal:
            raise SimulatorError(f"The ego cannot be moved any more ({outcome.refusal}): did somebody destroy it?")
        ticks = 1 if self._session.ticks == "own" else MOST_LATE_TICKS
        for _ in range(ticks):
            snapshot = self._session.tick()
            self._player.look(snapshot.ids)
            if self._has_arrived(snapshot, placed.to):
                return snapshot
        if snapshot.actor(self._ego.actor_id) is None:
            raise SimulatorError("The ego is no longer in the world: somebody destroyed it.")
        raise SimulatorError("The ego did not go where it was put: does another client move it too?")

    def _has_arrived(self, snapshot: Snapshot, to: CarlaTransform) -> bool:
        found = snapshot.actor(self._ego.actor_id)
        if found is None:
            # It may just not be there yet: another client's tick can be older than the ego.
            return False
        turned_rad = abs(wrap_angle(np.deg2rad(found.transform.yaw_deg - to.yaw_deg)))
        return found.transform.distance_m(to) <= ARRIVED_M and bool(turned_rad <= np.deg2rad(ARRIVED_DEG))

    def _draw(self, furniture: Furniture) -> None:
        boxes = [(carla_from_pose(piece.pose_world_from_piece), piece.size_m) for piece in furniture.pieces]
        self._world.draw_boxes(boxes, BOX_LIFE_S)


def in_merged_classes(occupancy: OccupancySequence) -> OccupancySequence:
    """The same frames in CARLASC's classes."""
    if occupancy.taxonomy.id != CARLASC_RAW.id:
        return occupancy
    return OccupancySequence(
        merged_labels(occupancy.labels),
        occupancy.poses_world_from_ego,
        occupancy.times_us,
        occupancy.grid,
        CARLASC,
        occupancy.observed,
    )
