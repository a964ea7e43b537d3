"""What users read of a run is in our words."""

import logging
import warnings
from dataclasses import replace

import pytest
from dyncity_models.training.quiet import CHATTY, without_chatter


def test_a_run_that_begins_and_goes_on_says_nothing_in_the_words_of_lightning(config, trained, caplog):
    levels = [logging.getLogger(name).level for name in CHATTY]
    with caplog.at_level(logging.INFO):
        trained(config)
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))
    assert not [record for record in caplog.records if record.name.startswith("lightning")]
    assert [logging.getLogger(name).level for name in CHATTY] == levels


def test_other_warnings_come():
    with without_chatter(), pytest.raises(UserWarning, match="loss"):
        warnings.warn("The loss is strange", stacklevel=1)
