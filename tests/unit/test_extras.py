import sys
from importlib.metadata import EntryPoint

import pytest

from dyncity_sim.engine.backend import load_backend
from dyncity_sim.errors import DyncityError, InvalidInputError, MissingExtraError
from dyncity_sim.extras import load_entry_point


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


@pytest.mark.parametrize("value", ["json:PLUGIN", "no_such_package.world:PLUGIN", "json.no_such_module:PLUGIN"])
def test_what_is_registered_and_cannot_be_loaded_is_named_with_its_reason(value: str) -> None:
    entry_point = EntryPoint("mine", value, "dyncity_sim.simulators")
    with pytest.raises(DyncityError, match=rf"The simulator 'mine' of {value} cannot be loaded: .*(PLUGIN|no_such)"):
        load_entry_point(entry_point, "simulator")
