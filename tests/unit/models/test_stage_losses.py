"""The first losses of tiny runs of every stage of both families, as fixed numbers, and as two processes have them."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from dyncity_models.checkpoint import save_model
from dyncity_models.config import REMEMBERED, AnchoredConfig, SamplingConfig
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
    DistilLossConfig,
    DistilTrainingConfig,
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
from torch.utils._pytree import tree_leaves

from dyncity_sim.config import save_config
from dyncity_sim.domain.taxonomy import CARLASC

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
]

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
CONDITIONS_OF_ANCHORED = ("continuation", "plan", "layout", "command")
SMALL = {"size": "small", "grid": [16, 16, 8], "frames": 4, "plane_channels": 8, "low_channels": 8, "high_channels": 8}

GOLDEN = {
    "anchored_vae": [3.318265, 3.315536, 3.314029],
    "anchored_dit": [2.012844, 1.989357, 2.084400],
    "anchored_distil": [0.0251654, 0.0225128, 0.0194715],
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
def anchored_distil(anchored_dit, build_guided_weights, optimiser, run):
    teacher = str(build_guided_weights(REMEMBERED, autoguidance=1.5))
    rows = anchored_dit.latents
    sampling, loss = SamplingConfig(steps=2), DistilLossConfig(at_start=0.5)
    return DistilTrainingConfig(teacher, rows, rows, sampling, 2, 3, optimiser, loss, run)


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


def named(stage):
    """The stage as the command calls it."""
    return stage.split("_")[1]


def losses_of(folder):
    (log,) = (folder / "log").rglob("metrics.csv")
    with log.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.parametrize("stage", GOLDEN)
def test_the_first_losses_are_those_they_have_always_been(stage, request, tmp_path):
    save_config(request.getfixturevalue(stage), tmp_path / "run.yaml")
    train(named(stage), tmp_path / "run.yaml", [])
    found = losses_of(tmp_path / "run")
    assert found == pytest.approx(GOLDEN[stage], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", GOLDEN)
def test_two_processes_have_the_losses_and_the_weights_of_one(stage, request, tmp_path):
    config = request.getfixturevalue(stage)
    config = replace(config, run=replace(config.run, accumulate=2, most_minutes=1000.0))
    save_config(config, tmp_path / "run.yaml")
    one = train(named(stage), tmp_path / "run.yaml", [])
    two = tmp_path / "two"
    command = ["-m", "dyncity_sim.cli.main", "train", named(stage), "--config", str(tmp_path / "run.yaml")]
    own_launcher = [sys.executable, *command, "run.devices=2"]
    launch = own_launcher if stage.endswith("vae") else [*TORCHRUN, *command]
    done = subprocess.run([*launch, f"run.out={two}"], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    # A loss that is a small difference of velocities rounds as these do.
    assert losses_of(two) == pytest.approx(losses_of(tmp_path / "run"), rel=1e-5, abs=1e-6)
    assert [file.name for file in (two / "log").iterdir()] == ["version_0"]
    # The optimiser brings gradients to one size, and those of a student that begins as its teacher are small.
    assert distance(one.parent, two) < (1e-4 if stage == "anchored_distil" else 1e-5)
    assert {file.name for file in (two / "export").iterdir()} == {file.name for file in one.iterdir()}


def distance(run, other):
    """Of the final weights, as a share of their norm."""
    first, second = (final(folder)["state_dict"] for folder in (run, other))
    names = [name for name, value in first.items() if value.is_floating_point()]
    one, two = (torch.cat([weights[name].flatten() for name in names]) for weights in (first, second))
    return (two - one).norm() / one.norm()


def final(run):
    return torch.load(run / "checkpoints" / "final.ckpt", weights_only=False)


SHARDED = """
import sys
from pathlib import Path
from dyncity_models.training.families import train

stage, folder = sys.argv[1], Path(sys.argv[2])
for out, steps in (("resumed", 2), ("resumed", 3), ("unbroken", 3)):
    options = [f"run.out={folder / out}", f"optimiser.steps={steps}", "run.strategy=fsdp"]
    train(stage, folder / "run.yaml", options)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("stage", GOLDEN)
def test_two_processes_that_share_out_the_weights_go_on_to_the_bit_and_have_the_losses_of_one(stage, request, tmp_path):
    config = request.getfixturevalue(stage)
    optimiser = replace(config.optimiser, decay_from=1.0)
    accumulate = 1 if stage.endswith("vae") else 2
    run = replace(config.run, accumulate=accumulate, checkpoint_every=1, validate_every=2)
    save_config(replace(config, optimiser=optimiser, run=run), tmp_path / "run.yaml")
    (tmp_path / "sharded.py").write_text(SHARDED)
    command = [*TORCHRUN, str(tmp_path / "sharded.py"), named(stage), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    resumed, unbroken, alone = (tmp_path / name for name in ("resumed", "unbroken", "alone"))
    exports = [{file.name: file.read_bytes() for file in (out / "export").iterdir()} for out in (resumed, unbroken)]
    assert exports[0] == exports[1]
    for part in ("current_model_state", "state_dict", "optimizer_states"):
        found, expected = (tensors_in(final(out)[part]) for out in (resumed, unbroken))
        assert {type(tensor) for tensor in found} == {torch.Tensor}
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    # One process goes on with what the two have left, and takes all steps by itself.
    for out in (resumed, alone):
        train(named(stage), tmp_path / "run.yaml", [f"run.out={out}", "optimiser.steps=4"])
    assert losses_of(unbroken) == pytest.approx(losses_of(alone)[:3], rel=1e-5, abs=1e-6)
    # Weights that are shared out lie in another memory format, in which convolutions round otherwise.
    assert distance(alone, resumed) < 2e-4


def tensors_in(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
