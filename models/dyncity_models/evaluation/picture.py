"""A picture of an evaluation: what was generated beside what was recorded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyncity_models.evaluation.features import FeatureEncoder, features_of
from dyncity_models.evaluation.sets import chosen_frames, likeness
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.film import write_png

PICTURED_OF_EACH = 2
"""Chunks of each kind in the picture: the likest to recorded ones, those in the middle, and the unlikest."""

GAP_PIXELS = 4


def draw(
    generated: Sequence[OccupancySequence],
    recorded: Sequence[OccupancySequence],
    encoders: Sequence[FeatureEncoder],
    file: Path,
) -> None:
    """Top views of four frames of a few chunks, generated on the left and recorded along the same plan on the right.

    Rows are the chunks that are likest to recorded ones in the first encoder's features, those in the middle, and the
    unlikest; without an encoder, evenly spread ones.
    """
    order, each = np.arange(len(generated)), PICTURED_OF_EACH
    if encoders:
        frames = [frame for chunk in recorded for frame in chosen_frames(chunk.labels)]
        known = features_of(encoders[0], frames)
        order = np.argsort(likeness(encoders[0], [chosen_frames(chunk.labels) for chunk in generated], known))
    middle = max(0, (len(order) - each) // 2)
    chosen = dict.fromkeys([*order[:each], *order[middle : middle + each], *order[-each:]])

    def row(chunk: OccupancySequence) -> np.ndarray:
        views = [render_bev(frame, chunk.grid, CARLASC, scale=2) for frame in chosen_frames(chunk.labels)]
        return np.concatenate(
            [np.pad(view, ((0, GAP_PIXELS), (0, GAP_PIXELS), (0, 0)), constant_values=255) for view in views], axis=1
        )

    gap = np.full((1, 2 * GAP_PIXELS, 3), 255, dtype=np.uint8)
    left, right = (np.concatenate([row(chunks[i]) for i in chosen]) for chunks in (generated, recorded))
    picture = np.concatenate([left, np.broadcast_to(gap, (len(left), *gap.shape[1:])), right], axis=1)
    write_png(picture, file)
