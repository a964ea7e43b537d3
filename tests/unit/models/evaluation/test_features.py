"""The encoders that evaluation measures with."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dyncity_models.evaluation.distribution import set_distance
from dyncity_models.evaluation.features import KINDS, features_of, load_encoder, seen_by
from dyncity_models.evaluation.recorded import RecordedPlan
from dyncity_models.evaluation.report import frame_sets
from dyncity_models.evaluation.sets import (
    FRAMES,
    FrameSet,
    FrameSets,
    chosen_frames,
    compare_sets,
    likeness,
    spread_frames,
)

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import CheckpointError


@pytest.fixture(scope="module", params=KINDS)
def encoder(request):
    return load_encoder(request.param)


@pytest.fixture(scope="module")
def frames(build_street):
    """Frames of streets with curves, that differ."""
    streets = [build_street(16, speed, curvature_per_m=c) for speed in (2.0, 9.0) for c in (-0.03, 0.0, 0.03)]
    return [frame for street in streets for frame in chosen_frames(street.labels)]


def test_the_same_frame_has_the_same_features_whatever_stands_beside_it(encoder, frames):
    together, alone = features_of(encoder, frames), features_of(encoder, frames[3:4])
    assert together.shape == (24, 112)
    assert np.allclose(together[3], alone[0], atol=1e-4)


def test_a_street_of_noise_lies_far_from_streets(encoder, frames):
    rng = np.random.default_rng(0)
    noise = [rng.permuted(frame.ravel()).reshape(frame.shape) for frame in frames]
    known = features_of(encoder, frames)
    assert np.mean(likeness(encoder, [noise], known)) > 4 * np.mean(likeness(encoder, [frames[:4]], known[4:]))
    assert set_distance(features_of(encoder, noise), known).precision == 0.0


def test_ragged_kerbs_show_in_the_features(encoder, build_street):
    """Road and sidewalk swap in a tenth of their cells: class shares stay, edges do not."""
    labels = build_street(16, 5.0).labels
    ragged, rng = labels.copy(), np.random.default_rng(0)
    ground = np.isin(labels, [CARLASC.index("road"), CARLASC.index("sidewalk")])
    swapped = ground & (rng.random(labels.shape) < 0.1)
    ragged[swapped] = CARLASC.index("road") + CARLASC.index("sidewalk") - labels[swapped]
    plain, torn = (features_of(encoder, chosen_frames(one)) for one in (labels, ragged))
    between = np.linalg.norm(plain[:, None] - plain[None], axis=2).max()
    assert np.linalg.norm(plain - torn, axis=1).min() > between


def set_of(frames):
    """Frames of drives of one chunk each."""
    return FrameSet(frames, [number // FRAMES for number in range(len(frames))])


def test_of_which_drives_frames_are_tells_in_the_kernel_distance_alone(encoder, frames):
    """Of one drive all, they are compared with no others."""
    recorded = set_of(frames[8:])
    apart, together = (
        compare_sets([encoder], FrameSets(generated, recorded, FrameSet(), FrameSet(), FrameSet()))
        for generated in (set_of(frames[:8]), FrameSet(frames[:8], [7] * 8))
    )
    apart, together = (found[encoder.kind]["generated_recorded"] for found in (apart, together))
    assert np.isnan(together.pop("kid"))
    assert np.isfinite(apart.pop("kid"))
    assert together == apart


def test_sets_are_compared_at_the_size_of_the_smaller(encoder, frames):
    whole = set_of(frames)
    sets = FrameSets(set_of(frames[:16]), whole, set_of(frames[8:]), FrameSet(), set_of(frames[:12]))
    (found,) = compare_sets([encoder], sets).values()
    assert found["generated_recorded"]["samples"] == 16
    assert found["recorded_recorded"]["samples"] == 16
    assert found["training_held_out"]["samples"] == 12
    assert "memorisation" not in found
    named = compare_sets([encoder], replace(sets, training=set_of(frames[:16])))[encoder.kind]
    assert named["memorisation"]["generated"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("count", [0, 4])
def test_what_there_is_too_little_of_is_compared_with_nothing(encoder, frames, count):
    sets = FrameSets(
        set_of(frames[:8]), set_of(frames[8:16]), set_of(frames[16 : 16 + count]), FrameSet(), set_of(frames[:count])
    )
    assert compare_sets([encoder], sets)[encoder.kind].keys() == {"generated_recorded"}


class ShortDrives:
    """Two drives, of one chunk and of two."""

    frames = 16

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 2

    def length(self, drive):
        return (16, 17)[drive]

    def occupancy(self, drive, start):
        self.asked.append((drive, start))
        return SimpleNamespace(labels=np.zeros((16, 1, 1, 1), np.uint8))


def test_of_more_chunks_than_there_are_each_is_taken_once():
    """Copies of a frame would leave its neighbourhood empty, and no set would lie within another."""
    drives = ShortDrives()
    found = spread_frames(drives, 50)
    assert len(found.frames) == 3 * FRAMES
    assert found.drives == [0] * FRAMES + [1] * 2 * FRAMES
    assert drives.asked == [(0, 0), (1, 0), (1, 1)]


def test_recordings_that_plans_are_of_are_no_other_towns():
    plans, own, other = [RecordedPlan(0, 0, None)], ShortDrives(), ShortDrives()
    chunk = SimpleNamespace(labels=np.zeros((16, 1, 1, 1), np.uint8))
    made = [SimpleNamespace(occupancy=chunk)]
    assert frame_sets(made, [chunk], plans, own, own, None).held_out.frames == []
    assert len(frame_sets(made, [chunk], plans, own, own, other).held_out.frames) == FRAMES
    assert len(frame_sets(made, [chunk], plans, own, other, None).held_out.frames) == FRAMES


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="features"):
        load_encoder("bev", tmp_path)
    (tmp_path / "bev.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError, match="features"):
        load_encoder("bev", tmp_path)


def test_pictures_are_drawn_as_those_that_the_encoder_learnt_from():
    """Other colours would move all distances in its features; then it is to be trained anew (docs/evaluation.md)."""
    columns = np.arange(128 * 128).reshape(128, 128)
    frame = np.zeros((128, 128, 8), np.uint8)
    for layer in range(8):
        frame[:, :, layer] = np.where(columns // 11 % 8 >= layer, columns % 11, 0)
    seen = seen_by("bev", frame)
    assert hashlib.sha256(seen.tobytes()).hexdigest()[:16] == "f2203cba9e6a63c2"


def test_pictures_are_seen_without_the_ego(build_street):
    frame = build_street(1, 0.0).labels[0]
    seen = seen_by("bev", frame)
    assert seen.shape == (128, 128, 3)
    assert torch.from_numpy(seen).is_contiguous()
    assert np.array_equal(seen[64, 64], seen[64, 66])
