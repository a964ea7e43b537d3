"""Data sets as the family reference sees them, and the conditions made of them."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from dyncity_models.data.chunks import ChunkBatches, ChunkSource, FrameCells, SpreadChunks, cropped
from dyncity_models.data.clips import SEEN
from dyncity_models.data.latents import LatentBatches
from dyncity_models.data.reference_latents import ReferenceLatents, reference_encoding_of
from dyncity_models.data.shards import EncodedSet, shard_folder, write_index, write_shard
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.classes import taxonomy_of
from dyncity_models.reference.config import AUTOENCODERS, ReferenceClasses, ReferenceConfig, ReferenceSpace, with_values
from dyncity_models.reference.conventions import EgoConvention, OfficialConvention, convention_named
from dyncity_models.reference.planes import pack
from dyncity_models.training.reference_stages import source_for

from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.conditions import Command, EgoPlan, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, MERGED_FROM_RAW
from dyncity_sim.errors import CheckpointError, InvalidInputError

EGO, OFFICIAL, RIGHT_HANDED = EgoConvention(), OfficialConvention(), OfficialConvention(mirrored=False)
VEHICLE = CARLASC.index("vehicle")


def bend(frames=16, yaw_rad=0.0, turn_rad=0.05):
    """Poses forward and to the left, from somewhere in the world."""
    turned = yaw_rad + turn_rad * np.arange(frames)
    x, y = (np.cumsum(0.8 * wave) for wave in (np.cos(turned), np.sin(turned)))
    return poses_from_planar(np.column_stack([7 + x, -3 + y, turned]))


def test_a_trajectory_in_the_ego_convention_is_the_same_wherever_it_is_driven():
    here, there = EGO.trajectory(bend()), EGO.trajectory(bend(yaw_rad=2.9))
    np.testing.assert_allclose(here, there, atol=1e-12)
    assert np.allclose(here[0], 0)
    assert here[-1, 1] > 1.0
    assert np.allclose(np.diff(here[:, 2]), 0.05)


def test_a_trajectory_in_the_official_convention_is_that_of_the_mirrored_world():
    given = OFFICIAL.trajectory(bend(yaw_rad=0.3))
    assert given[0].tolist() == pytest.approx([0.0, 0.0, -0.3])
    assert np.allclose(np.diff(given[:, 2]), -0.05)
    assert given[-1, 1] < 0


@pytest.mark.parametrize(
    ("turn_rad", "command", "official", "right_handed"),
    [(0.05, Command.LEFT, 3, 2), (-0.05, Command.RIGHT, 2, 3), (0.0, Command.FORWARD, 1, 1)],
)
def test_recorded_commands_are_those_that_are_asked_for(turn_rad, command, official, right_handed):
    poses, times_us = bend(turn_rad=turn_rad), np.arange(16) * 100_000
    assert EgoPlan(poses, times_us).command == command
    assert EGO.command_of(poses, times_us) == EGO.number(command) == list(Command).index(command)
    assert OFFICIAL.command_of(poses, times_us) == OFFICIAL.number(command) == official
    assert RIGHT_HANDED.command_of(poses, times_us) == RIGHT_HANDED.number(command) == right_handed


def test_the_official_convention_of_a_right_handed_data_set_mirrors_nothing():
    poses, cells = bend(yaw_rad=0.3), np.arange(6).reshape(1, 2, 3)
    assert np.array_equal(RIGHT_HANDED.trajectory(poses)[:, :2], poses[:, :2, 3] - poses[0, :2, 3])
    assert np.allclose(RIGHT_HANDED.trajectory(poses)[:, 2], 0.3 + 0.05 * np.arange(16))
    assert np.array_equal(RIGHT_HANDED.turned(cells, axis=2), cells)
    assert convention_named(RIGHT_HANDED.name) == RIGHT_HANDED


def test_the_middle_of_a_grid_is_cut_out_and_stays_where_it_is():
    grid, crop = cropped(CARLASC_GRID, (64, 32, 8))
    assert grid == Grid((64, 32, 8), (-12.8, -6.4, -2.0), CARLASC_GRID.voxel_size_m)
    for axis in range(3):
        assert np.allclose(grid.centres(axis), CARLASC_GRID.centres(axis)[crop[axis]])
    with pytest.raises(InvalidInputError, match=r"model\.grid"):
        cropped(CARLASC_GRID, (63, 64, 8))


@pytest.fixture(scope="module")
def build_source(recording):
    def build(labels="merged", convention=EGO, cells=(64, 48, 8), least=4, folder=recording):
        return ChunkSource.open([folder], least, labels, convention, cells)

    return build


def test_frames_are_those_of_the_recording_merged_and_cropped(build_source, street_clip):
    source = build_source()
    assert (source.taxonomy, source.vehicles) == (CARLASC, (VEHICLE,))
    read = source.read(0, 3, 7)
    assert np.array_equal(read.labels, street_clip.labels[3:7, 32:96, 40:88])
    assert np.array_equal(read.observed, street_clip.observed[3:7, 32:96, 40:88])
    own = build_source("own").read(0, 3, 7).labels
    assert np.array_equal(MERGED_FROM_RAW[own], read.labels)


def test_the_official_convention_reads_carlasc_as_it_is_stored(build_source, recording, tmp_path):
    export_carlasc(Recording.open(recording), tmp_path / "carlasc")
    source = build_source("own", OFFICIAL, CARLASC_GRID.shape, folder=tmp_path / "carlasc")
    stored = np.fromfile(tmp_path / "carlasc/drive_00000/cartesian/evaluation/000005.label", "<u4")
    assert source.taxonomy == CARLASC_RAW
    assert np.array_equal(source.read(0, 5, 6).labels[0], stored.reshape(CARLASC_GRID.shape))


@pytest.fixture(scope="module")
def occ3d(tmp_path_factory):
    """A scene of one frame of Occ3D-nuScenes, without poses: free but for a layer of cars."""
    folder = tmp_path_factory.mktemp("occ3d")
    frame = folder / "gts" / "scene-0001" / "token"
    frame.mkdir(parents=True)
    shape = (200, 200, 16)
    semantics = np.full(shape, 17, np.uint8)
    semantics[..., 3] = 4
    np.savez(
        frame / "labels.npz",
        semantics=semantics,
        mask_lidar=np.ones(shape, np.uint8),
        mask_camera=np.ones(shape, np.uint8),
    )
    return folder


def test_other_data_sets_are_read_in_their_own_grid_and_classes(occ3d, autoencoder):
    source = ChunkSource.open([occ3d], 1, "own", EGO, (32, 32, 16))
    assert source.taxonomy.id == "occ3d-nuscenes"
    assert {source.taxonomy.names[label] for label in source.vehicles} >= {"car", "bus", "truck"}
    assert source.grid.voxel_size_m == (0.4, 0.4, 0.4)
    assert source.rate_hz == 2.0
    read = source.read(0, 0, 1).labels
    assert read.shape == (1, 32, 32, 16)
    assert (read[..., 3] == source.taxonomy.index("car")).all()
    assert not read[..., 4:].any()
    merged = ChunkSource.open([occ3d], 1, "merged", EGO).read(0, 0, 1).labels
    assert merged.shape == (1, 200, 200, 16)
    assert (merged[..., 3] == VEHICLE).all()
    with pytest.raises(InvalidInputError, match="poses of scene-0001"):
        rows_of(autoencoder, source, count=1)


def test_chunks_are_not_cut_from_frames_in_no_known_order(occ3d, tmp_path):
    shutil.copytree(occ3d, tmp_path / "two")
    scene = tmp_path / "two" / "gts" / "scene-0001"
    shutil.copytree(scene / "token", scene / "another")
    with pytest.raises(InvalidInputError, match=r"times of scene-0001 of Occ3D-nuScenes.*annotations\.json"):
        ChunkSource.open([tmp_path / "two"], 2, "merged", EGO)


def test_chunks_are_not_cut_across_frames_that_are_missing(recording, tmp_path):
    export_carlasc(Recording.open(recording), tmp_path / "carlasc")
    times = tmp_path / "carlasc" / "drive_00000" / "cartesian" / "times.txt"
    lines = times.read_text().splitlines()
    times.write_text("\n".join(lines[:3] + [str(float(line) + 0.2) for line in lines[3:]]))
    with pytest.raises(InvalidInputError, match=r"times of drive_00000 .*0\.3 s between frames 2 and 3, .* 0\.1 s"):
        ChunkSource.open([tmp_path / "carlasc"], 4, "merged", EGO)


def test_folders_of_unlike_data_are_refused_by_name(build_source, recording, occ3d):
    with pytest.raises(InvalidInputError, match="grid of"):
        ChunkSource.open([recording, occ3d], 1, "merged", EGO)
    with pytest.raises(InvalidInputError, match="at least 64 frames"):
        build_source(least=64)
    with pytest.raises(InvalidInputError, match="no folder"):
        ChunkSource.open([], 1, "merged", EGO)


@pytest.fixture(scope="module")
def store(build_source):
    return FrameCells.load(build_source(), torch.device("cpu"), 2)


def test_batches_are_the_same_in_every_run_and_go_on_where_a_run_stopped(store):
    def batches(seed, first=0):
        return list(ChunkBatches(store, 4, 3, seed, 5, first))

    whole, again, rest, other = batches(1), batches(1), batches(1, 3), batches(2)
    assert (len(whole), len(rest)) == (5, 2)
    for one, same in ((whole, again), (whole[3:], rest)):
        assert all(torch.equal(a[name], b[name]) for a, b in zip(one, same, strict=True) for name in a)
    assert not torch.equal(whole[0]["labels"], other[0]["labels"])
    assert whole[0]["labels"].shape == whole[0]["observed"].shape == (3, 4, 64, 48, 8)
    assert int(whole[0]["labels"].max()) < len(CARLASC)


def test_chunks_do_not_reach_over_the_end_of_a_sequence(store, build_source):
    firsts = ChunkBatches(store, 4, 1, 0, 1).firsts
    assert firsts.tolist() == [start + first for start in (0, 40, 80) for first in range(37)]
    assert torch.equal(store.cells[40:44] & (SEEN - 1), torch.from_numpy(build_source().read(1, 0, 4).labels))


def test_class_counts_are_those_of_the_frames(store):
    everything = np.bincount((store.cells & (SEEN - 1)).flatten().numpy(), minlength=12)
    assert store.class_counts(12).tolist() == everything.tolist()


def test_validation_looks_at_the_middle_of_every_sequence(build_source):
    chunks = SpreadChunks(build_source(), 4, 10)
    assert len(chunks) == 3
    assert torch.equal(chunks[0]["labels"], torch.from_numpy(build_source().read(0, 18, 22).labels))


@pytest.fixture(scope="module")
def autoencoder():
    changes = {"frames": 8, "grid": (32, 32, 8), "depth": 1, "plane_channels": 8, "low_channels": 8, "high_channels": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ReferenceAutoencoder(with_values(AUTOENCODERS["small"], changes, "model")).eval()


def rows_of(autoencoder, source, count=2, seed=0):
    encoding = reference_encoding_of(autoencoder, source, "tiny", seed, count, torch.device("cpu"))
    with torch.inference_mode():
        return encoding.rows(map(encoding.read, range(len(source))))


def test_a_chunk_is_encoded_with_the_one_before_it_and_its_conditions(autoencoder, build_source):
    source = build_source(cells=(32, 32, 8))
    rows = rows_of(autoencoder, source)
    assert len(rows["command"]) == 6
    assert rows["has_previous"].all()
    everywhere = source.sequences[0][1].poses_world_from_ego
    first = int(np.random.default_rng((0, 0)).integers(8, 33, size=2)[0])
    np.testing.assert_allclose(rows["trajectory"][0], EGO.trajectory(everywhere[first : first + 8]), atol=1e-6)
    labels = {name: source.read(0, at, at + 8).labels for name, at in (("rollout", first), ("hexplane", first - 8))}
    for name, shown in labels.items():
        with torch.inference_mode():
            expected = pack(autoencoder.encode(torch.from_numpy(shown)[None])[0])[0]
        np.testing.assert_allclose(rows[name][0], expected.half(), atol=2e-3)
    occupancy = OccupancySequence(labels["rollout"], everywhere[first : first + 8], np.arange(8), source.grid, CARLASC)
    assert np.array_equal(rows["layout"][0], VehicleLayout.of(occupancy).cells)
    assert set(rows["command"].tolist()) == {0, 1}


def test_a_sequence_shorter_than_two_chunks_gives_chunks_that_begin_a_drive(autoencoder, build_source):
    longer = ReferenceAutoencoder(dataclasses.replace(autoencoder.config, frames=24)).eval()
    rows = rows_of(longer, build_source(cells=(32, 32, 8), least=24), count=1)
    assert not rows["has_previous"].any()
    assert not rows["hexplane"].any()


def test_what_is_encoded_depends_on_the_seed_alone(autoencoder, build_source):
    source = build_source(cells=(32, 32, 8))
    first, same, other = (rows_of(autoencoder, source, 1, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["trajectory"], other["trajectory"])


def test_encoded_chunks_come_back_from_disk_as_batches(autoencoder, build_source, tmp_path):
    rows = rows_of(autoencoder, build_source(cells=(32, 32, 8)))
    for number in range(3):
        write_shard(tmp_path, number, {name: array[2 * number : 2 * number + 2] for name, array in rows.items()})
    shards = tuple(shard_folder(tmp_path, number) for number in range(3))
    write_index(EncodedSet(tmp_path, shards, {"family": "reference", "autoencoder": "a"}))
    latents = ReferenceLatents(tmp_path, torch.device("cpu"))
    batch = latents.rows(np.array([4, 1]))
    assert {name: value.dtype for name, value in batch.items()} == {
        "rollout": torch.float32,
        "hexplane": torch.float32,
        "has_previous": torch.bool,
        "trajectory": torch.float32,
        "command": torch.int64,
        "layout": torch.bool,
    }
    assert np.array_equal(batch["rollout"].numpy(), rows["rollout"][[4, 1]].astype(np.float32))
    first, again = (LatentBatches(latents, 3, 0, 4, start).batch(3) for start in (0, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_weights_are_fed_data_of_their_own_classes_and_cells_only(recording, build_autoencoder, tmp_path, autoencoder):
    space = ReferenceSpace.carlasc(autoencoder.config.grid)
    merged = ReferenceConfig(autoencoder.config, classes=ReferenceClasses(CARLASC.names), space=space)
    save_reference(tmp_path / "merged", merged, autoencoder, None, EGO)
    assert source_for(load_reference(tmp_path / "merged"), [recording]).grid.shape == (32, 32, 8)
    small = build_autoencoder(with_values(autoencoder.config, {"classes": 5}, "model"))
    config = ReferenceConfig(small.config, classes=ReferenceClasses(("free", "a", "b", "c", "d")))
    save_reference(tmp_path / "own", config, small, None, EGO)
    with pytest.raises(InvalidInputError, match="taxonomy of the data"):
        source_for(load_reference(tmp_path / "own"), [recording])
    shifted = dataclasses.replace(space, lower_m=(-6.4, -6.4, -1.0))
    save_reference(tmp_path / "shifted", dataclasses.replace(merged, space=shifted), autoencoder, None, EGO)
    with pytest.raises(InvalidInputError, match="grid of the data"):
        source_for(load_reference(tmp_path / "shifted"), [recording])


def test_classes_become_the_taxonomy_that_they_are():
    merged = ReferenceClasses(("Free",), tuple(MERGED_FROM_RAW.tolist()))
    assert taxonomy_of(merged, 12) == CARLASC
    assert taxonomy_of(ReferenceClasses(CARLASC_RAW.names), 23) == CARLASC_RAW
    unknown = taxonomy_of(ReferenceClasses(("Free", "Pedestrian", "Sand")), 3)
    assert unknown.names == ("free", "pedestrian", "sand")
    assert unknown.moving_labels == (1,)
    assert unknown.id != taxonomy_of(ReferenceClasses(("free", "pedestrian", "mud")), 3).id
    assert taxonomy_of(ReferenceClasses(), 4).names == ("free", "class_1", "class_2", "class_3")
    with pytest.raises(CheckpointError, match=r"classes\.names"):
        taxonomy_of(ReferenceClasses(("free", "sand")), 3)
