import pytest
from dyncity_carla.loopback import argument_shapes, shapes
from dyncity_carla.loopback.shapes import ShapeError, check_arguments
from hypothesis import given
from hypothesis import strategies as st

METADATA = [False]
CONTROL = [0.5, -0.1, 0.0, False, False, False, 1]
PLACE = [[1.0, 2.0, 3.0], [0.0, 90.0, 0.0]]


def description() -> list[object]:
    return [7, "vehicle.audi.tt", [["role_name", 4, "hero"]]]


def test_what_the_client_sends_is_accepted():
    check_arguments([METADATA, 12, CONTROL], (shapes.U32, argument_shapes.VEHICLE_CONTROL))
    check_arguments([[True], description(), PLACE], (argument_shapes.ACTOR_DESCRIPTION, argument_shapes.TRANSFORM))


@pytest.mark.parametrize("arguments", [[METADATA], [METADATA, 1], [METADATA, 1, 2, 3]])
def test_another_number_of_arguments_is_named(arguments: list[object]):
    with pytest.raises(ShapeError, match=rf"got {len(arguments) - 1} arguments, expected 2 \(u32, u32\)"):
        check_arguments(arguments, (shapes.U32, shapes.U32))


@pytest.mark.parametrize("arguments", [[], "text", None, [[1], 5], [5]])
def test_a_call_without_metadata_is_refused(arguments: object):
    with pytest.raises(ShapeError, match="args"):
        check_arguments(arguments, (shapes.U32,))


@given(st.integers(0, 6), st.sampled_from(["text", None, [], b"", float("nan"), float("inf")]))
def test_a_wrong_field_of_a_control_is_named(field: int, wrong: object):
    names = ["throttle", "steer", "brake", "hand_brake", "reverse", "manual_gear_shift", "gear"]
    control = [*CONTROL[:field], wrong, *CONTROL[field + 1 :]]
    with pytest.raises(ShapeError, match=rf"args\[1\]\.{names[field]}: got"):
        check_arguments([METADATA, 3, control], (shapes.U32, argument_shapes.VEHICLE_CONTROL))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**31), 2**31), min_size=6, max_size=6)
)
def test_any_finite_transform_is_accepted(values: list[float]):
    argument_shapes.TRANSFORM.check([values[:3], values[3:]], "transform")


def test_a_boolean_is_no_number_and_a_number_no_boolean():
    with pytest.raises(ShapeError, match="an integer"):
        shapes.U32.check(True, "id")
    with pytest.raises(ShapeError, match="a number"):
        shapes.FLOAT.check(True, "x")
    with pytest.raises(ShapeError, match="a boolean"):
        shapes.BOOL.check(1, "enabled")


@pytest.mark.parametrize("value", [None, 5, [], [True], [False, 1], [1, 1], [0]])
def test_only_the_two_forms_of_an_optional_are_accepted(value: object):
    shapes.optional(shapes.U32).check([False], "parent")
    shapes.optional(shapes.U32).check([True, 4], "parent")
    with pytest.raises(ShapeError):
        shapes.optional(shapes.U32).check(value, "parent")


def spawn_command(parent: list[object], attachment: int, do_after: list[object]) -> list[object]:
    return [[0, [description(), PLACE, parent, attachment, "", do_after]]]


def test_commands_to_do_after_a_spawn_are_checked_too():
    argument_shapes.COMMAND.check(spawn_command([False], 0, [[[14, [0, False]]]]), "command")
    with pytest.raises(ShapeError, match=r"do_after\[0\]\.command\.SetSimulatePhysics\.enabled: got 3"):
        argument_shapes.COMMAND.check(spawn_command([False], 0, [[[14, [0, 3]]]]), "command")


def test_the_attachment_counts_only_with_a_parent():
    argument_shapes.COMMAND.check(spawn_command([False], 192, []), "command")
    with pytest.raises(ShapeError, match="attachment: got 192"):
        argument_shapes.COMMAND.check(spawn_command([True, 5], 192, []), "command")


def test_a_command_out_of_the_variant_is_refused():
    with pytest.raises(ShapeError, match="an index of command"):
        argument_shapes.COMMAND.check([[len(argument_shapes.COMMANDS), [1]]], "command")
