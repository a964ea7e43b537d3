"""Semantic classes: ids, names, colours, which of them move, and how raw classes merge."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True)
class SemanticClass:
    """One class of a taxonomy.

    Attributes:
        name: lower-case name, unique in its taxonomy.
        colour: RGB, 0 to 255.
        moves: whether things of this class can move by themselves.
    """

    name: str
    colour: tuple[int, int, int]
    moves: bool = False


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of classes; the label in a voxel is the index into it. Class 0 is free space."""

    id: str
    classes: tuple[SemanticClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def index(self, name: str) -> int:
        """Label of the class called ``name``."""
        for label, semantic_class in enumerate(self.classes):
            if semantic_class.name == name:
                return label
        raise InvalidInputError("class name", repr(name), f"one of {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return tuple(c.name for c in self.classes)

    @property
    def moving_labels(self) -> tuple[int, ...]:
        """Labels of the classes that can move."""
        return tuple(label for label, c in enumerate(self.classes) if c.moves)

    @property
    def palette(self) -> UInt8[np.ndarray, "K 3"]:
        """RGB colour of each label."""
        return np.array([c.colour for c in self.classes], dtype=np.uint8)

    def check(self, labels: np.ndarray, field: str) -> None:
        """Raise InvalidInputError when ``labels`` holds a value that is not a class."""
        highest = int(labels.max()) if labels.size else 0
        if highest >= len(self):
            raise InvalidInputError(
                field,
                f"label {highest} ({int((labels >= len(self)).sum())} cells out of the taxonomy)",
                f"labels 0 to {len(self) - 1} of {self.id!r}",
                "Map the data set's labels first.",
            )


CARLASC_RAW = Taxonomy(
    "carlasc-raw",
    (
        SemanticClass("free", (255, 255, 255)),
        SemanticClass("building", (70, 70, 70)),
        SemanticClass("fence", (190, 153, 153)),
        SemanticClass("other", (55, 90, 80)),
        SemanticClass("pedestrian", (220, 20, 60), moves=True),
        SemanticClass("pole", (153, 153, 153)),
        SemanticClass("road_line", (157, 234, 50)),
        SemanticClass("road", (128, 64, 128)),
        SemanticClass("sidewalk", (244, 35, 232)),
        SemanticClass("vegetation", (107, 142, 35)),
        SemanticClass("vehicle", (0, 0, 142), moves=True),
        SemanticClass("wall", (102, 102, 156)),
        SemanticClass("traffic_sign", (220, 220, 0)),
        SemanticClass("sky", (70, 130, 180)),
        SemanticClass("ground", (81, 0, 81)),
        SemanticClass("bridge", (150, 100, 100)),
        SemanticClass("rail_track", (230, 150, 140)),
        SemanticClass("guard_rail", (180, 165, 180)),
        SemanticClass("traffic_light", (250, 170, 30)),
        SemanticClass("static", (110, 190, 160)),
        SemanticClass("dynamic", (170, 120, 50)),
        SemanticClass("water", (45, 60, 150)),
        SemanticClass("terrain", (145, 170, 100)),
    ),
)
"""CarlaSC's 23 raw classes: CARLA's semantic tags of 0.9.13, with 0 read as free space."""

CARLASC = Taxonomy(
    "carlasc",
    (
        SemanticClass("free", (255, 255, 255)),
        SemanticClass("building", (109, 110, 122)),
        SemanticClass("barrier", (190, 120, 60)),
        SemanticClass("other", (120, 90, 160)),
        SemanticClass("pedestrian", (226, 32, 60), moves=True),
        SemanticClass("pole", (238, 205, 58)),
        SemanticClass("road", (66, 66, 74)),
        SemanticClass("ground", (172, 208, 142)),
        SemanticClass("sidewalk", (205, 172, 208)),
        SemanticClass("vegetation", (34, 140, 60)),
        SemanticClass("vehicle", (36, 92, 232), moves=True),
        SemanticClass("unused", (0, 0, 0)),
    ),
)
"""CarlaSC's merged classes as its models use them; nothing maps to label 11, which is kept for their layout."""

MERGED_FROM_RAW: UInt8[np.ndarray, "23"] = np.array(
    [0, 1, 2, 3, 4, 5, 6, 6, 8, 9, 10, 2, 5, 3, 7, 3, 3, 2, 5, 3, 3, 3, 7], dtype=np.uint8
)
"""Merged label of each raw label (UMich-CURLY/3DMapping, ``remap_carla``)."""
MERGED_FROM_RAW.flags.writeable = False

GROUND_CLASSES = ("road", "ground", "sidewalk")
"""Names of the classes that things stand on, in either taxonomy."""

_MERGED_BYTES = MERGED_FROM_RAW.tobytes().ljust(256, b"\0")

TAXONOMIES: dict[str, Taxonomy] = {t.id: t for t in (CARLASC_RAW, CARLASC)}


def merged_labels(raw_labels: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """CARLASC labels of CARLASC_RAW labels; an unknown raw label raises InvalidInputError."""
    CARLASC_RAW.check(raw_labels, "raw_labels")
    # A byte table is several times faster than indexing, which widens every label to an integer first.
    merged = np.frombuffer(bytearray(raw_labels.tobytes()).translate(_MERGED_BYTES), np.uint8)
    return merged.reshape(raw_labels.shape)
