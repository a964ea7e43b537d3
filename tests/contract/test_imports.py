"""What loading a part of the project may bring along; entry points are invisible to a linter."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "carla", "libsumo", "dyncity_models", "dyncity_sumo", "dyncity_carla")


def loaded_by(code):
    probe = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "module", ["dyncity_sim.client", "dyncity_sim.server.app", "dyncity_sim.engine.null", "dyncity_sim.cli.main"]
)
def test_importing_it_loads_neither_a_model_library_nor_a_simulator(module):
    assert loaded_by(f"import {module}") == "[]"


@pytest.mark.parametrize("module", ["plugin", "recorder", "play", "world"])
def test_the_carla_plugin_is_imported_without_carla_and_without_a_model_library(module):
    assert loaded_by(f"import dyncity_carla.{module}") == "['dyncity_carla']"


def test_the_null_backend_is_loaded_by_name_without_torch():
    code = "from dyncity_sim.engine.backend import load_backend\nload_backend('null', None).warm_up()"
    assert loaded_by(code) == "[]"


def test_the_probe_sees_what_is_loaded():
    assert loaded_by("import dyncity_sim.client, dyncity_sumo") == "['dyncity_sumo']"


def test_only_import_packages_are_importable_by_name():
    probe = "import importlib.util as u; print([n for n in ('models', 'plugins', 'proto') if u.find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "[]\n"
