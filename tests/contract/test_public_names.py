import importlib
import inspect
import pkgutil

import pytest

import dyncity_sim.errors
from dyncity_sim.client import ChunkStream, DyncityClient


def test_the_client_package_offers_exactly_this():
    import dyncity_sim.client

    assert sorted(dyncity_sim.client.__all__) == ["ChunkStream", "DyncityClient", "ServerInfo"]


def test_the_client_has_exactly_these_calls():
    calls = {name: str(inspect.signature(call)) for name, call in vars(DyncityClient).items() if name[0] != "_"}
    assert sorted(calls) == ["close", "encode", "generate", "model_info", "server_info", "stream", "wait_until_serving"]


def test_a_stream_has_exactly_these_calls():
    calls = [name for name in vars(ChunkStream) if name[0] != "_"]
    assert sorted(calls) == ["close", "finish", "receive", "send", "unanswered"]


def test_every_error_of_the_tree_is_drawn_in_its_docstring():
    drawn = dyncity_sim.errors.__doc__
    for name, error in inspect.getmembers(dyncity_sim.errors, inspect.isclass):
        assert issubclass(error, Exception)
        assert f" {name}" in drawn or name == "DyncityError"


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(dyncity_sim.__path__, "dyncity_sim.")])
def test_every_module_can_be_imported_on_its_own_terms(name):
    assert importlib.import_module(name).__doc__ or name.count(".") == 1
