"""``annotations.json`` of Occ3D-nuScenes: the order, times and poses of the frames of each scene."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from pyquaternion import Quaternion

from dyncity_sim.domain.frames import Poses, check_poses, check_times
from dyncity_sim.errors import InvalidInputError

RATE_HZ = 2

_UNIT_TOLERANCE = 1e-3
"""How far the length of a quaternion may be from 1."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is said of the scenes of one data set.

    Attributes:
        file: where it is said.
        scene_infos: an entry for each frame of each scene.
    """

    file: Path
    scene_infos: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Annotations | None":
        """None where there is no such file.

        Raises:
            InvalidInputError: it is damaged.
        """
        if not os.path.lexists(file):
            return None
        try:
            infos = json.loads(file.read_text(encoding="utf-8"))["scene_infos"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInputError(str(file), repr(error), "Occ3D's annotations with scene_infos") from error
        if not isinstance(infos, dict):
            raise InvalidInputError(f"{file} scene_infos", type(infos).__name__, "a JSON object")
        return cls(file, infos)

    def scene(self, name: str) -> tuple[list[str], Int64[np.ndarray, " T"], Poses]:
        """Tokens of a scene's frames in order of time, their times, and poses.

        Raises:
            InvalidInputError: the scene is not listed, or an entry is damaged.
        """
        field = f"{self.file} scene_infos[{name!r}]"
        info = self.scene_infos.get(name)
        if not isinstance(info, dict) or not info or not all(isinstance(entry, dict) for entry in info.values()):
            raise InvalidInputError(field, repr(info)[:40], "an entry for each frame of the scene")
        tokens, times_us = _in_order_of_time(info, field)
        poses = np.tile(np.eye(4), (len(tokens), 1, 1))
        for row, token in enumerate(tokens):
            ego, of = info[token].get("ego_pose"), f"{field}[{token!r}] ego_pose"
            if not isinstance(ego, dict):
                raise InvalidInputError(of, repr(ego)[:40], "translation and rotation")
            rotation = _numbers(ego.get("rotation"), 4, f"{of} rotation")
            if abs(np.linalg.norm(rotation) - 1) > _UNIT_TOLERANCE:
                raise InvalidInputError(f"{of} rotation", rotation.tolist(), "a unit quaternion w, x, y, z")
            poses[row, :3, :3] = Quaternion(rotation).rotation_matrix
            poses[row, :3, 3] = _numbers(ego.get("translation"), 3, f"{of} translation")
        return (
            tokens,
            check_times(times_us, f"{field} timestamps", len(tokens)),
            check_poses(poses, f"{field} ego_pose"),
        )


def _in_order_of_time(info: Mapping[str, Any], field: str) -> tuple[list[str], np.ndarray]:
    stamps: dict[str, str] = {}
    for token, entry in info.items():
        stamp = entry.get("timestamp")
        if isinstance(stamp, bool) or not isinstance(stamp, str | int):
            raise InvalidInputError(f"{field}[{token!r}] timestamp", repr(stamp)[:40], "microseconds, or a token")
        stamps[token] = str(stamp)
    words = [token for token, stamp in stamps.items() if not (stamp.isascii() and stamp.isdecimal())]
    if len(words) == len(stamps):
        return list(info), np.arange(len(info), dtype=np.int64) * (1_000_000 // RATE_HZ)
    if words:
        raise InvalidInputError(
            f"{field}[{words[0]!r}] timestamp", repr(stamps[words[0]])[:40], "microseconds, as others of the scene have"
        )
    try:
        tokens = sorted(info, key=lambda token: int(stamps[token]))
        return tokens, np.array([int(stamps[token]) for token in tokens], np.int64)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{field} timestamps", str(error), "microseconds") from error


def _numbers(value: Any, count: int, field: str) -> np.ndarray:
    """As many numbers, none of which is made of something else."""
    if not isinstance(value, list) or len(value) != count or any(type(number) not in (int, float) for number in value):
        raise InvalidInputError(field, repr(value)[:60], f"{count} numbers")
    try:
        return np.array(value, np.float64)
    except OverflowError as error:
        raise InvalidInputError(field, str(error), f"{count} numbers") from error
