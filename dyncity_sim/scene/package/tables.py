"""Tracks as Apache Parquet: one row for each track and time.

Columns, units and frames are in the file itself: as metadata of each field, and of the file under ``dyncity``.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.extras import import_extra

TIME = ("time_us", "int64", "us", "since the same instant as every time of the drive")
POSE = (
    ("x_m", "float64", "m", "world frame, east"),
    ("y_m", "float64", "m", "world frame, north"),
    ("z_m", "float64", "m", "world frame, up"),
    ("qw", "float64", "1", "rotation world from actor, unit quaternion, qw >= 0"),
    ("qx", "float64", "1", "rotation world from actor"),
    ("qy", "float64", "1", "rotation world from actor"),
    ("qz", "float64", "1", "rotation world from actor"),
)
TRACK_COLUMNS = (
    ("id", "int64", "1", "positive, unique in the scene; the ego is in ego.parquet"),
    TIME,
    ("kind", "string", "1", "constant along a track: " + ", ".join(kind.value for kind in ActorKind)),
    ("kind_confidence", "float64", "1", "in (0, 1], constant along a track; 1 where the kind is known"),
    ("length_m", "float64", "m", "along the actor's x axis, constant along a track"),
    ("width_m", "float64", "m", "along the actor's y axis, constant along a track"),
    ("height_m", "float64", "m", "along the actor's z axis, constant along a track"),
    *POSE,
    ("vx_mps", "float64", "m/s", "velocity of the box's centre, world frame, east"),
    ("vy_mps", "float64", "m/s", "velocity of the box's centre, world frame, north"),
    ("vz_mps", "float64", "m/s", "velocity of the box's centre, world frame, up"),
)
"""Name, Arrow type, unit and meaning of each column of ``tracks.parquet``."""

EGO_COLUMNS = (TIME, *POSE)
"""The same of ``ego.parquet``."""

FRAMES = (
    "world: right-handed, metres, x east, y north, z up. actor: x forward, y left, z up, at the centre of the bounding "
    "box. ego: x forward, y left, z up, at the LiDAR, 1.8 m above the road."
)

POSITION, QUATERNION = ("x_m", "y_m", "z_m"), ("qw", "qx", "qy", "qz")
SIZE, VELOCITY = ("length_m", "width_m", "height_m"), ("vx_mps", "vy_mps", "vz_mps")

Columns = dict[str, np.ndarray]
"""Columns of a table by name, all of one length; ``kind`` holds Python strings."""


def tracks_parquet(tracks: Sequence[Track]) -> bytes:
    """``tracks.parquet``: rows sorted by id and time, full precision. The same tracks give the same bytes.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    lengths = [len(track) for track in tracks]
    columns: Columns = {
        "id": np.repeat([track.id for track in tracks], lengths),
        "time_us": _joined([track.times_us for track in tracks], ()),
        "kind": np.repeat(np.array([track.kind.value for track in tracks], dtype=object), lengths),
        "kind_confidence": np.repeat([track.kind_confidence for track in tracks], lengths),
        **_named(SIZE, np.repeat(np.reshape([track.size_m for track in tracks], (-1, 3)), lengths, axis=0)),
        **_pose_columns(_joined([track.poses_world_from_actor for track in tracks], (4, 4))),
        **_named(VELOCITY, _joined([track.velocities_world_mps for track in tracks], (3,))),
    }
    order = np.lexsort((columns["time_us"], columns["id"]))
    return _parquet({name: values[order] for name, values in columns.items()}, TRACK_COLUMNS)


def ego_parquet(scene: Scene) -> bytes:
    """``ego.parquet``: time and pose of the ego frame in each frame of the drive.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    return _parquet({"time_us": scene.times_us, **_pose_columns(scene.ego_poses_world_from_ego)}, EGO_COLUMNS)


def read_columns(file: Path, columns: Sequence[tuple[str, str, str, str]]) -> Columns:
    """The columns of a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: no such file.
        ValueError: not a Parquet file, other columns or types, or a value is missing.
    """
    pyarrow, parquet = _pyarrow("Reading tracks")
    try:
        # Arrow's threads now and then abort a process that ends soon after they read (apache/arrow#34314).
        reader = parquet.ParquetFile(pyarrow.BufferReader(file.read_bytes()), pre_buffer=False)
        table = reader.read(use_threads=False)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file.name}: {error}") from error
    found, expected = (
        [(field.name, str(field.type)) for field in schema] for schema in (table.schema, _schema(columns))
    )
    if found != expected:
        raise ValueError(f"{file.name} has columns {_listed(found)}; expected {_listed(expected)}")
    for name in table.column_names:
        if table[name].null_count:
            raise ValueError(f"{file.name}: {table[name].null_count} values of {name} are missing")
    return {name: table[name].to_numpy() for name in table.column_names}


def tracks_of(columns: Columns) -> tuple[Track, ...]:
    """The tracks in the columns of ``tracks.parquet``, sorted by id.

    Raises:
        InvalidInputError: rows that are no tracks, see ``Track``.
        ValueError: an unknown kind.
    """
    poses, sizes, velocities = poses_of(columns), stacked(columns, SIZE), stacked(columns, VELOCITY)
    ids, first = np.unique(columns["id"], return_index=True)
    tracks = []
    for number, row in zip(ids.tolist(), first.tolist(), strict=True):
        mine = columns["id"] == number
        length_m, width_m, height_m = sizes[row].tolist()
        tracks.append(
            Track(
                id=number,
                kind=ActorKind(columns["kind"][row]),
                size_m=(length_m, width_m, height_m),
                poses_world_from_actor=poses[mine],
                times_us=columns["time_us"][mine],
                velocities_world_mps=velocities[mine],
                kind_confidence=float(columns["kind_confidence"][row]),
            )
        )
    return tuple(tracks)


def poses_of(columns: Columns) -> Poses:
    """Poses ``(N, 4, 4)`` of position and quaternion columns."""
    poses = np.tile(np.eye(4), (len(columns["qw"]), 1, 1))
    if len(poses):
        quaternions = stacked(columns, QUATERNION)
        poses[:, :3, :3] = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_matrix()
        poses[:, :3, 3] = stacked(columns, POSITION)
    return poses


def _pose_columns(poses: Poses) -> Columns:
    quaternions = np.zeros((0, 4))
    if len(poses):
        quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True)[:, [3, 0, 1, 2]]
    return _named(POSITION, poses[:, :3, 3]) | _named(QUATERNION, quaternions)


def _parquet(columns: Columns, described: Sequence[tuple[str, str, str, str]]) -> bytes:
    pyarrow, parquet = _pyarrow("Writing tracks")
    schema = _schema(described)
    arrays = [pyarrow.array(columns[field.name], type=field.type) for field in schema]
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), content, compression="zstd")
    return content.getvalue()


def _schema(described: Sequence[tuple[str, str, str, str]]) -> Any:
    pyarrow, _ = _pyarrow("The columns of tracks")
    fields = [
        pyarrow.field(name, getattr(pyarrow, kind)(), nullable=False, metadata={"unit": unit, "meaning": meaning})
        for name, kind, unit, meaning in described
    ]
    return pyarrow.schema(fields, metadata={"dyncity": FRAMES})


def _named(names: Sequence[str], values: Float64[np.ndarray, "N C"]) -> Columns:
    """Columns of an array; adding 0.0 keeps negative zeros out of the file."""
    return {name: values[:, index] + 0.0 for index, name in enumerate(names)}


def stacked(columns: Columns, names: Sequence[str]) -> Float64[np.ndarray, "N C"]:
    """Some columns as one array."""
    return np.stack([columns[name] for name in names], axis=-1)


def _joined(parts: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, *shape))


def _listed(columns: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns)


def _pyarrow(purpose: str) -> tuple[ModuleType, ModuleType]:
    pyarrow, parquet = (import_extra(name, "pyarrow", "scene", purpose) for name in ("pyarrow", "pyarrow.parquet"))
    return pyarrow, parquet
