"""Labelled frames as Foxglove's messages (docs.foxglove.dev/docs/sdk/schemas)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dyncity_sim.domain.frames import Pose, Poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import Box3D, CameraImages, LabelledFrame, LidarSweep
from dyncity_sim.domain.sensors import CameraSensor, SensorRig
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import MissingExtraError
from dyncity_sim.groundtruth.formats.describe import quaternion_wxyz
from dyncity_sim.groundtruth.formats.pictures import label_png, opencv_intrinsics

try:
    from foxglove import messages
except ImportError as error:
    raise MissingExtraError("foxglove-sdk", "export", "Writing MCAP") from error

PATH_WIDTH_M = 0.3
PATH_COLOUR = (0.97, 0.58, 0.12)
BOX_OPACITY = 0.45
TEXT_SIZE_M = 0.5

_NUMERIC = {
    "u1": messages.PackedElementFieldNumericType.Uint8,
    "u2": messages.PackedElementFieldNumericType.Uint16,
    "i4": messages.PackedElementFieldNumericType.Int32,
    "f4": messages.PackedElementFieldNumericType.Float32,
}

WORLD, EGO = "world", "ego"
"""Frames of reference; those of sensors have the sensors' names."""

Message = Any


def voxel_grid(frame: LabelledFrame, grid: Grid, taxonomy: Taxonomy) -> Message:
    """Occupancy in the ego frame; free cells are transparent, and masks that are unknown have no field."""
    masks = {
        "observed": frame.observed,
        "seen_by_lidar": frame.seen_by_lidar,
        "seen_by_camera": frame.seen_by_camera,
    }
    cells = {"class": frame.labels, **_colours(frame.labels, taxonomy), "instance": frame.instances}
    cells |= {name: mask.view(np.uint8) for name, mask in masks.items() if mask is not None}
    # Foxglove's cells run along x first.
    fields, data, stride = _packed({name: values.T.reshape(-1) for name, values in cells.items()})
    columns, rows, _ = grid.shape
    pose = np.eye(4)
    pose[:3, 3] = grid.lower_m
    return messages.VoxelGrid(
        timestamp=timestamp(frame.time_us),
        frame_id=EGO,
        pose=_pose(pose),
        row_count=rows,
        column_count=columns,
        cell_size=_vector(grid.voxel_size_m),
        cell_stride=stride,
        row_stride=stride * columns,
        slice_stride=stride * columns * rows,
        fields=fields,
        data=data,
    )


def point_cloud(sweep: LidarSweep, time_us: int, taxonomy: Taxonomy) -> Message:
    """All that is known of each point, in the ego frame at the frame's time."""
    x, y, z = sweep.points_ego_m.T
    vx, vy, vz = sweep.velocities_ego_mps.T
    points = {
        "x": x,
        "y": y,
        "z": z,
        "intensity": sweep.intensity,
        "incidence": sweep.incidence,
        "velocity_x": vx,
        "velocity_y": vy,
        "velocity_z": vz,
        "firing": sweep.firings,
        "time_offset_us": sweep.time_offsets_us,
        "ring": sweep.beams,
        "instance": sweep.instances,
        "class": sweep.labels,
        **_colours(sweep.labels, taxonomy),
    }
    fields, data, stride = _packed(points)
    return messages.PointCloud(
        timestamp=timestamp(time_us),
        frame_id=EGO,
        pose=_pose(np.eye(4)),
        point_stride=stride,
        fields=fields,
        data=data,
    )


def scene_update(frame: LabelledFrame, taxonomy: Taxonomy) -> Message:
    """The boxes of a frame; those of earlier frames go."""
    return messages.SceneUpdate(
        deletions=[
            messages.SceneEntityDeletion(timestamp=timestamp(frame.time_us), type=messages.SceneEntityDeletionType.All)
        ],
        entities=[_entity(box, frame.time_us, taxonomy) for box in frame.boxes],
    )


def ego_path(poses_world_from_ego: Poses, time_us: int) -> Message:
    """The ego's way over the whole drive as a line."""
    red, green, blue = PATH_COLOUR
    line = messages.LinePrimitive(
        type=messages.LinePrimitiveLineType.LineStrip,
        pose=_pose(np.eye(4)),
        thickness=PATH_WIDTH_M,
        points=[messages.Point3(x=x, y=y, z=z) for x, y, z in poses_world_from_ego[:, :3, 3].tolist()],
        color=messages.Color(r=red, g=green, b=blue, a=1.0),
    )
    return messages.SceneUpdate(
        entities=[messages.SceneEntity(timestamp=timestamp(time_us), frame_id=WORLD, id="ego path", lines=[line])]
    )


def frame_transforms(pose_world_from_ego: Pose, time_us: int, rig: SensorRig) -> Message:
    """Where the ego stands in the world and the sensors on the ego."""
    mounts = [(sensor.name, sensor.pose_ego_from_sensor) for sensor in rig.sensors]
    frames = [(WORLD, EGO, pose_world_from_ego), *((EGO, name, pose) for name, pose in mounts)]
    return messages.FrameTransforms(
        transforms=[
            messages.FrameTransform(
                timestamp=timestamp(time_us),
                parent_frame_id=parent,
                child_frame_id=child,
                translation=_vector(pose[:3, 3]),
                rotation=_quaternion(pose),
            )
            for parent, child, pose in frames
        ]
    )


def camera_calibration(camera: CameraSensor, time_us: int) -> Message:
    """A pinhole without distortion; the middle of the upper left pixel is (0, 0), as in ROS."""
    intrinsics = opencv_intrinsics(camera)
    return messages.CameraCalibration(
        timestamp=timestamp(time_us),
        frame_id=camera.name,
        width=camera.width,
        height=camera.height,
        K=intrinsics.reshape(-1).tolist(),
        R=np.eye(3).reshape(-1).tolist(),
        P=np.column_stack([intrinsics, np.zeros(3)]).reshape(-1).tolist(),
    )


def label_image(images: CameraImages, camera: CameraSensor, time_us: int, taxonomy: Taxonomy) -> Message:
    """Classes as a PNG of palette colours, whose pixels are the labels."""
    return messages.CompressedImage(
        timestamp=timestamp(time_us),
        frame_id=camera.name,
        format="png",
        data=label_png(images.labels, taxonomy.palette),
    )


def depth_image(images: CameraImages, camera: CameraSensor, time_us: int) -> Message:
    """Depth along the camera's z, metres, float32; infinity where nothing is."""
    return _raw(images.depth_m.astype("<f4", copy=False), "32FC1", camera, time_us)


def instance_image(images: CameraImages, camera: CameraSensor, time_us: int) -> Message:
    """Track ids, 16 bits."""
    return _raw(images.instances.astype("<u2", copy=False), "16UC1", camera, time_us)


def timestamp(time_us: int) -> Message:
    """A time of the drive."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    return messages.Timestamp(sec=seconds, nsec=1_000 * microseconds)


def _raw(pixels: np.ndarray, encoding: str, camera: CameraSensor, time_us: int) -> Message:
    return messages.RawImage(
        timestamp=timestamp(time_us),
        frame_id=camera.name,
        width=camera.width,
        height=camera.height,
        encoding=encoding,
        step=camera.width * pixels.itemsize,
        data=pixels.tobytes(),
    )


def _entity(box: Box3D, time_us: int, taxonomy: Taxonomy) -> Message:
    pose = box.pose_ego_from_actor
    name = "pedestrian" if box.kind.value == "pedestrian" else "vehicle"
    red, green, blue = (value / 255 for value in taxonomy.classes[taxonomy.index(name)].colour)
    above = pose.copy()
    above[:3, 3] += pose[:3, 2] * (box.size_m[2] / 2 + TEXT_SIZE_M)
    known = {
        "kind": box.kind.value,
        "lidar_points": str(box.lidar_points),
        "visibility": "" if box.visibility is None else repr(float(box.visibility)),
        "velocity_ego_mps": " ".join(repr(float(v)) for v in box.velocity_ego_mps),
    }
    return messages.SceneEntity(
        timestamp=timestamp(time_us),
        frame_id=EGO,
        id=str(box.track_id),
        metadata=[messages.KeyValuePair(key=key, value=value) for key, value in known.items()],
        cubes=[
            messages.CubePrimitive(
                pose=_pose(pose),
                size=_vector(box.size_m),
                color=messages.Color(r=red, g=green, b=blue, a=BOX_OPACITY),
            )
        ],
        texts=[
            messages.TextPrimitive(
                pose=_pose(above),
                billboard=True,
                font_size=TEXT_SIZE_M,
                color=messages.Color(r=red, g=green, b=blue, a=1.0),
                text=f"{box.kind.value} {box.track_id}",
            )
        ],
    )


def _colours(labels: np.ndarray, taxonomy: Taxonomy) -> dict[str, np.ndarray]:
    """Fields that Foxglove colours elements by; what is free is transparent."""
    opacity = np.full(len(taxonomy), 255, dtype=np.uint8)
    opacity[0] = 0
    of_class = dict(zip(("red", "green", "blue"), taxonomy.palette.T, strict=True)) | {"alpha": opacity}
    return {name: np.ascontiguousarray(values)[labels] for name, values in of_class.items()}


def _packed(columns: Mapping[str, np.ndarray]) -> tuple[list[Message], bytes, int]:
    """Fields, data and stride of elements side by side, little-endian and without gaps."""
    kind = np.dtype([(name, values.dtype.newbyteorder("<")) for name, values in columns.items()])
    elements = np.empty(len(next(iter(columns.values()))), dtype=kind)
    for name, values in columns.items():
        elements[name] = values
    offsets = np.cumsum([0, *(values.itemsize for values in columns.values())][:-1]).tolist()
    fields = [
        messages.PackedElementField(name=name, offset=offset, type=_NUMERIC[values.dtype.str[1:]])
        for (name, values), offset in zip(columns.items(), offsets, strict=True)
    ]
    return fields, elements.tobytes(), kind.itemsize


def _pose(pose: Pose) -> Message:
    return messages.Pose(position=_vector(pose[:3, 3]), orientation=_quaternion(pose))


def _vector(values: Any) -> Message:
    x, y, z = (float(v) for v in values)
    return messages.Vector3(x=x, y=y, z=z)


def _quaternion(pose: Pose) -> Message:
    w, x, y, z = (float(v) for v in quaternion_wxyz(pose))
    return messages.Quaternion(x=x, y=y, z=z, w=w)
