"""What an installation promises: stubs for every version of grpcio and protobuf that is allowed, and types."""

import re
import tomllib
from pathlib import Path

import pytest
from dyncity.v1 import generator_pb2, generator_pb2_grpc
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lowest(package):
    """The lowest version of a dependency that ``pyproject.toml`` allows."""
    requirements = map(Requirement, PYPROJECT["project"]["dependencies"])
    [found] = [requirement for requirement in requirements if requirement.name == package]
    return next(Version(bound.version) for bound in found.specifier if bound.operator == ">=")


@pytest.mark.parametrize(
    ("package", "stub", "written"),
    [
        ("grpcio", generator_pb2_grpc, r"GRPC_GENERATED_VERSION = '(.+)'"),
        ("protobuf", generator_pb2, r"# Protobuf Python Version: (.+)"),
    ],
)
def test_the_stubs_ask_for_no_later_version_than_is_declared(package, stub, written):
    made_for = Version(re.search(written, Path(stub.__file__).read_text())[1])
    assert made_for <= lowest(package), "where pyproject.toml is newer than the stubs: make .venv/ready"


@pytest.mark.parametrize("package", PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_type_checkers_of_others_see_the_types_of_every_package(package):
    assert (ROOT / package / "py.typed").is_file()
