"""The first losses of tiny runs of every stage of both families, as fixed numbers, and as two processes have them."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from dyncity_models.checkpoint import save_model
from dyncity_models.config import AnchoredConfig
from dyncity_models.data.chunks import ChunkSource
from dyncity_models.data.clips import ClipSource
from dyncity_models.data.encode_shards import encode_shards
from dyncity_models.data.encoding import encoding_of, statistics
from dyncity_models.data.reference_latents import reference_encoding_of
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.config import CONDITIONS, ReferenceClasses, ReferenceConfig
from dyncity_models.reference.conventions import convention_named
from dyncity_models.reference_checkpoint import load_reference, save_reference
from dyncity_models.training.config import (
    AutoencoderTrainingConfig,
    DataConfig,
    OptimiserConfig,
    RunConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.families import train
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceDataConfig,
    ReferenceTransformerTrainingConfig,
    autoencoder_of,
)

from dyncity_sim.config import save_config
from dyncity_sim.domain.taxonomy import CARLASC

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
]

CPU = torch.device("cpu")
CONDITIONS_OF_ANCHORED = ("continuation", "plan", "layout", "command")
SMALL = {"size": "small", "grid": [16, 16, 8], "frames": 4, "plane_channels": 8, "low_channels": 8, "high_channels": 8}

GOLDEN = {
    "anchored_vae": [3.318265, 3.315536, 3.314029],
    "anchored_dit": [2.012844, 1.989357, 2.084400],
    "reference_vae": [3.475771, 3.466260, 3.447873],
    "reference_dit": [1.042341, 0.997281, 0.996747],
}
"""Losses of the first three steps by family and stage."""


@pytest.fixture
def optimiser():
    return OptimiserConfig(steps=3, batch=2, warm_up=2, lr=1e-3)


@pytest.fixture
def run(tmp_path):
    brief = RunConfig(str(tmp_path / "run"), 0, "32-true", "cpu", 1, validation_clips=2)
    return replace(brief, log_every=1)


@pytest.fixture
def anchored_vae(tiny, recording, optimiser, run):
    data = DataConfig([str(recording)], [str(recording)], workers=1)
    return AutoencoderTrainingConfig(tiny.autoencoder, data, optimiser, run=run)


@pytest.fixture
def anchored_dit(tiny, build_autoencoder, recording, optimiser, run, tmp_path):
    autoencoder = build_autoencoder()
    save_model(tmp_path / "vae", AnchoredConfig(autoencoder=tiny.autoencoder), autoencoder)
    source = ClipSource([recording], least_frames=32)
    encoding = encoding_of(autoencoder, source, "tiny", 0, 1, CPU, 1)
    rows = in_shards(tmp_path / "latents", encoding, lambda rows: statistics(rows, tiny.autoencoder))
    model = replace(tiny.transformer, conditions=CONDITIONS_OF_ANCHORED)
    return TransformerTrainingConfig(model, str(tmp_path / "vae"), rows, rows, optimiser, run=run)


@pytest.fixture
def reference_vae(recording, optimiser, run):
    data = ReferenceDataConfig([str(recording)], [str(recording)], workers=1)
    return ReferenceAutoencoderTrainingConfig(model=SMALL | {"dropout": 0.0}, data=data, optimiser=optimiser, run=run)


@pytest.fixture
def reference_dit(recording, optimiser, run, tmp_path):
    convention, config = convention_named("ego"), autoencoder_of(SMALL, (16, 16, 8), len(CARLASC))
    torch.manual_seed(0)
    autoencoder = ReferenceAutoencoder(config).eval()
    classes = ReferenceClasses(CARLASC.names, tuple(range(len(CARLASC))), (1.0,) * len(CARLASC))
    save_reference(tmp_path / "vae", ReferenceConfig(config, classes=classes), autoencoder, None, convention)
    source = ChunkSource.open([recording], config.frames, "merged", convention, config.grid)
    model_id = load_reference(tmp_path / "vae").model_id
    description = {"family": "reference", "autoencoder": model_id, "convention": "ego"}
    encoding = reference_encoding_of(autoencoder, source, model_id, 0, 2, CPU)
    rows = in_shards(tmp_path / "latents", encoding, lambda rows: description)
    return ReferenceTransformerTrainingConfig(
        model={"size": "small", "depth": 1, "width": 32, "heads": 2, "conditions": list(CONDITIONS)},
        autoencoder=str(tmp_path / "vae"),
        latents=rows,
        validation_latents=rows,
        optimiser=optimiser,
        run=run,
    )


def in_shards(folder, encoding, describe):
    with torch.inference_mode():
        encoded = encode_shards(folder, encoding, describe, samples=4)
    assert len(encoded.rows.shards) == 2
    return str(folder)


def losses_of(folder):
    (log,) = (folder / "log").rglob("metrics.csv")
    with log.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.parametrize("stage", GOLDEN)
def test_the_first_losses_are_those_they_have_always_been(stage, request, tmp_path):
    save_config(request.getfixturevalue(stage), tmp_path / "run.yaml")
    train(stage[-3:], tmp_path / "run.yaml", [])
    found = losses_of(tmp_path / "run")
    assert found == pytest.approx(GOLDEN[stage], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", GOLDEN)
def test_two_processes_have_the_losses_and_the_weights_of_one(stage, request, tmp_path):
    config = request.getfixturevalue(stage)
    config = replace(config, run=replace(config.run, accumulate=2, most_minutes=1000.0))
    save_config(config, tmp_path / "run.yaml")
    one = train(stage[-3:], tmp_path / "run.yaml", [])
    two = tmp_path / "two"
    command = ["-m", "dyncity_sim.cli.main", "train", stage[-3:], "--config", str(tmp_path / "run.yaml")]
    own_launcher = [sys.executable, *command, "run.devices=2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command]
    launch = own_launcher if stage.endswith("vae") else torchrun
    done = subprocess.run([*launch, f"run.out={two}"], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert losses_of(two) == pytest.approx(losses_of(tmp_path / "run"), rel=1e-5)
    assert [file.name for file in (two / "log").iterdir()] == ["version_0"]
    alone, together = (torch.load(f / "checkpoints" / "final.ckpt", weights_only=False) for f in (one.parent, two))
    names = [name for name, value in alone["state_dict"].items() if value.is_floating_point()]
    ones, twos = (torch.cat([f["state_dict"][name].flatten() for name in names]) for f in (alone, together))
    assert (twos - ones).norm() < 1e-5 * ones.norm()
    assert {file.name for file in (two / "export").iterdir()} == {file.name for file in one.iterdir()}
