"""What the classes of some weights are, as a taxonomy."""

import colorsys
import hashlib

from dyncity_models.reference.config import ReferenceClasses
from dyncity_sim.dataset.label_maps import CARLASC_LABELS, OCC3D_NUSCENES_LABELS, OCC3D_WAYMO_LABELS
from dyncity_sim.domain.taxonomy import CARLASC, MERGED_FROM_RAW, SemanticClass, Taxonomy
from dyncity_sim.errors import CheckpointError

_KNOWN = (CARLASC, *(known.taxonomy for known in (CARLASC_LABELS, OCC3D_NUSCENES_LABELS, OCC3D_WAYMO_LABELS)))
_MOVERS = frozenset(c.name for taxonomy in _KNOWN for c in taxonomy.classes if c.moves)


def taxonomy_of(classes: ReferenceClasses, count: int) -> Taxonomy:
    """The taxonomy of weights with ``count`` classes.

    It is CARLASC where the classes are merged as CarlaSC's are (published weights call its unused class 11 bicycle),
    a data set's where the names are those, and else one of its own, whose id is a hash of the names: with colours
    around the wheel, and with classes that move by the names that move elsewhere.

    Raises:
        CheckpointError: there are names, but not one for each class, or one that is there twice.
    """
    if count == len(CARLASC) and classes.merged_from_raw == tuple(MERGED_FROM_RAW.tolist()):
        return CARLASC
    names = tuple(name.lower() for name in classes.names) or ("free", *(f"class_{n}" for n in range(1, count)))
    if len(names) != count or len(set(names)) != count:
        raise CheckpointError("classes.names", ", ".join(names), f"{count} different names, one for each class")
    for known in _KNOWN:
        if names == known.names:
            return known
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    return Taxonomy(f"reference-{digest}", tuple(_shown(name, n, count) for n, name in enumerate(names)))


def _shown(name: str, number: int, count: int) -> SemanticClass:
    red, green, blue = colorsys.hsv_to_rgb((number - 1) / max(1, count - 1), 0.6, 0.8) if number else (1.0, 1.0, 1.0)
    return SemanticClass(name, (round(255 * red), round(255 * green), round(255 * blue)), name in _MOVERS)
