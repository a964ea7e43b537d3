"""An occupancy sequence: T labelled voxel grids along an ego track."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from dyncity_sim.domain.frames import Poses, check_poses, check_times
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class OccupancySequence:
    """Semantic occupancy of T frames, each in its own ego frame.

    Attributes:
        labels: class of each cell, ``(T, X, Y, Z)`` uint8, C order; 0 is free.
        poses_world_from_ego: where each frame's ego frame stands, ``(T, 4, 4)``. ``world`` is any
            gravity-aligned frame that stays the same over a drive.
        times_us: time of each frame, microseconds, strictly increasing.
        grid: where the cells lie in the ego frame.
        taxonomy: what the labels mean.
        observed: True where a sensor saw the cell, or None when every cell is known. Unobserved
            cells say nothing, whatever their label.
    """

    labels: UInt8[np.ndarray, "T X Y Z"]
    poses_world_from_ego: Poses
    times_us: Int64[np.ndarray, " T"]
    grid: Grid
    taxonomy: Taxonomy
    observed: Bool[np.ndarray, "T X Y Z"] | None = field(default=None)

    def __post_init__(self) -> None:
        labels = np.ascontiguousarray(self.labels)
        if labels.dtype != np.uint8:
            raise InvalidInputError("occupancy.labels", f"dtype {labels.dtype}", "uint8")
        if labels.ndim != 4 or labels.shape[1:] != self.grid.shape or len(labels) == 0:
            raise InvalidInputError(
                "occupancy.labels",
                f"shape {labels.shape}",
                f"(T, {', '.join(map(str, self.grid.shape))}) with T of at least 1",
                "Grids are never resampled silently.",
            )
        self.taxonomy.check(labels, "occupancy.labels")
        object.__setattr__(self, "labels", labels)
        poses = check_poses(self.poses_world_from_ego, "occupancy.poses_world_from_ego", len(labels))
        object.__setattr__(self, "poses_world_from_ego", poses)
        times_us = check_times(self.times_us, "occupancy.times_us", len(labels))
        object.__setattr__(self, "times_us", times_us)
        if self.observed is not None:
            observed = np.ascontiguousarray(self.observed)
            if observed.dtype != np.bool_ or observed.shape != labels.shape:
                raise InvalidInputError(
                    "occupancy.observed", f"{observed.dtype} {observed.shape}", f"bool {labels.shape}"
                )
            object.__setattr__(self, "observed", observed)

    def __len__(self) -> int:
        return len(self.labels)

    def known_labels(self, frame: int) -> UInt8[np.ndarray, "X Y Z"]:
        """Labels of one frame, free where nothing was observed."""
        labels: UInt8[np.ndarray, "X Y Z"] = self.labels[frame]
        return labels if self.observed is None else np.where(self.observed[frame], labels, np.uint8(0))

    def known(self) -> "OccupancySequence":
        """The same with every cell known: free where nothing was observed."""
        if self.observed is None:
            return self
        return replace(self, labels=np.where(self.observed, self.labels, np.uint8(0)), observed=None)

    def __getitem__(self, frames: slice) -> "OccupancySequence":
        """A shorter sequence of consecutive frames."""
        return OccupancySequence(
            self.labels[frames],
            self.poses_world_from_ego[frames],
            self.times_us[frames],
            self.grid,
            self.taxonomy,
            None if self.observed is None else self.observed[frames],
        )


def concatenate(parts: list[OccupancySequence]) -> OccupancySequence:
    """One sequence of all frames; grids and taxonomies must agree, and time must go on."""
    if not parts:
        raise InvalidInputError("parts", "none", "at least one occupancy sequence")
    first = parts[0]
    for number, part in enumerate(parts):
        if part.grid != first.grid or part.taxonomy.id != first.taxonomy.id:
            raise InvalidInputError(f"parts[{number}]", "another grid or taxonomy", "those of parts[0]")
    masks = [np.ones_like(p.labels, dtype=np.bool_) if p.observed is None else p.observed for p in parts]
    return OccupancySequence(
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.poses_world_from_ego for p in parts]),
        np.concatenate([p.times_us for p in parts]),
        first.grid,
        first.taxonomy,
        None if all(p.observed is None for p in parts) else np.concatenate(masks),
    )
