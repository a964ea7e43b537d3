"""The first losses of tiny runs of every stage of both families, as fixed numbers, and as two processes have them."""

import csv
import functools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from dyncity_models.anchored.checkpoint import save_model
from dyncity_models.config import REMEMBERED, AnchoredConfig, SamplingConfig
from dyncity_models.data.chunks import ChunkSource
from dyncity_models.data.clips import ClipSource
from dyncity_models.data.encode_shards import encode_shards
from dyncity_models.data.encoding import encoding_of, statistics
from dyncity_models.data.reference_latents import reference_encoding_of
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.config import CONDITIONS, ReferenceClasses, ReferenceConfig
from dyncity_models.reference.conventions import convention_named
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

CPU = torch.device("cpu")
PATIENCE_S = 900.0
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def optimiser():
    return OptimiserConfig(steps=3, batch=2, warm_up=2, lr=1e-3)


@pytest.fixture(scope="module")
def run():
    brief = RunConfig("run", 0, "32-true", "cpu", 1, validation_clips=2)
    return replace(brief, log_every=1)


@pytest.fixture(scope="module")
def anchored_vae(tiny, recording, optimiser, run):
    data = DataConfig([str(recording)], [str(recording)], workers=1)
    return AutoencoderTrainingConfig(tiny.autoencoder, data, optimiser, run=run)


@pytest.fixture(scope="module")
def anchored_dit(tiny, build_autoencoder, recording, optimiser, run, folder):
    autoencoder, vae = build_autoencoder(), folder / "anchored"
    save_model(vae, AnchoredConfig(autoencoder=tiny.autoencoder), autoencoder)
    source = ClipSource([recording], least_frames=32)
    encoding = encoding_of(autoencoder, source, "tiny", 0, 1, CPU, 1)
    rows = in_shards(folder / "anchored-latents", encoding, lambda rows: statistics(rows, tiny.autoencoder))
    model = replace(tiny.transformer, conditions=CONDITIONS_OF_ANCHORED)
    return TransformerTrainingConfig(model, str(vae), rows, rows, optimiser, run=run)


@pytest.fixture(scope="module")
def anchored_distil(anchored_dit, build_guided_weights, optimiser, run):
    teacher = str(build_guided_weights(known_world=REMEMBERED, autoguidance=1.5))
    rows = anchored_dit.latents
    sampling, loss = SamplingConfig(steps=2), DistilLossConfig(at_start=0.5)
    return DistilTrainingConfig(teacher, rows, rows, sampling, 2, 3, optimiser, loss, run)


@pytest.fixture(scope="module")
def reference_vae(recording, optimiser, run):
    data = ReferenceDataConfig([str(recording)], [str(recording)], workers=1)
    return ReferenceAutoencoderTrainingConfig(model=SMALL | {"dropout": 0.0}, data=data, optimiser=optimiser, run=run)


@pytest.fixture(scope="module")
def reference_dit(recording, optimiser, run, folder):
    convention, config = convention_named("ego"), autoencoder_of(SMALL, (16, 16, 8), len(CARLASC))
    torch.manual_seed(0)
    autoencoder, vae = ReferenceAutoencoder(config).eval(), folder / "reference"
    classes = ReferenceClasses(CARLASC.names, tuple(range(len(CARLASC))), (1.0,) * len(CARLASC))
    save_reference(vae, ReferenceConfig(config, classes=classes), autoencoder, None, convention)
    source = ChunkSource.open([recording], config.frames, "merged", convention, config.grid)
    model_id = load_reference(vae).model_id
    description = {"family": "reference", "autoencoder": model_id, "convention": "ego"}
    encoding = reference_encoding_of(autoencoder, source, model_id, 0, 2, CPU)
    rows = in_shards(folder / "reference-latents", encoding, lambda rows: description)
    return ReferenceTransformerTrainingConfig(
        model={"size": "small", "depth": 1, "width": 32, "heads": 2, "conditions": list(CONDITIONS)},
        autoencoder=str(vae),
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
    trained(request.getfixturevalue(stage), stage, tmp_path / "run")
    assert losses_of(tmp_path / "run") == pytest.approx(GOLDEN[stage], rel=1e-4)


def trained(config, stage, out, **changes):
    """The folder of the weights that this process trains."""
    file = out.with_suffix(".yaml")
    save_config(replace(config, run=replace(config.run, out=str(out))), file)
    return train(named(stage), file, [f"{key}={value}" for key, value in changes.items()])


def averaged(config):
    """With gradients of two parts of each batch, as two processes have them."""
    return replace(config, run=replace(config.run, accumulate=2, most_minutes=1000.0))


def gone_on_with(config, stage):
    """With a learning rate that does not know how many steps there will be, and a checkpoint after every other one."""
    accumulate = 1 if stage.endswith("vae") else 2
    run = replace(config.run, accumulate=accumulate, checkpoint_every=2, validate_every=2)
    return replace(config, optimiser=replace(config.optimiser, decay_from=1.0), run=run)


@pytest.fixture(scope="module")
def of_two_processes(request, folder):
    """The folder of runs that two processes made together: of each stage, one in which both hold all weights, one in
    which they share them out, and one of these that was ended and gone on with."""
    for stage in GOLDEN:
        config = request.getfixturevalue(stage)
        save_config(averaged(config), folder / f"{stage}-both.yaml")
        save_config(gone_on_with(config, stage), folder / f"{stage}-sharded.yaml")
    (folder / "together.py").write_text(TOGETHER)
    stages = [f"{stage}:{named(stage)}" for stage in GOLDEN]
    launch(*TORCHRUN, str(folder / "together.py"), str(folder), *stages)
    return folder


def launch(*command):
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def of_one_process(request, folder):
    """A function that gives the folder of the run that this process made of a stage."""

    @functools.cache
    def run(stage):
        return trained(averaged(request.getfixturevalue(stage)), stage, folder / f"{stage}-one").parent

    return run


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("stage", GOLDEN)
def test_two_processes_have_the_losses_and_the_weights_of_one(stage, of_one_process, of_two_processes):
    same_run(stage, of_one_process(stage), of_two_processes / f"{stage}-both")


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
def test_the_command_starts_two_processes_by_itself(of_one_process, tmp_path):
    one = of_one_process("reference_dit")
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "train", "dit", "--config", str(one.with_suffix(".yaml"))]
    launch(*command, "run.devices=2", f"run.out={tmp_path}")
    same_run("reference_dit", one, tmp_path)


def same_run(stage, one, two):
    # A loss that is a small difference of velocities rounds as these do.
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-5, abs=1e-6)
    assert {file.name for file in (two / "log").iterdir()} <= {"metrics.csv", "curves.png"}
    # The optimiser brings gradients to one size, and those of a student that begins as its teacher are small.
    assert distance(one, two) < (1e-4 if stage == "anchored_distil" else 1e-5)
    assert {file.name for file in (two / "export").iterdir()} == {file.name for file in (one / "export").iterdir()}


def distance(run, other):
    """Of the final weights, as a share of their norm."""
    first, second = (final(folder)["state_dict"] for folder in (run, other))
    names = [name for name, value in first.items() if value.is_floating_point()]
    one, two = (torch.cat([weights[name].flatten() for name in names]) for weights in (first, second))
    return (two - one).norm() / one.norm()


def final(run):
    return torch.load(run / "checkpoints" / "final.ckpt", weights_only=False)


TOGETHER = """
import sys
from pathlib import Path
from dyncity_models.training.families import train

folder = Path(sys.argv[1])
for stage, name in (word.split(":") for word in sys.argv[2:]):
    train(name, folder / f"{stage}-both.yaml", [f"run.out={folder / stage}-both"])
    for out, steps in (("resumed", 2), ("resumed", 3), ("unbroken", 3)):
        options = [f"run.out={folder / stage}-{out}", f"optimiser.steps={steps}", "run.strategy=fsdp"]
        train(name, folder / f"{stage}-sharded.yaml", options)
"""


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("stage", GOLDEN)
def test_two_processes_that_share_out_the_weights_go_on_to_the_bit_and_have_the_losses_of_one(
    stage, request, tmp_path, of_two_processes
):
    resumed, unbroken = (of_two_processes / f"{stage}-{name}" for name in ("resumed", "unbroken"))
    exports = [{file.name: file.read_bytes() for file in (out / "export").iterdir()} for out in (resumed, unbroken)]
    assert exports[0] == exports[1]
    for part in ("current_model_state", "state_dict", "optimizer_states"):
        found, expected = (tensors_in(final(out)[part]) for out in (resumed, unbroken))
        assert {type(tensor) for tensor in found} == {torch.Tensor}
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    # One process goes on with what the two have left, and takes all steps by itself.
    config, alone = gone_on_with(request.getfixturevalue(stage), stage), tmp_path / "alone"
    for out in (resumed, alone):
        trained(config, stage, out, **{"optimiser.steps": 4})
    assert losses_of(unbroken) == pytest.approx(losses_of(alone)[:3], rel=1e-5, abs=1e-6)
    # Weights that are shared out lie in another memory format, in which convolutions round otherwise.
    assert distance(alone, resumed) < 2e-4


def tensors_in(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
