"""What only a CUDA device can show: the same model there as on the CPU, and a training step."""

import numpy as np
import pytest
import torch
from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.checkpoint import AnchoredModel, load_model, save_model
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.config import (
    AnchoredConfig,
    AutoencoderConfig,
    CanvasConfig,
    DiffusionTransformerConfig,
    SamplingConfig,
)
from dyncity_models.data.autoencoder_batches import AutoencoderBatches
from dyncity_models.data.clips import FrameStore
from dyncity_models.data.encoding import MOST_GAPS, Excerpt, encode_excerpts
from dyncity_models.data.latents import LatentSample
from dyncity_models.hexplane import Planes
from dyncity_models.normalisation import Normalisation
from dyncity_models.training.config import DistilTrainingConfig, RunConfig
from dyncity_models.training.distil_task import DistilTask
from dyncity_models.training.losses import lovasz_on_observed, moved_cells, sampled_cross_entropy
from dyncity_models.training.teacher import Teacher

from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

PLANES = AutoencoderConfig(
    encoder_channels=16, static_channels=16, feature_channels=16, output_channels=16, canvas=CanvasConfig(cells=32)
)


@pytest.fixture(scope="module")
def backend_on(tmp_path_factory):
    config = AnchoredConfig(
        PLANES, DiffusionTransformerConfig(width=64, depth=2, heads=2, stem_channels=16), SamplingConfig(steps=4)
    )
    torch.manual_seed(0)
    transformer = DiffusionTransformer(config.transformer, PLANES)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("weights")
    save_model(folder, config, Autoencoder(PLANES), transformer, Normalisation(PLANES.latent_channels))
    return lambda device: AnchoredBackend(AnchoredPipeline(load_model(folder), torch.device(device)))


@pytest.fixture(scope="module")
def conditions():
    planar = np.column_stack([0.8 * np.arange(16), np.zeros(16), 0.02 * np.arange(16)])
    return Conditions(EgoPlan(poses_from_planar(planar), np.arange(16, dtype=np.int64) * 100_000), Command.LEFT)


def generate(backend, conditions, seed):
    return backend.generate(conditions, SamplingOptions(seed=seed), lambda step: None)


def test_the_same_seed_gives_the_same_chunk_on_the_gpu(backend_on, conditions):
    backend = backend_on("cuda")
    first, again, other = (generate(backend, conditions, seed) for seed in (1, 1, 2))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation
    assert not np.array_equal(first.occupancy.labels, other.occupancy.labels)


def test_a_seed_means_almost_the_same_chunk_on_gpu_and_cpu(backend_on, conditions):
    """The noise is drawn on the CPU; rounding to bfloat16 differs and tips cells that were close."""
    labels = [generate(backend_on(device), conditions, 3).occupancy.labels for device in ("cuda", "cpu")]
    another = generate(backend_on("cpu"), conditions, 4).occupancy.labels
    same, by_chance = (float((labels[0] == other).mean()) for other in (labels[1], another))
    assert same > 0.95
    assert same > by_chance


def test_a_drive_goes_on_from_the_gpu_on_the_cpu(backend_on, conditions):
    chunk = generate(backend_on("cuda"), conditions, 1)
    onward = Conditions(conditions.plan, Command.LEFT, chunk.continuation)
    assert generate(backend_on("cpu"), onward, 2).occupancy.labels.shape == (16, 128, 128, 8)
    assert generate(backend_on("cuda"), onward, 2).occupancy.labels.shape == (16, 128, 128, 8)


def test_observed_occupancy_is_encoded_on_the_gpu(backend_on, conditions):
    backend = backend_on("cuda")
    continuation = backend.encode(generate(backend, conditions, 1).occupancy)
    assert continuation.model_id == backend.info.model_id


def test_losses_run_on_the_gpu_as_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 11, (1, 4, 16, 16, 8), generator=generator, dtype=torch.uint8)
    poses = 0.3 * torch.randn(1, 4, 3, generator=generator)
    logits = torch.randn(labels.numel(), 11, generator=generator)
    found = []
    for device in ("cpu", "cuda"):
        there, flat = labels.to(device), labels.flatten().to(device)
        moved = moved_cells(there, poses.to(device), (4, 10), 8.0)
        everywhere = torch.ones(len(flat), device=device)
        lovasz = lovasz_on_observed(logits.to(device), flat, everywhere > 0, 500)
        entropy = sampled_cross_entropy(logits.to(device), flat, everywhere[:11], everywhere)
        assert lovasz.isfinite()
        assert entropy.isfinite()
        found.append(moved.cpu())
    assert (found[0] == found[1]).float().mean() > 0.99


def test_a_step_of_training_lowers_the_loss_on_the_gpu():
    torch.manual_seed(0)
    autoencoder = Autoencoder(PLANES).cuda()
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=5e-3)
    labels = torch.zeros(1, 16, 128, 128, 8, dtype=torch.uint8)
    labels[..., 0], labels[:, :, :, 90:] = 6, 1
    labels, poses, frames = labels.cuda(), torch.zeros(1, 16, 3).cuda(), torch.tensor([[0, 8]]).cuda()
    losses = []
    for _ in range(10):
        with torch.autocast("cuda", torch.bfloat16):
            means, _ = autoencoder.encode(labels, poses)
            logits = autoencoder.decode(means, poses, frames)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, -2), labels[:, [0, 8]].flatten().long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_student_on_the_gpu_learns_of_a_guided_teacher_what_it_does_on_the_cpu():
    batch, cells, pairs = 4, PLANES.latent_cells, PLANES.pairs
    torch.manual_seed(0)
    planes = [torch.randn(batch, PLANES.latent_channels, *rows, cells) for rows in ((cells,), (pairs,), (pairs,))]
    mask = (torch.rand(batch, 1, cells, cells) < 0.5).float()
    movers = torch.zeros(batch, 4, 2 * cells, 2 * cells)
    poses = torch.linspace(-1, 1, 16)[None, :, None].expand(batch, -1, 3)
    sample = LatentSample(
        **dict(zip(("xy", "tx", "ty"), planes, strict=True)),
        known_xy=planes[0] * mask,
        known_mask=mask,
        movers=movers,
        canvas_from_ego=poses,
        command=torch.arange(batch),
    )

    def losses_on(device):
        torch.manual_seed(0)
        small = DiffusionTransformerConfig(width=64, depth=2, heads=2, stem_channels=16)
        networks = [DiffusionTransformer(small, PLANES).eval() for _ in range(2)]
        with torch.no_grad():
            for parameter in (p for network in networks for p in network.parameters()):
                parameter.add_(0.05 * torch.randn_like(parameter))
        config = AnchoredConfig(PLANES, small, SamplingConfig(autoguidance=2.0), small)
        model = AnchoredModel("", config, Autoencoder(PLANES), networks[0], Normalisation(8), networks[1])
        training = DistilTrainingConfig(run=RunConfig(precision="32-true"))
        task = DistilTask(training, Teacher(model, torch.device(device), training.run)).to(device)
        data, conditions = task.unpack({name: value.to(device) for name, value in sample.items()})
        noise = Planes(*(plane.flip(0) for plane in data))
        windows, passed = torch.arange(4, device=device), torch.linspace(0, 0.9, 4, device=device)
        losses = task.losses(data, noise, windows, passed, conditions)
        sum(losses.values()).backward()
        assert all(parameter.grad is not None for parameter in task.transformer.blocks.parameters())
        with torch.no_grad():
            distance = task.sample(conditions, noise) - task.teacher.sample(conditions, noise, "unipc", 8, 3.0)
        return [float(value.detach()) for value in (*losses.values(), distance.norm())]

    # In single precision convolutions may run in TF32.
    assert losses_on("cuda") == pytest.approx(losses_on("cpu"), rel=5e-2)


def test_encoding_on_the_gpu_gives_what_the_cpu_gives():
    torch.manual_seed(0)
    autoencoder = Autoencoder(PLANES).eval()
    rng = np.random.default_rng(0)
    planar = np.column_stack([0.8 * np.arange(32), np.zeros(32), 0.02 * np.arange(32)])
    blocks = rng.integers(0, 11, (18, 16, 16, 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    gaps = rng.uniform(-20, 20, (2, MOST_GAPS, 2)), rng.uniform(2, 8, (2, MOST_GAPS))
    excerpts = [Excerpt(blocks[:16], blocks[16:], planar, *gaps)] * 2
    with torch.inference_mode():
        found = [encode_excerpts(autoencoder.to(d), excerpts, torch.device(d)) for d in ("cpu", "cuda")]
    for name in ("known_mask", "movers", "layout", "command"):
        assert (found[0][name] == found[1][name]).mean() > 0.999
    for name in ("xy", "tx", "ty", "known_xy"):
        assert np.abs(found[0][name].astype(float) - found[1][name]).mean() < 0.02


def test_batches_are_put_together_on_the_gpu_as_on_the_cpu():
    rng = np.random.default_rng(0)
    cells = torch.from_numpy(rng.integers(0, 11, (40, 128, 128, 8), dtype=np.uint8))
    cells += 128 * (torch.rand(cells.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    planar = np.column_stack([0.8 * np.arange(40.0), np.zeros(40), 0.02 * np.arange(40)])
    on_cpu, on_gpu = (
        AutoencoderBatches(FrameStore(cells.to(device), planar, np.array([0, 40])), PLANES, 8, 4, 0, 1).batch(0)
        for device in ("cpu", "cuda")
    )
    for name, there in on_gpu.items():
        assert there.is_cuda
        assert (there.cpu() == on_cpu[name]).float().mean() > 0.999
