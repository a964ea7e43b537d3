"""Occupancy to scene."""

from dyncity_sim.domain.base_frame import pose_ego_from_lidar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.road.document import opendrive_document
from dyncity_sim.scene.surfaces.fuse import fuse_static


def build_scene(occupancy: OccupancySequence, tracks: tuple[Track, ...] | None = None) -> Scene:
    """Everything a simulator needs of a drive: actors, static geometry, road. Pure, and the same for the same input.

    The scene's ego frame stands at the LiDAR, of drives of Occ3D too.

    Args:
        occupancy: generated or recorded frames of one drive.
        tracks: the drive's actors where they are known already, as those that were shown while it was driven; None
            finds them in the occupancy.

    Raises:
        InvalidInputError: labels of another taxonomy than CARLASC, or a drive too long for one map.
        MissingExtraError: scenariogeneration is not installed.
    """
    if occupancy.taxonomy.id != CARLASC.id:
        raise InvalidInputError(
            "occupancy.taxonomy", repr(occupancy.taxonomy.id), repr(CARLASC.id), "Merge raw classes first."
        )
    static_map = fuse_static(occupancy)
    ego_poses = occupancy.poses_world_from_ego @ pose_ego_from_lidar(occupancy.grid)
    return Scene(
        tracks=find_tracks(occupancy) if tracks is None else tracks,
        static_map=static_map,
        ego_poses_world_from_ego=ego_poses,
        times_us=occupancy.times_us,
        opendrive=opendrive_document(static_map, ego_poses),
    )
