"""Claims about the modules of the page, which a real browser runs."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from dyncity_sim.preview.light import corner_light
from dyncity_sim.preview.page import PageText, build_page, write_page

Build = Callable[..., Any]
SHAPE = (19, 23, 8)
OUTWARD = ((0, 0, 1), (-1, 0, 0), (0, -1, 0), (1, 0, 0), (0, 1, 0))
"""Normals of the faces, as voxels.js numbers them; light.py has the first three."""
IN_PLANE = ((0, 1), (1, 2), (0, 2), (1, 2), (0, 2))
"""Their axes u and v."""


@pytest.fixture(scope="module")
def page(build_street: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("modules") / "street.html"
    write_page(build_page(build_street(frames=1), PageText("modules")), file)
    return file


def meshed(tab: Any, labels: np.ndarray) -> dict[str, Any]:
    """What the page's mesher makes of a frame: rectangles as rows of four words, and the number of faces."""
    return tab.evaluate(
        f"""import('voxels').then(({{ Mesher }}) => {{
          const mesher = new Mesher({json.dumps(labels.shape)});
          mesher.take(new Uint8Array({json.dumps(labels.ravel().tolist())}), 0, new Uint8Array(256).fill(1), null);
          return {{ ...mesher.fill(), words: [...mesher.words.subarray(0, 4 * mesher.count)] }};
        }})"""
    )


def unmerged(words: list[int]) -> dict[tuple[int, ...], tuple[int, np.ndarray]]:
    """Label, and light at the corners ``(2, 2)`` along u and v, of each cell's face ``(x, y, z, face)``, which no two
    rectangles may cover.
    """
    faces: dict[tuple[int, ...], tuple[int, np.ndarray]] = {}
    for row in np.array(words, dtype=np.int32).reshape(-1, 4):
        x, y, z, code, wide, long = row[:3].copy().view(np.uint16).tolist()
        face = code % 8
        size = np.array([wide, long, 1])
        u, v = IN_PLANE[face]
        by_v_u = row[3:].copy().view(np.uint8).reshape(2, 2).astype(float)
        for cell in np.ndindex(*size.tolist()):
            ends_u, ends_v = ((cell[axis] + np.arange(2)) / size[axis] for axis in (u, v))
            light = np.column_stack([1 - ends_u, ends_u]) @ by_v_u.T @ np.vstack([1 - ends_v, ends_v])
            at = (x + cell[0], y + cell[1], z, face)
            assert at not in faces
            faces[at] = (code // 8, light)
    return faces


def town(seed: int) -> np.ndarray:
    """Ground of three classes with holes, blocks and loose cells on it."""
    random = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[..., 0] = np.repeat(np.sort(random.integers(1, 4, SHAPE[0])), SHAPE[1]).reshape(SHAPE[:2])
    for _ in range(6):
        x, y = random.integers(0, SHAPE[0] - 4), random.integers(0, SHAPE[1] - 6)
        labels[x : x + 4, y : y + random.integers(1, 6), : random.integers(1, 7)] = random.integers(0, 9)
    labels[random.random(SHAPE) < 0.01] = 255
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_rectangles_cover_each_visible_face_once_in_its_class_and_light(tab: Any, page: Path, seed: int) -> None:
    tab.open(page, "play=0")
    labels = town(seed)
    made = meshed(tab, labels)
    faces = unmerged(made["words"])
    padded = np.pad(labels, 1)
    windows = sliding_window_view(padded, (3, 3, 3))
    expected = {
        (*cell, face): int(labels[cell])
        for cell in zip(*np.nonzero(labels), strict=True)
        for face, outward in enumerate(OUTWARD)
        if not windows[cell][tuple(1 + np.array(outward))]
    }
    assert {face: label for face, (label, _) in faces.items()} == expected
    assert made["faces"] == len(expected)
    assert made["count"] < 0.95 * len(expected)
    cells = np.argwhere(labels)
    light = 255 * corner_light(labels > 0, cells).reshape(-1, 3, 2, 2)
    for cell, at_corners in zip(cells.tolist(), light, strict=True):
        for face in range(3):
            # The page keeps light as bytes, rounds the sun in each layer, and does not follow it out of the grid.
            if (*cell, face) in faces and (cell[2] or face == 0):
                np.testing.assert_allclose(faces[(*cell, face)][1], at_corners[face], atol=4)


def test_open_ground_is_one_rectangle(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    labels = np.zeros((300, 40, 3), np.uint8)
    labels[..., 0] = 6
    made = meshed(tab, labels)
    assert made["faces"] == 300 * 40 + 2 * (300 + 40)
    assert made["count"] == 5


def test_frames_left_out_make_the_picture_coarser_and_calm_makes_it_finer_again(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    details = tab.evaluate(
        """import('pace').then(({ Pace }) => {
          const pace = new Pace(), after = (frames, leftOut) => {
            for (let i = 0; i < frames; i++) pace.moved(leftOut);
            return pace.detail;
          };
          return [pace.detail, after(1, 1), after(40, 0), after(2, 1), after(10, 2), after(60, 0), after(120, 0)];
        })"""
    )
    assert details[:3] == [1, 1, 1]
    assert details[3] < 1
    assert details[4] == min(details)
    assert details[4] < details[5] < details[6] == 1


def test_a_finer_picture_that_was_too_much_is_tried_again_later_and_later(tab: Any, page: Path) -> None:
    tab.open(page, "play=0")
    waits = tab.evaluate(
        """import('pace').then(({ Pace }) => {
          const pace = new Pace(), waits = [];
          pace.moved(2);
          for (let trial = 0; trial < 4; trial++) {
            let frames = 0;
            for (; pace.detail < 1; frames++) pace.moved(0);
            waits.push(frames);
            pace.moved(2);
          }
          return waits;
        })"""
    )
    assert all(later == 2 * sooner for sooner, later in pairwise(waits)), waits


@pytest.mark.parametrize("count", [0, 1, 7, 8, 100])
def test_a_share_of_the_points_is_taken_from_all_over_the_sweep(tab: Any, page: Path, count: int) -> None:
    tab.open(page, "play=0")
    points = np.random.default_rng(count).integers(-9000, 9000, (count, 3)).astype(np.int16)
    deltas = np.diff(points, axis=0, prepend=np.int16([[0, 0, 0]])).astype(np.uint16)
    labels = np.arange(count) % 12
    packed = [*np.stack([deltas.T & 255, deltas.T >> 8], axis=1).ravel().tolist(), *labels.tolist()]
    halves = tab.evaluate(
        f"""import('things').then(({{ Points }}) => {{
          const drive = {{ counts: [{count}], unit_m: 1 }}, classes = [{{ colour: [0, 0, 0] }}];
          const points = new Points(drive, new Uint8Array({json.dumps(packed)}), classes, [1]);
          points.build(0);
          return [...points.halves.subarray(0, {4 * count})];
        }})"""
    )
    order = [i for first in (0, 4, 2, 6, 1, 5, 3, 7) for i in range(first, count, 8)]
    np.testing.assert_array_equal(np.reshape(halves, (-1, 4)), np.column_stack([points, labels])[order])
