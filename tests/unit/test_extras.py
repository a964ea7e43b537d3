import sys

import pytest

from dyncity_sim.engine.backend import load_backend
from dyncity_sim.errors import InvalidInputError, MissingExtraError


def test_a_backend_whose_tensors_are_not_installed_names_the_extra_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "dyncity_models.backends.load", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"The backend 'torch' needs the package 'torch'.*\[models\]"):
        load_backend("torch", None)


def test_an_unknown_backend_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match=r"backend: got 'triton', expected one of null, torch"):
        load_backend("triton", None)
