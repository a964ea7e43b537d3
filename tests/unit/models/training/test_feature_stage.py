"""From a recording to an encoder that evaluation measures with."""

import numpy as np
import pytest
from dyncity_models.data.clips import ClipSource
from dyncity_models.evaluation.features import KINDS, features_of, load_encoder
from dyncity_models.training.config import DataConfig, OptimiserConfig, RunConfig
from dyncity_models.training.families import train
from dyncity_models.training.feature_stage import FeatureTrainingConfig

from dyncity_sim.config import save_config
from dyncity_sim.errors import ConfigError


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_writes_an_encoder_whose_features_are_standardised(kind, recording, tmp_path):
    config = FeatureTrainingConfig(
        kind=kind,
        data=DataConfig([str(recording)], [str(recording)], workers=1),
        optimiser=OptimiserConfig(steps=3, batch=2, warm_up=1),
        run=RunConfig(out=str(tmp_path / "run"), precision="32-true", validate_every=2, validation_clips=2),
    )
    save_config(config, tmp_path / "features.yaml")
    export = train("features", tmp_path / "features.yaml", [])
    encoder = load_encoder(kind, export)
    source = ClipSource([recording])
    every = [f for n in range(len(source)) for f in source.clip(n, 0, source.length(n)).labels]
    found = features_of(encoder, every)
    assert np.abs(found.mean(axis=0)).max() < 0.3
    assert np.median(found.std(axis=0)) == pytest.approx(1.0, abs=0.1)


def test_an_unknown_kind_is_refused(tmp_path):
    save_config(FeatureTrainingConfig(kind="points"), tmp_path / "features.yaml")
    with pytest.raises(ConfigError, match="kind"):
        train("features", tmp_path / "features.yaml", [])
