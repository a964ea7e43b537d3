"""``dyncity evaluate`` on weights of the family reference: every figure but those that need the whole grid."""

import json
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.evaluation.drives import DRIVE_FRAMES, generate_drive
from dyncity_models.evaluation.recorded import RecordedDrives
from dyncity_models.evaluation.report import evaluate, reconstructor_of
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import save_reference
from dyncity_models.reference.config import (
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import EgoConvention
from dyncity_models.reference.dit import ReferenceTransformer

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import CheckpointError


@pytest.fixture
def weights(even_planes, tmp_path):
    """Of the middle 16 x 16 columns, four frames, CarlaSC's classes."""
    planes = replace(even_planes, classes=len(CARLASC))
    transformer = ReferenceTransformerConfig(depth=1, width=32, heads=2)
    config = ReferenceConfig(
        planes,
        transformer,
        ReferenceClasses(CARLASC.names),
        ReferenceSpace.carlasc(planes.grid),
        ReferenceSampling("ddim", 2, 2.0),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = ReferenceAutoencoder(planes), ReferenceTransformer(transformer, planes)
    save_reference(tmp_path / "weights", config, *networks, EgoConvention())
    return tmp_path / "weights"


def test_writes_figures_and_a_picture(weights, recording, tmp_path, capsys):
    arguments = Namespace(
        recordings=[recording],
        plans_from=None,
        training=None,
        keep=tmp_path / "chunks",
        weights=weights,
        plans=2,
        turns=2,
        clips=1,
        drives=1,
        option=[],
        steps=1,
        seed=0,
        json=tmp_path / "evaluation.json",
        picture=tmp_path / "evaluation.png",
    )
    assert evaluate(arguments) == 0
    figures = json.loads(arguments.json.read_text(), parse_constant=pytest.fail)
    assert figures["buildings"]["recorded"]["filled_share"]["mean"] is None
    assert figures["model_id"].startswith("reference-")
    assert len(figures["miou_by_frame"]) == 4
    assert figures["motion"]["recorded"]["error_m"]["count"] == 2
    assert "sets" not in figures
    assert "Sets are not compared" in capsys.readouterr().err
    assert arguments.picture.is_file()

    first = arguments.json.read_text()
    assert evaluate(arguments) == 0
    assert arguments.json.read_text() == first


def test_a_drive_is_as_long_in_chunks_of_any_length(weights, build_street):
    backend = load(weights)
    street = build_street(DRIVE_FRAMES + 4, 5.0)
    middle = slice(56, 72)
    drive = OccupancySequence(
        street.labels[:, middle, middle],
        street.poses_world_from_ego,
        street.times_us,
        Grid((16, 16, 8), backend.info.grid.lower_m, street.grid.voxel_size_m),
        CARLASC,
    )
    score, last = generate_drive(backend, drive, seed=0, steps=1)
    assert len(score.borders) == DRIVE_FRAMES / 4
    assert last.times_us[-1] == street.times_us[-1]


def test_all_labels_are_shown_to_the_autoencoder(weights, recording):
    backend = load(weights)
    chunk = RecordedDrives([recording], backend.info).occupancy(0, 0)
    blind = replace(chunk, observed=chunk.observed & False)
    found = [reconstructor_of(backend).reconstruct(c) for c in (chunk, blind)]
    assert (found[0] == found[1]).all()


def test_a_backend_without_an_autoencoder_is_refused():
    with pytest.raises(CheckpointError, match="NullBackend"):
        reconstructor_of(NullBackend())
