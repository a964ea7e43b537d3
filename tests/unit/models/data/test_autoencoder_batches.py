"""Batches that the autoencoder learns from and is validated on."""

import numpy as np
import pytest
import torch
from dyncity_models.data.autoencoder_batches import AutoencoderBatches, ValidationChunks, class_shares
from dyncity_models.data.clips import UNOBSERVED, FrameStore

from dyncity_sim.domain.taxonomy import CARLASC

VEHICLE = CARLASC.index("vehicle")


@pytest.fixture(scope="module")
def store(source):
    return FrameStore.load(source, torch.device("cpu"), threads=1)


def test_autoencoder_batches_are_the_same_in_every_run_and_go_on_where_a_run_stopped(store, tiny):
    def batches(seed, first=0):
        return list(AutoencoderBatches(store, tiny.autoencoder, 2, 4, seed, 5, first))

    whole, again, rest, other = batches(3), batches(3), batches(3, first=3), batches(4)
    assert (len(whole), len(rest)) == (5, 2)
    torch.testing.assert_close([*whole, *whole[3:]], [*again, *rest], rtol=0, atol=0)
    for another in (whole[1], other[0]):
        assert not torch.equal(whole[0]["tokens"], another["tokens"])


def test_a_chunk_to_learn_from_scores_the_dense_truth_of_some_frames(store, tiny):
    views = set()
    batch = AutoencoderBatches(store, tiny.autoencoder, 16, 4, seed=0, stop=1).batch(0)
    assert batch["labels"].shape == batch["observed"].shape == (16, 4, 128, 128, 8)
    assert batch["planar"].dtype == torch.float32
    for sample in (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)):
        frames, tokens = sample["frames"], sample["tokens"][sample["frames"]]
        assert frames.tolist() == sorted(set(frames.tolist()))
        assert int(sample["labels"].max()) < UNOBSERVED
        shown = tokens != UNOBSERVED
        assert torch.equal(tokens[shown], sample["labels"][shown])
        assert torch.equal(sample["planar"][8, :2], torch.zeros(2))
        if shown.all():
            views.add("dense")
        elif torch.equal(shown, sample["observed"]):
            views.add("sensor")
        else:
            assert not torch.isin(tokens, torch.tensor(CARLASC.moving_labels)).any()
            views.add("known")
    assert views == {"dense", "sensor", "known"}


def test_chunks_to_learn_from_are_those_of_the_drives_and_their_mirror_images(store, tiny, street_clip):
    batch = AutoencoderBatches(store, tiny.autoencoder, 16, 16, seed=1, stop=1).batch(0)
    clips = [clip for half in (street_clip, street_clip.mirrored()) for clip in (half, half.frames(0, 1))]
    known = {c.labels[i].tobytes() for c in clips for i in range(len(c))}
    assert {frame.numpy().tobytes() for chunk in batch["labels"] for frame in chunk} <= known
    turns = batch["planar"][:, -1, 2] - batch["planar"][:, 0, 2]
    assert (turns > 0.05).any()
    assert (turns < -0.05).any()


def test_validation_looks_at_every_drive_once_in_sensor_view(source):
    chunks = ValidationChunks(source, 10)
    assert len(chunks) == 3
    sample, clip = chunks[0], source.clip(0, 12)
    assert sample["frames"].tolist() == [0, 5, 10, 15]
    assert torch.equal(sample["tokens"] != UNOBSERVED, torch.from_numpy(clip.observed))
    assert np.array_equal(sample["labels"], clip.labels[::5])
    assert np.array_equal(sample["observed"], clip.observed[::5])
    assert np.allclose(sample["planar"], clip.planar - clip.planar[8] * [1, 1, 0], atol=1e-5)


def test_class_shares_are_those_of_the_dense_truth(store, source):
    shares = class_shares(store, frames=120)
    everything = np.concatenate([source.clip(drive, 0, 40).labels for drive in range(3)])
    assert shares.shape == (UNOBSERVED,)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[VEHICLE] == pytest.approx((everything == VEHICLE).mean())
