"""The family at tiny widths, with random weights: networks, a backend, and what the published trainer leaves."""

import collections
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import save_reference
from dyncity_models.reference.conditions import ReferenceConditions, known_part
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import Convention, EgoConvention
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.names import autoencoder_modules, tensor_names, transformer_modules
from torch import nn

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.occupancy import OccupancySequence

FRAMES = 4
CLASSES = ("free", "road", "building", "vehicle", "pedestrian")
SWITCHES = {"trajectory": "traj_cond", "command": "cmd_cond", "layout": "layout_cond", "hexplane": "hex_cond"}


def randomised(module, seed, spread=0.1):
    """Random values instead of what layers start with, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture(scope="session")
def tiny_autoencoder():
    return ReferenceAutoencoderConfig(
        frames=2, grid=(8, 8, 4), classes=5, plane_channels=8, low_channels=8, high_channels=8, dropout=0.0
    )


@pytest.fixture(scope="session")
def build_autoencoder(tiny_autoencoder):
    def build(config=tiny_autoencoder, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return randomised(ReferenceAutoencoder(config), seed)

    return build


@pytest.fixture(scope="session")
def even_planes():
    """An autoencoder whose planes a patch of two fits."""
    return ReferenceAutoencoderConfig(
        frames=4, grid=(16, 16, 8), classes=5, plane_channels=8, low_channels=8, high_channels=8, dropout=0.0
    )


@pytest.fixture(scope="session")
def build_transformer(even_planes):
    def build(seed=0, spread=0.1, **changes):
        config = ReferenceTransformerConfig(**({"depth": 2, "width": 32, "heads": 4} | changes))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return randomised(ReferenceTransformer(config, even_planes), seed, spread)

    return build


@pytest.fixture(scope="session")
def build_conditions(even_planes):
    def build(batch=2, seed=0):
        generator = torch.Generator().manual_seed(seed)
        rows, columns = even_planes.rollout_shape
        given = ReferenceConditions(
            torch.randn(batch, even_planes.frames, 3, generator=generator),
            torch.arange(batch) % 4,
            (torch.rand(batch, even_planes.frames, 4, 4, generator=generator) < 0.3).float(),
            torch.randn(batch, even_planes.latent_channels, rows, columns, generator=generator),
        )
        rollout, known = torch.randn_like(given.hexplane), torch.rand(batch, 1, rows, columns, generator=generator)
        return replace(given, region=known_part(rollout, known < 0.5))

    return build


@pytest.fixture(scope="session")
def build_backend(even_planes, build_transformer, tmp_path_factory) -> Callable[..., ReferenceBackend]:
    """A function that builds the backend of random weights, by way of the disk.

    The transformer's are small, because noise that is predicted too large blows latents up, chunk after chunk.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = ReferenceAutoencoder(even_planes)

    def build(
        convention: Convention | None = None, sampling: ReferenceSampling | None = None, **changes: Any
    ) -> ReferenceBackend:
        folder = tmp_path_factory.mktemp("reference")
        transformer = build_transformer(**{"spread": 0.01} | changes)
        config = ReferenceConfig(
            even_planes,
            transformer.config,
            ReferenceClasses(CLASSES),
            ReferenceSpace.carlasc(even_planes.grid),
            sampling or ReferenceSampling("ddim", 3, 2.0),
        )
        save_reference(folder, config, autoencoder, transformer, convention or EgoConvention())
        return load(folder)

    return build


@pytest.fixture(scope="session")
def backend(build_backend) -> ReferenceBackend:
    """That of weights which take all published conditions."""
    return build_backend()


@pytest.fixture
def saved(even_planes, build_autoencoder, build_transformer, tmp_path) -> Path:
    """A folder of random weights."""
    transformer = build_transformer()
    config = ReferenceConfig(even_planes, transformer.config, ReferenceClasses(CLASSES))
    save_reference(tmp_path / "weights", config, build_autoencoder(even_planes), transformer, EgoConvention())
    return tmp_path / "weights"


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., EgoPlan]:
    """A function that builds the plan of a chunk of a drive that bends to the left."""

    def build(chunk: int, yaw_rad: float = 0.0) -> EgoPlan:
        steps = np.arange(chunk * FRAMES, (chunk + 1) * FRAMES)
        turned = yaw_rad + 0.02 * steps
        planar = np.column_stack([0.5 * steps * np.cos(yaw_rad), 0.5 * steps * np.sin(yaw_rad), turned])
        return EgoPlan(poses_from_planar(planar, 1.8), steps.astype(np.int64) * 100_000)

    return build


@pytest.fixture(scope="session")
def plan(plan_of) -> EgoPlan:
    """That of the first chunk."""
    return plan_of(0)


@pytest.fixture(scope="session")
def generate() -> Callable[..., GeneratedChunk]:
    """A function that generates a chunk with a backend."""

    def run(backend: ReferenceBackend, conditions: Conditions, seed: int = 1, **options: Any) -> GeneratedChunk:
        return backend.generate(conditions, SamplingOptions(seed=seed, **options), lambda done: None)

    return run


@pytest.fixture(scope="session")
def layout_with() -> Callable[..., VehicleLayout]:
    """A function that builds a layout in which vehicles stand in some cells."""

    def build(*cells: tuple[int, int]) -> VehicleLayout:
        layout = np.zeros((FRAMES, 4, 4), np.bool_)
        layout[:, *zip(*cells, strict=True)] = True
        return VehicleLayout(layout)

    return build


@pytest.fixture(scope="session")
def random_occupancy(backend) -> Callable[..., OccupancySequence]:
    """A function that builds a chunk of random labels along a plan, of which everything or a part is observed."""

    def build(plan: EgoPlan, part: Any = None) -> OccupancySequence:
        labels = np.random.default_rng(0).integers(0, len(CLASSES), (FRAMES, *backend.grid.shape)).astype(np.uint8)
        observed = None
        if part is not None:
            observed = np.zeros(labels.shape, np.bool_)
            observed[part] = True
        poses, times_us = plan.poses_world_from_ego, plan.times_us
        return OccupancySequence(labels, poses, times_us, backend.grid, backend.taxonomy, observed)

    return build


def published(module: nn.Module, modules: dict[str, str]) -> dict[str, torch.Tensor]:
    """Tensors of a module under their published names."""
    tensors = module.state_dict()
    return {theirs: tensors[ours].clone() for theirs, ours in tensor_names(modules, tensors)}


def autoencoder_conf(config: ReferenceAutoencoderConfig) -> dict[str, Any]:
    """What the published trainer would have been configured with."""
    down, plane = config.down, config.plane_down
    return {
        "dataset": {
            "sequence_length": config.frames,
            "spatial_size": list(config.grid),
            "num_classes": config.classes,
            "semantic_names": {number: f"class {number}" for number in range(config.classes)},
            "semantic_map": {number: number for number in range(config.classes)},
            "semantic_frequency": {number: 10 - number for number in range(config.classes)},
        },
        "model": {
            "vae": True,
            "encoder_type": "tr",
            "decoder_type": "conv",
            "latent_channels": config.latent_channels,
            "query_channels": config.plane_channels,
            "conv_hidden_low_res": config.low_channels,
            "conv_hidden_high_res": config.high_channels,
            **{f"down_{axis}": steps for axis, steps in zip("xyz", down, strict=True)},
            **{f"hex_down_{axis}": steps for axis, steps in zip("txyz", plane, strict=True)},
            "separate_t_encoder": config.time_encoder,
            "one_hot_time": config.one_hot_time,
            "separate_t_reducer": config.time_reducer,
            "transformer_depth": config.depth,
            "transformer_heads": config.heads,
            "transformer_dim_mlp": config.mlp_width,
            "dropout": config.dropout,
            "hadamard": config.hadamard,
            "pe_freq": config.frequencies,
            "learning_rate": "1e-3",
        },
        "name": "VAE",
    }


@pytest.fixture
def runs(tmp_path, build_autoencoder, build_transformer, even_planes) -> tuple[Path, Path, nn.Module, nn.Module]:
    """Run folders VAE and DIT as the published trainers leave them, and the modules in them."""
    vae, dit = tmp_path / "runs" / "VAE", tmp_path / "runs" / "DIT"
    vae.mkdir(parents=True)
    dit.mkdir()
    autoencoder, transformer = build_autoencoder(even_planes), build_transformer(cross_attention=True)
    (vae / "conf.yaml").write_text(yaml.safe_dump(autoencoder_conf(even_planes)))
    state = {
        "epoch": 4,
        "best_miou": np.float32(37.25),
        "scheduler_state_dict": {"milestones": collections.Counter([50, 60])},
        "model_state_dict": published(autoencoder, autoencoder_modules(even_planes)),
    }
    torch.save(state, vae / "last.ckpt")
    model = {"model": "DiT-TINY/2", "x_attn": True} | dict.fromkeys(SWITCHES.values(), True)
    (dit / "conf.yaml").write_text(yaml.safe_dump({"model": model, "name": "DIT", "vae_name": "VAE"}))
    averaged = published(transformer, transformer_modules(transformer.config))
    raw = {name: torch.zeros_like(value) for name, value in averaged.items()}
    torch.save({"current_step": 10000, "model_state_dict": raw, "ema": averaged}, dit / "last.ckpt")
    return vae, dit, autoencoder, transformer


@pytest.fixture(scope="session")
def rewrite() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    """A function that changes what a checkpoint holds."""

    def run(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
        kinds = [np._core.multiarray.scalar, np.dtype, type(np.dtype("f4")), collections.Counter]
        with torch.serialization.safe_globals(kinds):
            state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)

    return run
