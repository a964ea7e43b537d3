"""Train a very small model on recordings of your own, end to end: autoencoder, encoding, transformer.

It shows the stages and the folders between them; what it learns in so few steps is no more than the
proportions of the scene. Drives need at least 32 frames.

    python examples/own_simulator.py record --seed 1 --drives 12 --out data/ring
    python examples/own_simulator.py record --seed 100 --drives 4 --out data/ring-validation
    python examples/train_tiny.py --train data/ring --validation data/ring-validation --out out/tiny
    dyncity serve --weights out/tiny/dit/export
"""

import argparse
import sys
from pathlib import Path

from dyncity_models.config import AutoencoderConfig, DiffusionTransformerConfig
from dyncity_models.training.config import (
    AutoencoderTrainingConfig,
    DataConfig,
    OptimiserConfig,
    RunConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.stages import encode_recordings, train_autoencoder, train_transformer

from dyncity_sim.cli.numbers import not_negative, positive
from dyncity_sim.errors import DyncityError

AUTOENCODER = AutoencoderConfig(encoder_channels=16, static_channels=32, feature_channels=16, output_channels=8)
TRANSFORMER = DiffusionTransformerConfig(width=64, depth=2, heads=2, stem_channels=32)


def train(recordings: list[Path], validation: list[Path], steps: int, seed: int, out: Path) -> Path:
    """Run all stages and return the folder of exported weights; started again, each stage goes on where it was."""

    def run(stage: str) -> RunConfig:
        return RunConfig(
            out=str(out / stage), seed=seed, checkpoint_every=50, validate_every=max(steps, 1), validation_clips=4
        )

    autoencoder = train_autoencoder(
        AutoencoderTrainingConfig(
            model=AUTOENCODER,
            data=DataConfig([str(p) for p in recordings], [str(p) for p in validation], workers=0),
            optimiser=OptimiserConfig(steps=steps, batch=1, warm_up=10, ema_decay=0.97),
            run=run("vae"),
        )
    )
    for name, folders in (("train", recordings), ("validation", validation)):
        if not (out / "latents" / name / "latents.json").exists():
            encode_recordings(folders, autoencoder, out / "latents" / name, seed, chunks_per_drive=2)
    return train_transformer(
        TransformerTrainingConfig(
            model=TRANSFORMER,
            autoencoder=str(autoencoder),
            latents=str(out / "latents" / "train"),
            validation_latents=str(out / "latents" / "validation"),
            optimiser=OptimiserConfig(steps=steps, batch=4, lr=8e-4, warm_up=10, ema_decay=0.97),
            run=run("dit"),
        )
    )


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description="Train a very small model on recordings of your own.")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="recordings to learn from")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, help="recordings of other towns")
    parser.add_argument("--steps", type=positive, default=200, help="optimiser steps of each stage (default: 200)")
    parser.add_argument("--seed", type=not_negative, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    weights = train(arguments.train, arguments.validation, arguments.steps, arguments.seed, arguments.out)
    print(f"weights: {weights}\nserve them: dyncity serve --weights {weights}")


if __name__ == "__main__":
    try:
        main()
    except DyncityError as error:
        sys.exit(f"error: {error}")
