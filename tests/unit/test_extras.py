import sys
from importlib.metadata import EntryPoint
from pathlib import Path

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


def test_what_a_plugin_of_others_lacks_is_not_laid_to_our_extras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "world_of_others.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DyncityError, match="No module named 'no_such_dependency'") as refused:
        load_entry_point(EntryPoint("theirs", "world_of_others:PLUGIN", "dyncity_sim.simulators"), "simulator")
    assert not isinstance(refused.value, MissingExtraError)


def test_a_module_of_ours_that_is_not_there_is_no_missing_extra() -> None:
    with pytest.raises(DyncityError, match=r"cannot be loaded: No module named 'dyncity_models\.no_such'") as refused:
        load_entry_point(EntryPoint("ours", "dyncity_models.no_such:load", "dyncity_sim.backends"), "backend")
    assert not isinstance(refused.value, MissingExtraError)
