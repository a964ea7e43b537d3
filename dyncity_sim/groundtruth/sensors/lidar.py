"""Semantic LiDAR: what a spinning sensor measures in one frame of occupancy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt16

from dyncity_sim.domain.frames import Poses, inverse
from dyncity_sim.domain.ground_truth import LidarSweep
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.sensors.motion import Motion, Turn
from dyncity_sim.groundtruth.sensors.rays import Hits, Rays, Seen, Surroundings, by_track, cast, check_free

CELL_MARGIN_M = 1e-4
"""Points lie at least this far inside the cell they hit, so that float32 cannot round them into its neighbour."""


def lidar_sweep(
    around: Surroundings,
    sensor: LidarSensor,
    motions: Mapping[int, Motion],
    rng: np.random.Generator,
    turn: Turn | None = None,
) -> tuple[LidarSweep, Seen]:
    """One turn of ``sensor`` over a frame; rays that leave the grid give no point.

    A point lies in the cell it was measured on, unless the sensor's ranges are noisy or the cell is an actor's that
    moved within the turn. A cell counts as seen where a ray gives a point in it, or passes through it before it gives
    one or leaves; rays whose hit gives no point say nothing.

    Args:
        around: what there is to hit.
        sensor: the LiDAR.
        motions: motion of each track, by id; cells of others stand.
        rng: drop-out and noise are drawn from it, for every ray alike whatever it hits.
        turn: how ego and actors moved within the turn; None takes it as an instant.

    Raises:
        InvalidInputError: the sensor stands outside the grid or in an occupied cell, or a class lacks a reflectivity.
        MissingExtraError: numba is not installed.
    """
    rays = _lidar_rays(sensor, turn)
    found = _first_met(around, sensor, rays, turn)
    distances, rays_met = found.hits.distances, found.rays
    hit = np.flatnonzero(found.hits.cells >= 0)
    cells = found.hits.cells[hit]
    labels = around.labels.reshape(-1)[cells]
    incidence = np.abs(rays_met.directions[hit, found.hits.axes[hit]])
    intensity = _intensity(labels, incidence, distances[hit], sensor, around.taxonomy)
    ranges, measured = distances[hit], distances[hit] >= sensor.min_range_m
    if sensor.dropout:
        drawn = rng.random(len(rays))[hit]
        measured &= drawn >= _dropout_probability(incidence, distances[hit], intensity, sensor)
    if sensor.range_noise_m > 0:
        ranges = ranges + sensor.range_noise_m * rng.standard_normal(len(rays))[hit]
        measured &= (ranges >= sensor.min_range_m) & (ranges <= sensor.max_range_m)

    seen = _seen_cells(around, rays, found, hit[~measured])
    instances = around.instances.reshape(-1)
    met = by_track(instances[cells], len(found.crossed))
    kept, cells = hit[measured], cells[measured]
    points = rays_met[kept].at(ranges[measured])
    if sensor.range_noise_m == 0:
        points = _inside_cells(points, cells, around)
    tracks = instances[cells]
    velocities = _velocities(points, tracks, motions)
    if turn is not None:
        points = _as_they_were(points, found.movers[kept], kept % sensor.azimuth_steps, turn)
    sweep = LidarSweep(
        points_ego_m=points.astype(np.float32),
        labels=labels[measured],
        instances=tracks,
        incidence=incidence[measured].astype(np.float32),
        intensity=intensity[measured],
        velocities_ego_mps=velocities.astype(np.float32),
        beams=(kept // sensor.azimuth_steps).astype(np.uint16),
        firings=(kept % sensor.azimuth_steps).astype(np.int32),
        time_offsets_us=(0 * kept if turn is None else turn.offsets_us[kept % sensor.azimuth_steps]).astype(np.int32),
    )
    return sweep, Seen(seen, met, found.crossed)


def _velocities(
    points: Float64[np.ndarray, "N 3"], tracks: UInt16[np.ndarray, " N"], motions: Mapping[int, Motion]
) -> Float64[np.ndarray, "N 3"]:
    """Of points on actors, metres per second; all else stands."""
    velocities = np.zeros((len(points), 3))
    for track, motion in motions.items():
        own = tracks == track
        velocities[own] = motion.velocities(points[own])
    return velocities


def ray_directions(sensor: LidarSensor) -> Float64[np.ndarray, "R 3"]:
    """Unit vectors of all rays of an instant in the ego frame, beam-major; firing 0 looks along the sensor's x."""
    elevation = np.asarray(sensor.elevations_rad)[:, None]
    azimuth = (2 * np.pi / sensor.azimuth_steps) * np.arange(sensor.azimuth_steps)[None]
    rays = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation) + 0 * azimuth]
    return np.stack(rays, axis=-1).reshape(-1, 3) @ sensor.pose_ego_from_sensor[:3, :3].T


@dataclass(frozen=True, eq=False)
class _Found:
    """What the rays of a turn met.

    Attributes:
        hits: first hits, of static things and of actors where they were at that time.
        rays: the rays; those at an actor that moved are carried along into the frame, where its cells are.
        movers: track id of the actor that moved and was hit, by ray; 0 elsewhere.
        crossed: rays that would meet each track alone, by id.
        still_labels: labels without the actors that moved.
    """

    hits: Hits
    rays: Rays
    movers: UInt16[np.ndarray, " R"]
    crossed: Int64[np.ndarray, " I"]
    still_labels: UInt8[np.ndarray, "X Y Z"]


def _lidar_rays(sensor: LidarSensor, turn: Turn | None) -> Rays:
    directions = ray_directions(sensor)
    origins = np.tile(sensor.position_ego_m, (len(directions), 1))
    rays = Rays(origins, directions, np.full(len(directions), sensor.max_range_m))
    if turn is None or (turn.pose_now_from_then == np.eye(4)).all():
        return rays
    return rays.moved(np.tile(turn.pose_now_from_then, (len(sensor.elevations_rad), 1, 1)))


def _first_met(around: Surroundings, sensor: LidarSensor, rays: Rays, turn: Turn | None) -> _Found:
    moved = {} if turn is None else turn.pose_then_from_now
    moves = np.isin(around.instances, list(moved))
    labels = np.where(moves, np.uint8(0), around.labels) if moves.any() else around.labels
    check_free(labels, rays.origins_m[: sensor.azimuth_steps], around, sensor)
    crossed = np.zeros(int(around.instances.max()) + 1, dtype=np.int64)
    still = np.where(moves, np.uint16(0), around.instances)
    some = bool(still.any())
    hits = cast(labels, around.grid, rays, None, still if some else None, crossed if some else None)
    found = _Found(hits, rays, np.zeros(len(rays), dtype=np.uint16), crossed, labels)
    for track, pose_then_from_now in moved.items():
        if track < len(crossed) and (around.instances == track).any():
            found = _with_mover(found, around, track, pose_then_from_now)
    return found


def _with_mover(found: _Found, around: Surroundings, track: int, pose_then_from_now: Poses) -> _Found:
    """Rays against one actor, cast where its cells are after they were carried along with it."""
    cells = around.instances == track
    pose_now_from_then = inverse(pose_then_from_now)
    firings = np.arange(len(found.rays)) % len(pose_now_from_then)
    at_all = np.flatnonzero(_near(found.rays, cells, pose_then_from_now, firings, around))
    carried = found.rays[at_all].moved(pose_now_from_then[firings[at_all]])
    alone = cast(np.where(cells, around.labels, np.uint8(0)), around.grid, carried)
    # A ray that starts in the actor's cells measures nothing of it.
    meets = (alone.cells >= 0) & (alone.axes >= 0)
    found.crossed[track] = meets.sum()
    first = meets & (alone.distances < found.hits.distances[at_all])
    chosen = at_all[first]
    hits, rays, movers = found.hits, found.rays, found.movers.copy()
    movers[chosen] = track
    return replace(
        found,
        hits=Hits(
            _with(hits.cells, chosen, alone.cells[first]),
            _with(hits.distances, chosen, alone.distances[first]),
            _with(hits.axes, chosen, alone.axes[first]),
        ),
        rays=Rays(
            _with(rays.origins_m, chosen, carried.origins_m[first]),
            _with(rays.directions, chosen, carried.directions[first]),
            rays.reach,
        ),
        movers=movers,
    )


def _with(array: np.ndarray, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[chosen] = values
    return changed


def _near(
    rays: Rays, cells: Bool[np.ndarray, "X Y Z"], pose_then_from_now: Poses, firings: np.ndarray, around: Surroundings
) -> Bool[np.ndarray, " R"]:
    """Rays that meet the ball around an actor's cells where it was at their time."""
    size = np.asarray(around.grid.voxel_size_m)
    indices = np.argwhere(cells)
    lowest, highest = indices.min(axis=0), indices.max(axis=0) + 1
    centre = np.append(np.asarray(around.grid.lower_m) + (lowest + highest) / 2 * size, 1.0)
    radius_m = float(np.linalg.norm((highest - lowest) / 2 * size)) + CELL_MARGIN_M
    to_centre = (pose_then_from_now @ centre)[firings, :3] - rays.origins_m
    along = np.einsum("ri,ri->r", to_centre, rays.directions)
    apart2 = np.einsum("ri,ri->r", to_centre, to_centre) - along**2
    return np.asarray((apart2 <= radius_m**2) & (along >= -radius_m))


def _intensity(
    labels: UInt8[np.ndarray, " N"],
    incidence: Float64[np.ndarray, " N"],
    distances_m: Float64[np.ndarray, " N"],
    sensor: LidarSensor,
    taxonomy: Taxonomy,
) -> Float32[np.ndarray, " N"]:
    """Light that a diffuse surface throws back: reflectivity times cosine (Lambert), and the square of the distance."""
    unknown = [name for name in taxonomy.names[1:] if name not in sensor.reflectivity]
    if unknown:
        raise InvalidInputError(
            f"{sensor.name}.reflectivity",
            f"nothing for {', '.join(unknown)}",
            f"a share for each class of {taxonomy.id}",
        )
    share = np.array([0.0, *(sensor.reflectivity[name] for name in taxonomy.names[1:])])
    intensity = share[labels] * incidence
    if sensor.falloff_m is not None:
        intensity *= np.minimum(1.0, sensor.falloff_m / np.maximum(distances_m, sensor.falloff_m)) ** 2
    return np.asarray(intensity.astype(np.float32))


def _dropout_probability(
    incidence: Float64[np.ndarray, " N"],
    distances_m: Float64[np.ndarray, " N"],
    intensity: Float32[np.ndarray, " N"],
    sensor: LidarSensor,
) -> Float64[np.ndarray, " N"]:
    dropout = sensor.dropout
    near = 1 - dropout.at_max_range * (distances_m / sensor.max_range_m) ** 2
    steep = 1 - dropout.at_grazing * (1 - incidence)
    bright = 1 - dropout.at_dark * (1 - intensity.astype(np.float64))
    return np.asarray(1 - (1 - dropout.always) * near * steep * bright)


def _seen_cells(
    around: Surroundings, rays: Rays, found: _Found, lost: Int64[np.ndarray, " L"]
) -> Bool[np.ndarray, "X Y Z"]:
    """Cells up to the hits that gave a point, and along the rays that left; ``lost`` rays gave none."""
    says = np.ones(len(rays), dtype=np.bool_)
    says[lost] = False
    seen = np.zeros(around.labels.shape, dtype=np.bool_)
    reach = np.minimum(rays.reach, found.hits.distances)
    cast(found.still_labels, around.grid, Rays(rays.origins_m, rays.directions, reach)[says], seen)
    if found.movers.any():
        seen &= found.still_labels == around.labels
        seen.reshape(-1)[found.hits.cells[says & (found.movers > 0)]] = True
    return seen


def _inside_cells(
    points_m: Float64[np.ndarray, "N 3"], cells: Int64[np.ndarray, " N"], around: Surroundings
) -> Float64[np.ndarray, "N 3"]:
    size = np.asarray(around.grid.voxel_size_m)
    corner = np.asarray(around.grid.lower_m) + np.stack(np.unravel_index(cells, around.grid.shape), axis=-1) * size
    return np.clip(points_m, corner + CELL_MARGIN_M, corner + size - CELL_MARGIN_M)


def _as_they_were(
    points_m: Float64[np.ndarray, "N 3"], movers: UInt16[np.ndarray, " N"], firings: np.ndarray, turn: Turn
) -> Float64[np.ndarray, "N 3"]:
    """Points on actors that moved go where the actor was when they were measured."""
    points = points_m.copy()
    for track, pose_then_from_now in turn.pose_then_from_now.items():
        own = movers == track
        poses = pose_then_from_now[firings[own]]
        points[own] = np.einsum("nij,nj->ni", poses[:, :3, :3], points[own]) + poses[:, :3, 3]
    return points
