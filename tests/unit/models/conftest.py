"""Real classes of the family at tiny widths, with random weights, and recordings of the synthetic street."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.conditioning import MOVER_CHANNELS, CanvasConditions
from dyncity_models.config import (
    FORESEEN,
    AnchoredConfig,
    AutoencoderConfig,
    CanvasConfig,
    DiffusionTransformerConfig,
    SamplingConfig,
)
from dyncity_models.data.clips import Clip
from dyncity_models.hexplane import Planes
from dyncity_models.normalisation import Normalisation
from torch import nn

from dyncity_sim.dataset.store import RecordingMeta, RecordingWriter
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, MERGED_FROM_RAW

RAW_FROM_MERGED = np.array([np.argmax(label == MERGED_FROM_RAW) for label in range(11)], dtype=np.uint8)
"""One raw label of each merged label."""

STATISTICS = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.1), ("std", 0.7))}

WITH_LAYOUT = ("continuation", "plan", "layout", "command")
"""Conditions of weights that take a layout of vehicles."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> AnchoredConfig:
    """The whole family on the CarlaSC grid, as narrow as group norm allows."""
    planes = AutoencoderConfig(
        embedding_channels=2,
        latent_channels=8,
        encoder_channels=8,
        static_channels=8,
        feature_channels=8,
        output_channels=8,
        canvas=CanvasConfig(cells=32),
    )
    transformer = DiffusionTransformerConfig(width=32, depth=2, heads=2, stem_channels=8)
    return AnchoredConfig(planes, transformer, SamplingConfig(steps=2))


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """Give layers that start at zero small random values, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.fixture(scope="session")
def build_autoencoder(tiny) -> Callable[..., Autoencoder]:
    """A function that builds an autoencoder, at its initialisation or with random weights everywhere."""

    def build(seed: int = 0, initial: bool = False, height_planes: bool = False) -> Autoencoder:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            autoencoder = Autoencoder(replace(tiny.autoencoder, height_planes=height_planes)).eval()
            return autoencoder if initial else without_crowds(randomised(autoencoder, seed))

    return build


def without_crowds(autoencoder: Autoencoder) -> Autoencoder:
    """Keep random logits of what moves below those of other classes: a world that is full of it takes long to track."""
    logits = autoencoder.decoder.head.bias.data.unflatten(0, (-1, autoencoder.config.classes))
    logits[:, list(CARLASC.moving_labels)] -= 0.4
    return autoencoder


@pytest.fixture(scope="session")
def build_transformer(tiny) -> Callable[..., DiffusionTransformer]:
    """A function that builds a transformer, at its initialisation or with random weights everywhere."""

    def build(
        seed: int = 0, initial: bool = False, layout: bool = False, rollout: bool = False
    ) -> DiffusionTransformer:
        config = replace(tiny.transformer, conditions=WITH_LAYOUT) if layout else tiny.transformer
        config = replace(config, rollout=rollout)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            transformer = DiffusionTransformer(config, tiny.autoencoder).eval()
            return transformer if initial else randomised(transformer, seed)

    return build


@pytest.fixture(scope="session")
def build_conditions(tiny) -> Callable[..., CanvasConditions]:
    """A function that builds random conditions of a batch."""

    def build(batch: int = 2, seed: int = 0) -> CanvasConditions:
        generator = torch.Generator().manual_seed(seed)
        cells, frames = tiny.autoencoder.latent_cells, tiny.autoencoder.frames
        time = torch.linspace(-1.0, 1.0, frames)[None, :, None]
        mask = (torch.rand(batch, 1, cells, cells, generator=generator) < 0.5).float()
        return CanvasConditions(
            time * torch.tensor([8.0, 2.0, 0.4]) * (0.5 + torch.rand(batch, 1, 3, generator=generator)),
            torch.ones(batch, dtype=torch.bool),
            torch.arange(batch) % 4,
            torch.randn(batch, tiny.autoencoder.latent_channels, cells, cells, generator=generator) * mask,
            mask,
            (torch.rand(batch, MOVER_CHANNELS, 2 * cells, 2 * cells, generator=generator) < 0.1).float(),
            (torch.rand(batch, frames // 2, 2 * cells, 2 * cells, generator=generator) < 0.1).float(),
            torch.ones(batch, dtype=torch.bool),
        )

    return build


@pytest.fixture(scope="session")
def build_planes(tiny) -> Callable[..., Planes]:
    """A function that builds unit normal planes."""

    def build(batch: int = 2, seed: int = 0) -> Planes:
        generator = torch.Generator().manual_seed(seed)
        config = tiny.autoencoder
        channels, cells, pairs = config.latent_channels, config.latent_cells, config.pairs
        shapes = (channels, cells, cells), (channels, pairs, cells), (channels, pairs, cells)
        return Planes(*(torch.randn(batch, *shape, generator=generator) for shape in shapes))

    return build


@pytest.fixture(scope="session")
def write_weights(tiny, build_autoencoder, build_transformer, tmp_path_factory) -> Callable[..., Path]:
    """A function that writes a folder of random weights of the family, with a guide that differs or without."""

    def write(*, layout: bool = False, guided: bool = False, known_world: str = FORESEEN, **sampling: float) -> Path:
        transformer = replace(tiny.transformer, conditions=WITH_LAYOUT) if layout else tiny.transformer
        sampled, guide = replace(tiny.sampling, **sampling), transformer if guided else None
        config = replace(tiny, transformer=transformer, guide=guide, sampling=sampled, known_world=known_world)
        folder = tmp_path_factory.mktemp("weights") / "tiny"
        networks = build_autoencoder(), build_transformer(layout=layout), Normalisation(8, STATISTICS)
        save_model(folder, config, *networks, build_transformer(seed=1) if guided else None)
        return folder

    return write


@pytest.fixture(scope="session")
def weights(write_weights) -> Path:
    """A folder of random weights."""
    return write_weights()


@pytest.fixture(scope="session")
def layout_weights(write_weights) -> Path:
    """The same of a family that takes a layout of vehicles."""
    return write_weights(layout=True)


@pytest.fixture(scope="session")
def build_guided_weights(write_weights) -> Callable[..., Path]:
    """A function that writes random weights with a guide."""
    return partial(write_weights, guided=True)


@pytest.fixture(scope="session")
def backend(weights) -> AnchoredBackend:
    """The torch backend with random weights, on the CPU."""
    return AnchoredBackend(AnchoredPipeline(load_model(weights), torch.device("cpu")))


@pytest.fixture(scope="session")
def plan_along() -> Callable[..., EgoPlan]:
    """A function that builds a plan at constant speed and yaw rate."""

    def build(
        speed_mps: float = 5.0,
        yaw_rate_radps: float = 0.0,
        start: tuple[float, float, float] = (0.0, 0.0, 0.0),
        climb_mps: float = 0.0,
        frames: int = 16,
    ) -> EgoPlan:
        time_s = 0.1 * np.arange(frames)
        yaw = start[2] + yaw_rate_radps * time_s
        x, y = (start[i] + np.cumsum(speed_mps * 0.1 * f(yaw)) for i, f in enumerate((np.cos, np.sin)))
        poses = poses_from_planar(np.column_stack([x, y, yaw]))
        poses[:, 2, 3] = climb_mps * time_s
        return EgoPlan(poses, np.arange(frames, dtype=np.int64) * 100_000)

    return build


@pytest.fixture(scope="session")
def street_clip(build_street, street_actor) -> Clip:
    """40 frames along a bending street with a moving car and a walker; sensors see 15 m far."""
    walker = street_actor(
        12.0, 6.5, 0.5, 1.4, size_m=(0.8, 0.8, 1.8), label=CARLASC.index("pedestrian"), rider_label=None
    )
    street = build_street(40, 6.0, [street_actor(10.0, -2.5, 0.0, 9.0), walker], 0.01)
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    near = np.broadcast_to((np.hypot(x, y) < 15)[None, ..., None], street.labels.shape)
    return Clip(street.labels, near.copy(), planar_from_poses(street.poses_world_from_ego))


@pytest.fixture(scope="session")
def recording(street_clip, tmp_path_factory) -> Path:
    """A recording of three drives: the street, the same in mirror image, and its first frames standing still."""
    folder = tmp_path_factory.mktemp("recordings") / "street"
    standing = Clip(street_clip.labels[[0] * 40], street_clip.observed, street_clip.planar[[0] * 40])
    with RecordingWriter(folder, RecordingMeta("street", 0, CARLASC_GRID, "", "painted")) as writer:
        for clip in (street_clip, street_clip.mirrored(), standing):
            writer.write_drive(_recorded(clip))
    return folder


def _recorded(clip: Clip) -> list[RecordedFrame]:
    poses = poses_from_planar(clip.planar, 1.8)
    return [
        RecordedFrame(
            RAW_FROM_MERGED[clip.labels[i]],
            clip.observed[i].astype(np.float32),
            np.zeros(CARLASC_GRID.shape, np.uint16),
            (),
            poses[i],
            i * 100_000,
            CARLASC_GRID,
        )
        for i in range(len(clip))
    ]


@pytest.fixture(scope="session")
def occupancy_of() -> Callable[[Clip], OccupancySequence]:
    """A function that turns a clip into an occupancy sequence with its observed mask."""

    def build(clip: Clip) -> OccupancySequence:
        times_us = np.arange(len(clip), dtype=np.int64) * 100_000
        return OccupancySequence(
            clip.labels, poses_from_planar(clip.planar), times_us, CARLASC_GRID, CARLASC, clip.observed
        )

    return build
