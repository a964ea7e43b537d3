"""What ``params.json`` of a CarlaSC sequence says: the grid, and of ours the place in the world and the credit.

CarlaSC as published has it in ``evaluation``, next to the cells it is about; ours lies in ``cartesian`` as well.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.carlasc_layout import mirrored_bounds

_GRID_KEYS = ("grid_size", "min_bound", "max_bound")


@dataclass(frozen=True, eq=False)
class CarlaScParams:
    """Parameters of one sequence, right-handed.

    Attributes:
        grid: where the cells lie; CarlaSC's unless something else is said.
        pose_world_from_first: of the first frame; the origin where nothing is said.
        attribution: credit that came with it; None in CarlaSC as published, which says nothing of it.
    """

    grid: Grid = CARLASC_GRID
    pose_world_from_first: Pose = field(default_factory=lambda: np.eye(4))
    attribution: str | None = None

    @classmethod
    def read(cls, cartesian: Path) -> "CarlaScParams":
        """What is said in a folder ``cartesian`` and in its ``evaluation``; the defaults where nothing is.

        Raises:
            InvalidInputError: a file that is damaged or of no Cartesian grid, or two that differ in the grid.
        """
        files = [cartesian / "evaluation" / "params.json", cartesian / "params.json"]
        read = {file: _parsed(file) for file in files if os.path.lexists(file)}
        for file, params in read.items():
            first, said = next(iter(read.items()))
            if params.grid != said.grid:
                raise InvalidInputError(f"grid of {file}", params.grid, f"{said.grid}, as {first} says")
        return next(reversed(read.values()), cls())


def _parsed(file: Path) -> CarlaScParams:
    if not file.is_file():
        raise InvalidInputError(str(file), "a folder, or a link to nothing", "a file")
    try:
        params = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(str(file), str(error), "JSON") from error
    if not isinstance(params, dict):
        raise InvalidInputError(str(file), type(params).__name__, "a JSON object")
    for key, expected in (("handedness", "left"), ("coordinates", "cartesian")):
        if params.get(key, expected) != expected:
            raise InvalidInputError(f"{file} {key}", repr(params[key]), repr(expected))
    try:
        return CarlaScParams(
            _grid(params),
            np.array(params.get("pose_world_from_first", np.eye(4)), dtype=np.float64).reshape(4, 4),
            str(params["attribution"]) if "attribution" in params else None,
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"{file} {error.field}", error.got, error.expected, error.mend) from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(str(file), repr(error), "grid_size, min_bound and max_bound of CarlaSC") from error


def _grid(params: Mapping[str, Any]) -> Grid:
    if not any(key in params for key in _GRID_KEYS):
        return CARLASC_GRID
    sizes, low, high = (params[key] for key in _GRID_KEYS)
    # Published files hold cell counts as floats.
    x, y, z = (int(size) for size in sizes)
    if [x, y, z] != list(sizes) or min(x, y, z) < 1:
        raise InvalidInputError("grid_size", sizes, "three positive cell counts")
    (x_m, y_m, z_m), (to_x_m, to_y_m, to_z_m) = low, high
    lower, upper = mirrored_bounds((float(x_m), float(y_m), float(z_m)), (float(to_x_m), float(to_y_m), float(to_z_m)))
    # And bounds in single precision.
    if np.allclose(lower, CARLASC_GRID.lower_m) and np.allclose(upper, CARLASC_GRID.upper_m):
        lower, upper = CARLASC_GRID.lower_m, CARLASC_GRID.upper_m
    dx, dy, dz = (float(edge) for edge in (np.array(upper) - lower) / (x, y, z))
    return Grid((x, y, z), lower, (dx, dy, dz))
