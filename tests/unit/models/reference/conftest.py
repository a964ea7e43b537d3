"""The family at tiny widths, with random weights everywhere."""

from dataclasses import replace

import pytest
import torch
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.conditions import ReferenceConditions, known_part
from dyncity_models.reference.config import ReferenceAutoencoderConfig, ReferenceTransformerConfig
from dyncity_models.reference.dit import ReferenceTransformer


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
