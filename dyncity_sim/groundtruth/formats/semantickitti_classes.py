"""SemanticKITTI's class ids, and what of ours they are (Behley et al., ICCV 2019)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from dyncity_sim.domain.ground_truth import Box3D
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.boxes import MOVING_SPEED_MPS

STATIC_IDS = {
    "free": 0,
    "building": 50,
    "barrier": 51,
    "other": 99,
    "pedestrian": 30,
    "pole": 80,
    "road": 40,
    "ground": 72,
    "sidewalk": 48,
    "vegetation": 70,
    "vehicle": 10,
    "unused": 0,
}
"""SemanticKITTI id of each of our classes, for points without a track."""

ACTOR_IDS = {
    ActorKind.CAR: (10, 252),
    ActorKind.VAN: (20, 259),
    ActorKind.BUS: (13, 257),
    ActorKind.TRUCK: (18, 258),
    ActorKind.MOTORCYCLE: (15, 255),
    ActorKind.BICYCLE: (11, 253),
    ActorKind.PEDESTRIAN: (30, 254),
}
"""Ids of a standing and of a moving actor; moving two-wheelers have only the id of their riders."""

RIDER_IDS = {ActorKind.MOTORCYCLE: (32, 255), ActorKind.BICYCLE: (31, 253)}
"""Ids of pedestrian points on a two-wheeler, standing and moving."""

NAMES = {
    0: "unlabeled",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    48: "sidewalk",
    50: "building",
    51: "fence",
    70: "vegetation",
    72: "terrain",
    80: "pole",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}
"""Names of the ids in use (semantic-kitti-api, ``config/semantic-kitti.yaml``)."""


def semantickitti_ids(
    labels: UInt8[np.ndarray, "..."], instances: UInt16[np.ndarray, "..."], boxes: Sequence[Box3D]
) -> UInt16[np.ndarray, "..."]:
    """Id of each point or cell: its actor's, moving or standing, where it has one, else its class's."""
    ids = np.array([STATIC_IDS[name] for name in CARLASC.names], dtype=np.uint16)[labels]
    of_track = np.zeros((2, 2**16), dtype=np.uint16)
    for box in boxes:
        moving = int(np.linalg.norm(box.velocity_ego_mps) >= MOVING_SPEED_MPS)
        of_track[:, box.track_id] = ACTOR_IDS[box.kind][moving]
        if box.kind in RIDER_IDS:
            of_track[1, box.track_id] = RIDER_IDS[box.kind][moving]
    own = of_track[(labels == CARLASC.index("pedestrian")).astype(np.intp), instances]
    return np.where(own > 0, own, ids)
