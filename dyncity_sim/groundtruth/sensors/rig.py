"""Rigs of sensors out of YAML files; ``docs/sensors.md`` describes the form.

The package ships some rigs, and the LiDAR models that rigs name, under ``rigs``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from dyncity_sim.config import load_config, parse_config
from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.sensors import REFLECTIVITY, CameraSensor, Dropout, LidarSensor, Scan, SensorRig
from dyncity_sim.errors import ConfigError, InvalidInputError

DEFAULT_RIG = "hdl64"
"""One LiDAR at the ego frame's origin, no camera."""

ROTATION_BODY_FROM_CAMERA: Float64[np.ndarray, "3 3"] = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""From a camera's axes (x right, y down, z along its view) to those of a body that looks along x (y left, z up)."""
ROTATION_BODY_FROM_CAMERA.flags.writeable = False

UNIT_TOLERANCE = 1e-3

T = TypeVar("T")
Entry = TypeVar("Entry")
Sensor = TypeVar("Sensor", LidarSensor, CameraSensor)


@dataclass
class MountEntry:
    """Where a sensor sits in the ego frame: a position, and one of two ways to say how it is turned."""

    position_m: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    rpy_deg: list[float] | None = None
    quaternion_wxyz: list[float] | None = None


@dataclass
class LidarEntry:
    """One LiDAR of a file. What is left out comes from ``model``, then from the defaults of ``LidarSensor``."""

    name: str = "lidar"
    model: str | None = None
    mount: MountEntry = field(default_factory=MountEntry)
    elevations_deg: list[float] | None = None
    azimuth_steps: int | None = None
    min_range_m: float | None = None
    max_range_m: float | None = None
    scan: str | None = None
    period_s: float | None = None
    falloff_m: float | None = None
    range_noise_m: float | None = None
    reflectivity: dict[str, float] | None = None
    dropout: Dropout | None = None


@dataclass
class CameraEntry:
    """One camera of a file; its focal length is given by ``fov_deg`` or by ``focal_px``."""

    name: str = "camera"
    width: int = 0
    height: int = 0
    mount: MountEntry = field(default_factory=MountEntry)
    fov_deg: float | None = None
    focal_px: list[float] | None = None
    centre_px: list[float] | None = None
    max_range_m: float | None = None


@dataclass
class RigFile:
    """A rig as a file holds it: a list of LiDAR entries and one of camera entries."""

    lidars: list[Any] = field(default_factory=list)
    cameras: list[Any] = field(default_factory=list)


def rig_names() -> tuple[str, ...]:
    """Names of the rigs that come with the package, sorted."""
    return _shipped("rigs")


def read_rig(rig: Path | str) -> SensorRig:
    """The rig of a YAML file, or one that comes with the package, by its name.

    Raises:
        ConfigError: no such file or name, or an unknown key, a value of a wrong type or out of its bounds: the error
            names the file and the field.
    """
    if str(rig) in rig_names():
        with as_file(files(__package__) / "rigs" / f"{rig}.yaml") as file:
            return _read(file)
    if not Path(rig).is_file():
        raise ConfigError("rig", repr(str(rig)), f"a YAML file that exists, or one of {', '.join(rig_names())}")
    return _read(Path(rig))


def _read(file: Path) -> SensorRig:
    entries = load_config(RigFile, file)
    lidars = tuple(_sensor(file, f"lidars[{n}]", e, LidarEntry, _lidar) for n, e in enumerate(entries.lidars))
    cameras = tuple(_sensor(file, f"cameras[{n}]", e, CameraEntry, _camera) for n, e in enumerate(entries.cameras))
    return _naming(str(file), lambda: SensorRig(file.stem, lidars, cameras))


def _sensor(file: Path, key: str, values: Any, schema: type[Entry], build: Callable[[Entry], Sensor]) -> Sensor:
    source = f"{file}: {key}"
    return _naming(source, lambda: build(parse_config(schema, values, source)))


def _naming(source: str, build: Callable[[], T]) -> T:
    """What ``build`` gives; its errors name the file and the place in it."""
    try:
        return build()
    except InvalidInputError as error:
        field_name = error.field if error.field.startswith(source) else f"{source}: {error.field}"
        raise ConfigError(field_name, error.got, error.expected, error.mend) from error


def _lidar(entry: LidarEntry) -> LidarSensor:
    if entry.model is not None:
        entry = _over_model(entry)
    if entry.elevations_deg is None or entry.azimuth_steps is None:
        raise InvalidInputError(
            entry.name, "no elevations_deg or no azimuth_steps", "both, or a model", f"Models: {', '.join(_models())}."
        )
    given = {
        key: getattr(entry, key)
        for key in ("min_range_m", "max_range_m", "period_s", "falloff_m", "range_noise_m")
        if getattr(entry, key) is not None
    }
    return LidarSensor(
        elevations_rad=tuple(float(e) for e in np.deg2rad(_numbers("elevations_deg", entry.elevations_deg))),
        azimuth_steps=entry.azimuth_steps,
        name=entry.name,
        pose_ego_from_sensor=_pose(entry.mount, np.eye(3)),
        scan=_scan(entry.scan),
        reflectivity=_reflectivity(entry.reflectivity or {}),
        dropout=entry.dropout or Dropout(),
        **given,
    )


def _over_model(entry: LidarEntry) -> LidarEntry:
    """The entry, with what it leaves out from its model's file."""
    if entry.model not in _models():
        raise InvalidInputError("model", repr(entry.model), f"one of {', '.join(_models())}")
    with as_file(files(__package__) / "rigs" / "lidars" / f"{entry.model}.yaml") as file:
        model = load_config(LidarEntry, file)
    left_out = {
        part.name: getattr(model, part.name) for part in fields(LidarEntry) if getattr(entry, part.name) is None
    }
    return replace(entry, **left_out)


def _camera(entry: CameraEntry) -> CameraSensor:
    centre_px = [entry.width / 2, entry.height / 2] if entry.centre_px is None else entry.centre_px
    fx, fy = _numbers("focal_px", _focal_px(entry), 2)
    cx, cy = _numbers("centre_px", centre_px, 2)
    return CameraSensor(
        width=entry.width,
        height=entry.height,
        focal_px=(fx, fy),
        centre_px=(cx, cy),
        name=entry.name,
        pose_ego_from_sensor=_pose(entry.mount, ROTATION_BODY_FROM_CAMERA),
        **({} if entry.max_range_m is None else {"max_range_m": entry.max_range_m}),
    )


def _focal_px(entry: CameraEntry) -> list[float]:
    if entry.focal_px is not None and entry.fov_deg is None:
        return entry.focal_px
    if entry.focal_px is not None or entry.fov_deg is None:
        raise InvalidInputError(entry.name, "fov_deg and focal_px, or neither", "one of them")
    if not 0 < entry.fov_deg < 180:
        raise InvalidInputError("fov_deg", entry.fov_deg, "degrees between 0 and 180, across the width")
    return [float(entry.width / 2 / np.tan(np.deg2rad(entry.fov_deg) / 2))] * 2


def _pose(mount: MountEntry, axes: Float64[np.ndarray, "3 3"]) -> Pose:
    """Mount as a pose. Angles turn a body that looks along x; ``axes`` are the sensor's own in that body."""
    pose = np.eye(4)
    pose[:3, 3] = _numbers("mount.position_m", mount.position_m, 3)
    if mount.rpy_deg is not None and mount.quaternion_wxyz is not None:
        raise InvalidInputError("mount", "rpy_deg and quaternion_wxyz", "one of them")
    if mount.quaternion_wxyz is not None:
        w, x, y, z = _numbers("mount.quaternion_wxyz", mount.quaternion_wxyz, 4)
        if abs(np.linalg.norm([w, x, y, z]) - 1) > UNIT_TOLERANCE:
            raise InvalidInputError("mount.quaternion_wxyz", mount.quaternion_wxyz, "a unit quaternion")
        pose[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    else:
        angles = _numbers("mount.rpy_deg", mount.rpy_deg or [0.0, 0.0, 0.0], 3)
        pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes
    return pose


def _numbers(name: str, values: list[float], count: int | None = None) -> tuple[float, ...]:
    # OmegaConf lets lists and mappings pass as numbers of a list.
    numbers = all(isinstance(value, int | float) and np.isfinite(value) for value in values)
    if not numbers or (count is not None and len(values) != count):
        raise InvalidInputError(name, values, "finite numbers" if count is None else f"{count} finite numbers")
    return tuple(float(value) for value in values)


def _scan(name: str | None) -> Scan:
    choices = {scan.value: scan for scan in Scan}
    if name is not None and name not in choices:
        raise InvalidInputError("scan", repr(name), f"one of {', '.join(choices)}")
    return Scan.INSTANT if name is None else choices[name]


def _reflectivity(given: dict[str, float]) -> dict[str, float]:
    unknown = sorted(set(given) - set(REFLECTIVITY))
    if unknown:
        raise InvalidInputError("reflectivity", f"classes {', '.join(unknown)}", f"among {', '.join(REFLECTIVITY)}")
    return {**REFLECTIVITY, **given}


def _models() -> tuple[str, ...]:
    return _shipped("rigs", "lidars")


def _shipped(*folders: str) -> tuple[str, ...]:
    folder = files(__package__).joinpath(*folders)
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))
