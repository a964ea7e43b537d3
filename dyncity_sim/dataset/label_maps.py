"""What the numbers in each data set's files mean, and which of CarlaSC's merged classes each class is nearest to.

The tables are the only place that knows. Inside, every data set's class 0 is free space, as taxonomies have it, so the
numbers of files and labels differ: Occ3D-nuScenes stores free space as 17, Occ3D-Waymo as 23 (its text says 15).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, MERGED_FROM_RAW, SemanticClass, Taxonomy
from dyncity_sim.errors import InvalidInputError

_UNKNOWN = 255


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The labels of one data set.

    Attributes:
        taxonomy: its classes, free space first.
        numbers: for each class, the numbers that stand for it in files, 0 to 254.
        merged: for each class, the label of the CARLASC class it is nearest to.
    """

    taxonomy: Taxonomy
    numbers: tuple[tuple[int, ...], ...]
    merged: UInt8[np.ndarray, " K"]

    @property
    def known(self) -> str:
        """All numbers that files may hold, as text: ``0 to 15, 23``."""
        numbers = sorted(number for several in self.numbers for number in several)
        ends = [n for n in numbers if n + 1 not in numbers]
        starts = [n for n in numbers if n - 1 not in numbers]
        return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))

    def read(self, stored: Integer[np.ndarray, "..."], file: str) -> UInt8[np.ndarray, "..."]:
        """Labels of ``taxonomy`` for the numbers of a file.

        Args:
            stored: numbers as the file holds them, any integer type.
            file: what to call it in an error.

        Raises:
            InvalidInputError: not integers, or a number that stands for nothing.
        """
        if stored.dtype.kind not in "iu":
            raise InvalidInputError(file, f"labels of type {stored.dtype}", "integers")
        table = np.full(256, _UNKNOWN, np.uint8)
        for label, several in enumerate(self.numbers):
            table[list(several)] = label
        # Numbers that do not fit a byte must not come round to one that is known.
        labels = table[np.clip(stored, 0, 255).astype(np.uint8)]
        unknown = (labels == _UNKNOWN) | (stored < 0)
        if unknown.any():
            values, counts = np.unique(stored[unknown], return_counts=True)
            found = ", ".join(f"{v} ({n} cells)" for v, n in zip(values[:5], counts[:5], strict=True))
            raise InvalidInputError(
                file,
                f"unknown label {found}{', ...' if len(values) > 5 else ''} of {stored.size} cells",
                f"labels {self.known} of {self.taxonomy.id!r}",
            )
        return labels

    def to_carlasc(self, labels: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
        """CARLASC labels of labels of ``taxonomy``; an unknown label raises InvalidInputError."""
        self.taxonomy.check(labels, f"labels of {self.taxonomy.id}")
        return self.merged[labels]


def _label_map(taxonomy_id: str, rows: Sequence[tuple[tuple[int, ...], str, str]]) -> LabelMap:
    """A map from rows of numbers, class name, and name of the CARLASC class, whose colour it takes."""
    merged = [CARLASC.classes[CARLASC.index(name)] for _, _, name in rows]
    classes = [SemanticClass(row[1], to.colour, to.moves) for row, to in zip(rows, merged, strict=True)]
    return LabelMap(
        Taxonomy(taxonomy_id, tuple(classes)),
        tuple(numbers for numbers, _, _ in rows),
        np.array([CARLASC.index(to.name) for to in merged], np.uint8),
    )


CARLASC_LABELS = LabelMap(CARLASC_RAW, tuple((label,) for label in range(len(CARLASC_RAW))), MERGED_FROM_RAW)
"""CarlaSC and our own recordings: the files hold the labels of CARLASC_RAW themselves."""

OCC3D_NUSCENES_LABELS = _label_map(
    "occ3d-nuscenes",
    [
        ((17,), "free", "free"),
        ((0,), "others", "other"),
        ((1,), "barrier", "barrier"),
        ((2,), "bicycle", "vehicle"),
        ((3,), "bus", "vehicle"),
        ((4,), "car", "vehicle"),
        ((5,), "construction_vehicle", "vehicle"),
        ((6,), "motorcycle", "vehicle"),
        ((7,), "pedestrian", "pedestrian"),
        ((8,), "traffic_cone", "other"),
        ((9,), "trailer", "vehicle"),
        ((10,), "truck", "vehicle"),
        ((11,), "driveable_surface", "road"),
        ((12,), "other_flat", "ground"),
        ((13,), "sidewalk", "sidewalk"),
        ((14,), "terrain", "ground"),
        # Walls, fences, poles and signs too: nuScenes does not tell them apart.
        ((15,), "manmade", "building"),
        ((16,), "vegetation", "vegetation"),
    ],
)
"""Occ3D-nuScenes: nuScenes-lidarseg's sixteen classes, others, and free space (Tian et al. 2023)."""

OCC3D_WAYMO_LABELS = _label_map(
    "occ3d-waymo",
    [
        # The published text says 15, the files hold 23.
        ((15, 23), "free", "free"),
        ((0,), "general_object", "other"),
        ((1,), "vehicle", "vehicle"),
        ((2,), "pedestrian", "pedestrian"),
        ((3,), "sign", "pole"),
        # Riders count to their two-wheelers.
        ((4,), "cyclist", "vehicle"),
        ((5,), "traffic_light", "pole"),
        ((6,), "pole", "pole"),
        ((7,), "construction_cone", "other"),
        ((8,), "bicycle", "vehicle"),
        ((9,), "motorcycle", "vehicle"),
        ((10,), "building", "building"),
        ((11,), "vegetation", "vegetation"),
        ((12,), "tree_trunk", "vegetation"),
        ((13,), "road", "road"),
        ((14,), "walkable", "sidewalk"),
    ],
)
"""Occ3D-Waymo: fifteen classes of Waymo's segmentation and free space (Tian et al. 2023)."""
