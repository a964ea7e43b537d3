"""A simulator of your own behind the simulator port: drive it against a server, or record it.

The simulator is a ring road with a car ahead of the ego, small enough to read. Yours does the same three
things: plan, follow a plan exactly, and show labelled cells with what its sensors saw of them.

    dyncity serve
    python examples/own_simulator.py drive --server localhost:50051 --out out/ring
    dyncity view out/ring
    python examples/own_simulator.py record --drives 12 --out data/ring
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dyncity_sim.cli.numbers import not_negative, positive
from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.outputs import write_data
from dyncity_sim.dataset.store import RecordingMeta, RecordingWriter
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import Pose, inverse, poses_from_planar, transform_points
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ, LIDAR_HEIGHT_M, Grid
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import DyncityError, InvalidInputError
from dyncity_sim.files import check_free

RADIUS_M = 60.0
LANE_M = 3.5
SIDEWALK_M = 3.0
EGO_RADIUS_M = RADIUS_M + LANE_M / 2
"""The ring is driven counter-clockwise on its right, which is the outer lane."""

STEP_US = 1_000_000 // FRAME_RATE_HZ
CAR_SIZE_M = (4.5, 1.9, 1.5)
SENSOR_RANGE_M = 24.0
HOUSES = 24
DRIVE_FRAMES = 40


class RingRoad:
    """One ego on a ring road behind another car; fulfils ``dyncity_sim.cosim.simulator.Simulator``.

    Args:
        seed: decides where the ego starts, how fast both drive, and where houses stand.
    """

    attribution = ""
    grid: Grid = CARLASC_GRID
    shown_tracks = None

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._angle_rad = float(rng.uniform(0, 2 * np.pi))
        self._lead_angle_rad = self._angle_rad + float(rng.uniform(10, 22)) / EGO_RADIUS_M
        self._speed_mps = float(rng.uniform(5, 9))
        self._lead_speed_mps = self._speed_mps * float(rng.uniform(1.0, 1.2))
        self._has_house: Bool[np.ndarray, " H"] = rng.random(HOUSES) < 0.7
        self._time_us = 0
        self._planned_us = 0

    @property
    def opendrive(self) -> str:
        """One closed road, its reference line between the two lanes."""
        lane = '<lane id="{id}" type="driving" level="false"><width sOffset="0" a="{width}" b="0" c="0" d="0"/></lane>'
        length_m = 2 * np.pi * RADIUS_M
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<OpenDRIVE><header revMajor="1" revMinor="7" name="ring"/>'
            f'<road name="ring" length="{length_m:.6f}" id="1" junction="-1"><planView>'
            f'<geometry s="0" x="{RADIUS_M}" y="0" hdg="{np.pi / 2:.9f}" length="{length_m:.6f}">'
            f'<arc curvature="{1 / RADIUS_M:.9f}"/></geometry></planView><lanes><laneSection s="0">'
            f"<left>{lane.format(id=1, width=LANE_M)}</left>"
            '<center><lane id="0" type="none" level="false"/></center>'
            f"<right>{lane.format(id=-1, width=LANE_M)}</right></laneSection></lanes></road></OpenDRIVE>\n"
        )

    def observe(self) -> RecordedFrame:
        """What is around the ego now."""
        pose = _ring_poses(np.array([self._angle_rad]), LIDAR_HEIGHT_M)[0]
        lead = _ring_poses(np.array([self._lead_angle_rad]), CAR_SIZE_M[2] / 2)[0]
        centres_ego = np.stack(
            np.meshgrid(*(self.grid.centres(axis) for axis in range(3)), indexing="ij"), axis=-1
        ).reshape(-1, 3)
        centres_world = transform_points(pose, centres_ego)
        labels = self._static_labels(centres_world)
        in_lead = (np.abs(transform_points(inverse(lead), centres_world)) < np.array(CAR_SIZE_M) / 2).all(axis=-1)
        labels[in_lead] = CARLASC_RAW.index("vehicle")
        seen = np.linalg.norm(centres_ego[:, :2], axis=-1) < SENSOR_RANGE_M
        actor = ActorState(1, ActorKind.CAR, lead, CAR_SIZE_M, self._lead_speed_mps)
        return RecordedFrame(
            labels=labels.reshape(self.grid.shape),
            counts=seen.astype(np.float32).reshape(self.grid.shape),
            instances=in_lead.astype(np.uint16).reshape(self.grid.shape),
            actors=(actor,) if in_lead.any() else (),
            pose_world_from_ego=pose,
            time_us=self._time_us,
            grid=self.grid,
        )

    def plan(self, frames: int) -> EgoPlan:
        """On along the ring at the ego's speed, from where the last plan ends; nothing moves yet."""
        times_us = max(self._planned_us, self._time_us) + STEP_US * np.arange(1, frames + 1)
        ahead_s = (times_us - self._time_us) * 1e-6
        self._planned_us = int(times_us[-1])
        return EgoPlan(
            _ring_poses(self._angle_rad + ahead_s * self._speed_mps / EGO_RADIUS_M, LIDAR_HEIGHT_M), times_us
        )

    def follow(self, plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        """Put the ego on each pose of the plan in turn, while the car ahead drives on."""
        if plan.times_us[0] != self._time_us + STEP_US:
            raise InvalidInputError("plan.times_us", int(plan.times_us[0]), str(self._time_us + STEP_US))
        for pose, time_us in zip(plan.poses_world_from_ego, plan.times_us, strict=True):
            self._angle_rad = float(np.arctan2(pose[1, 3], pose[0, 3]))
            self._lead_angle_rad += self._lead_speed_mps * STEP_US * 1e-6 / EGO_RADIUS_M
            self._time_us = int(time_us)
            yield self.observe()

    def _static_labels(self, points_world: Float64[np.ndarray, "N 3"]) -> UInt8[np.ndarray, " N"]:
        """Road, sidewalks, grass and houses; the ground is the lowest layer of cells."""
        beside_m = np.abs(np.hypot(points_world[:, 0], points_world[:, 1]) - RADIUS_M)
        on_ground = points_world[:, 2] < self.grid.voxel_size_m[2] / 2
        around = np.arctan2(points_world[:, 1], points_world[:, 0]) / (2 * np.pi)
        sector = np.floor(around * HOUSES).astype(int) % HOUSES
        house = (beside_m > LANE_M + SIDEWALK_M + 2) & (beside_m < LANE_M + SIDEWALK_M + 9) & self._has_house[sector]
        names = ("building", "road", "sidewalk", "terrain")
        return np.select(
            [house, on_ground & (beside_m < LANE_M), on_ground & (beside_m < LANE_M + SIDEWALK_M), on_ground],
            [CARLASC_RAW.index(name) for name in names],
            0,
        ).astype(np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing to close; a real simulator's process or connection ends here."""


def open_simulator(map_spec: str, seed: int) -> RingRoad:
    """A drive that can begin; this world has one map, ``ring``."""
    if map_spec != "ring":
        raise InvalidInputError("map", repr(map_spec), "'ring'")
    return RingRoad(seed)


def drive(server: str, chunks: int, seed: int, out: Path) -> None:
    """Drive against a server; write occupancy, scene and ground truth."""
    check_free(out)
    with DyncityClient(server) as client, open_simulator("ring", seed) as simulator:
        client.wait_until_serving()
        made = run_drive(simulator, client, chunks, seed)
    derived = write_data(made, out, lambda doing, done, total: None)
    print(f"{len(made.generated)} frames, {len(derived.scene.tracks)} tracks, {derived.points} LiDAR points in {out}")
    if made.ended:
        print(f"ended early: {made.ended}")


def record(drives: int, seed: int, out: Path) -> None:
    """Record drives for training."""
    meta = RecordingMeta("ring", seed, CARLASC_GRID, attribution="", simulator="ring road example")
    with RecordingWriter(out, meta) as writer:
        for number in range(drives):
            with open_simulator("ring", seed + number) as simulator:
                writer.write_drive(list(simulator.follow(simulator.plan(DRIVE_FRAMES))))
    print(f"{drives} drives of {DRIVE_FRAMES} frames in {out}")


def _ring_poses(angles_rad: Float64[np.ndarray, " T"], z_m: float) -> Float64[np.ndarray, "T 4 4"]:
    """Poses on the ego's lane, heading counter-clockwise."""
    place = EGO_RADIUS_M * np.column_stack([np.cos(angles_rad), np.sin(angles_rad)])
    poses: Pose = poses_from_planar(np.column_stack([place, angles_rad + np.pi / 2]), z_m)
    return poses


def main() -> None:
    """Drive or record."""
    parser = argparse.ArgumentParser(description="A simulator of your own behind the simulator port.")
    commands = parser.add_subparsers(dest="command", required=True)
    driving = commands.add_parser("drive", help="drive against a server")
    driving.add_argument("--server", default="localhost:50051", metavar="HOST:PORT")
    driving.add_argument("--chunks", type=positive, default=2)
    recording = commands.add_parser("record", help="record drives for training")
    recording.add_argument("--drives", type=positive, default=12)
    for parts in (driving, recording):
        parts.add_argument("--seed", type=not_negative, default=1)
        parts.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "drive":
        drive(arguments.server, arguments.chunks, arguments.seed, arguments.out)
    else:
        record(arguments.drives, arguments.seed, arguments.out)


if __name__ == "__main__":
    try:
        main()
    except DyncityError as error:
        sys.exit(f"error: {error}")
