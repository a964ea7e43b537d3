"""Which family a configuration or a folder of weights is of, and how that family trains."""

from collections.abc import Sequence
from pathlib import Path

from dyncity_models.data.encode_shards import SAMPLES_PER_SHARD, WHOLE, Part
from dyncity_models.family import family_of
from dyncity_models.training.config import (
    AutoencoderTrainingConfig,
    DistilTrainingConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.distil_stage import train_distil
from dyncity_models.training.feature_stage import FeatureTrainingConfig, train_features
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceTransformerTrainingConfig,
)
from dyncity_models.training.reference_stages import (
    encode_for_reference,
    train_reference_autoencoder,
    train_reference_transformer,
)
from dyncity_models.training.stages import encode_recordings, train_autoencoder, train_transformer
from dyncity_sim.config import load_config, load_variant
from dyncity_sim.errors import InvalidInputError

AUTOENCODERS: dict[str, type[AutoencoderTrainingConfig | ReferenceAutoencoderTrainingConfig]] = {
    "anchored": AutoencoderTrainingConfig,
    "reference": ReferenceAutoencoderTrainingConfig,
}
TRANSFORMERS: dict[str, type[TransformerTrainingConfig | ReferenceTransformerTrainingConfig]] = {
    "anchored": TransformerTrainingConfig,
    "reference": ReferenceTransformerTrainingConfig,
}


def train(stage: str, file: Path | None, overrides: Sequence[str]) -> Path:
    """Train the half of a model that ``stage`` (``vae`` or ``dit``) names, of the family that the configuration names;
    few-step weights from whole ones of ``anchored`` (``distil``); or the encoders that evaluation measures with
    (``features``).

    Returns:
        The folder of exported weights.
    """
    if stage == "features":
        return train_features(load_config(FeatureTrainingConfig, file, overrides))
    if stage == "distil":
        return train_distil(load_config(DistilTrainingConfig, file, overrides))
    if stage == "vae":
        vae = load_variant("family", AUTOENCODERS, file, overrides)
        if isinstance(vae, ReferenceAutoencoderTrainingConfig):
            return train_reference_autoencoder(vae)
        return train_autoencoder(vae)
    dit = load_variant("family", TRANSFORMERS, file, overrides)
    if isinstance(dit, ReferenceTransformerTrainingConfig):
        return train_reference_transformer(dit)
    return train_transformer(dit)


def encode(
    folders: list[Path],
    autoencoder: Path,
    out: Path,
    seed: int,
    chunks_per_drive: int,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    part: Part = WHOLE,
    known_world: str | None = None,
) -> dict[str, int]:
    """Encode data for the transformer of the autoencoder's family.

    Returns:
        Counts of chunks by name.

    Raises:
        InvalidInputError: no chunk a drive, a seed below 0, or a kind of known world for the family ``reference``,
            which has one alone; and as the encoder of the family.
    """
    for name, got, least in (("chunks-per-drive", chunks_per_drive, 1), ("seed", seed, 0)):
        if got < least:
            raise InvalidInputError(name, got, f"at least {least}")
    settings = folders, autoencoder, out, seed, chunks_per_drive, samples_per_shard, part
    if family_of(autoencoder) == "anchored":
        return encode_recordings(*settings, known_world)
    if known_world:
        raise InvalidInputError("known-world", known_world, "none", "The family reference has one alone.")
    return encode_for_reference(*settings)
