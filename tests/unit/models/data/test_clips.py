"""Clips of recordings, and the frames of all of them in memory."""

import json
import shutil

import numpy as np
import pytest
import torch
from dyncity_models.data.clips import SEEN, UNOBSERVED, Clip, ClipSource, FrameStore
from dyncity_models.data.encoding import read_excerpts

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.errors import InvalidInputError


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_a_clip_of_a_recording_is_what_was_recorded(source, street_clip):
    assert len(source) == 3
    assert source.length(0) == 40
    clip = source.clip(0, 5)
    assert len(clip) == 16
    assert np.array_equal(clip.labels, street_clip.labels[5:21])
    assert np.array_equal(clip.observed, street_clip.observed[5:21])
    assert np.allclose(clip.planar, street_clip.planar[5:21])


def test_a_source_without_a_drive_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"recordings: got no folder"):
        ClipSource([])
    with pytest.raises(InvalidInputError, match=rf"{tmp_path}.*recording\.json"):
        ClipSource([tmp_path])


def test_recordings_on_different_grids_are_refused(write_recording, recording, tmp_path):
    raw = np.zeros(CARLASC_GRID.shape, np.uint8)
    other = write_recording(tmp_path / "other", raw, np.ones(raw.shape, np.float32), 16)
    meta = json.loads((other / "recording.json").read_text())
    meta["grid"]["lower_m"][2] -= 0.5
    (other / "recording.json").write_text(json.dumps(meta))
    with pytest.raises(InvalidInputError, match=r"^data\.train: got Grid.*other, expected Grid.*in all"):
        ClipSource([recording, other], field="data.train")


def test_drives_that_are_too_short_are_left_out_and_counted(write_recording, tmp_path):
    raw = np.zeros(CARLASC_GRID.shape, np.uint8)
    folder = write_recording(tmp_path / "town", raw, np.ones(raw.shape, np.float32), 4, lengths=(2, 3))
    source = ClipSource([folder], least_frames=3)
    assert ([source.length(drive) for drive in range(len(source))], source.too_short) == ([4, 3], 1)
    with pytest.raises(InvalidInputError, match=r"recordings: got 3 drives in 1 folders, none .* at least 16 frames"):
        ClipSource([folder])


def test_clips_are_not_cut_across_frames_that_are_missing(recording, tmp_path):
    shutil.copytree(recording, tmp_path / "rec")
    file = tmp_path / "rec" / "drive_00000.npz"
    arrays = dict(np.load(file))
    arrays["times_us"][9:] += 300_000
    np.savez(file, **arrays)
    with pytest.raises(
        InvalidInputError, match=r"drive_00000\.npz: got 0\.4 s between frames 8 and 9, expected 0\.1 s"
    ):
        FrameStore.load(ClipSource([tmp_path / "rec"]), torch.device("cpu"), 1)


def test_a_mirrored_clip_has_left_and_right_swapped_and_mirrored_twice_is_itself(street_clip):
    mirrored = street_clip.mirrored()
    assert np.array_equal(mirrored.labels, np.flip(street_clip.labels, axis=2))
    assert np.array_equal(mirrored.planar[:, 0], street_clip.planar[:, 0])
    assert np.array_equal(mirrored.planar[:, 1:], -street_clip.planar[:, 1:])
    assert equal(mirrored.mirrored(), street_clip)
    assert not equal(mirrored, street_clip)


def test_a_mirrored_clip_is_a_rigid_world_too(street_clip, occupancy_of):
    for clip in (street_clip, street_clip.mirrored()):
        assert agreement_between_frames(occupancy_of(Clip(clip.labels, clip.observed, clip.planar)), 0, 15) > 0.95


def test_sensor_view_hides_what_was_not_observed(street_clip):
    tokens = street_clip.observed_tokens
    assert (tokens[~street_clip.observed] == UNOBSERVED).all()
    assert np.array_equal(tokens[street_clip.observed], street_clip.labels[street_clip.observed])


def test_a_store_holds_every_frame_of_every_drive(source, street_clip):
    store = FrameStore.load(source, torch.device("cpu"), threads=2)
    assert len(store) == 3
    assert store.starts.tolist() == [0, 40, 80, 120]
    mirrored = store.cells[40:80].numpy()
    assert np.array_equal(mirrored & (SEEN - 1), street_clip.mirrored().labels)
    assert np.array_equal(mirrored >= SEEN, street_clip.mirrored().observed)
    assert np.allclose(store.planar[:40], street_clip.planar)


def test_what_was_taken_of_every_drive_is_not_kept_beside_it(recording):
    source = ClipSource([recording])
    FrameStore.load(source, torch.device("cpu"), threads=2)
    assert not any("_arrays" in vars(drive) for drive in source.drives)
    for drive in range(len(source)):
        read_excerpts(source, drive, count=2, seed=0)
    assert not any("_arrays" in vars(drive) for drive in source.drives)
