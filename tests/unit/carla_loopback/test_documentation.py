"""``docs/carla-loopback.md`` says what the server does."""

from pathlib import Path

import pytest

pytest.importorskip("carla")
pytest.importorskip("msgpack")

from dyncity_carla.loopback.argument_shapes import COMMANDS
from dyncity_carla.loopback.batch import COMMANDS_DONE
from dyncity_carla.loopback.faults import FAULTS
from dyncity_carla.loopback.methods import Method
from dyncity_carla.loopback.server import all_methods

PAGE = (Path(__file__).parents[3] / "docs" / "carla-loopback.md").read_text(encoding="utf-8")


def row(method: Method) -> str:
    arguments = ", ".join(shape.name for shape in method.arguments)
    return f"| `{method.name}` | {arguments} | {method.answer.value} | {method.returns} | {method.grade.value} |"


def test_the_method_table_is_the_servers():
    documented = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 6]
    assert documented == [row(method) for method in all_methods().values()]


def test_every_fault_is_documented_with_its_parameters():
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 4}
    for name, parameters in FAULTS.items():
        assert all(f"`{parameter}`" in rows[name] for parameter in parameters), name


def test_every_command_has_something_that_is_done():
    assert sorted(COMMANDS_DONE) == list(range(len(COMMANDS)))
