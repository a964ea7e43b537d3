"""Methods about what stands around: static boxes, rays, debug shapes, layers."""

import math

from dyncity_carla.loopback.argument_shapes import (
    DEBUG_SHAPE,
    LOCATION,
    TRAFFIC_LIGHT_STATE,
    VECTOR,
)
from dyncity_carla.loopback.batch import no_traffic_light
from dyncity_carla.loopback.methods import Answer, Grade, Host, Method
from dyncity_carla.loopback.sensors import first_point
from dyncity_carla.loopback.shapes import BOOL, FLOAT, I32, U8, U32, U64, list_of


def _nothing(host: Host, *_: object) -> None:
    """Done, without anything to do."""


def _environment_objects(host: Host, tag: int) -> list[object]:
    scenery = host.world.scenery
    return [scenery.environment_object(number) for number in scenery.of_tag(tag)]


def _level_boxes(host: Host, tag: int) -> list[object]:
    scenery = host.world.scenery
    return [scenery.box(number) for number in scenery.of_tag(tag)]


def _switch(host: Host, ids: list[int], enabled: bool) -> None:
    host.world.scenery.switch(ids, enabled)


def _project(host: Host, origin: list[float], direction: list[float], reach_m: float) -> list[object]:
    point = first_point(host.world, origin, direction, reach_m)
    return [point is not None, point or [[0.0, 0.0, 0.0], 0]]


def _cast_ray(host: Host, begin: list[float], end: list[float]) -> list[object]:
    apart = [b - a for a, b in zip(begin, end, strict=True)]
    point = first_point(host.world, begin, apart, math.hypot(*apart))
    return [] if point is None else [point]


METHODS = (
    Method("draw_debug_shape", (DEBUG_SHAPE,), Answer.VOID, "logged, not drawn", _nothing),
    Method("get_environment_objects", (U8,), Answer.VALUE, "[EnvironmentObject]", _environment_objects),
    Method("get_all_level_BBs", (U8,), Answer.VALUE, "[BoundingBox]", _level_boxes),
    Method("enable_environment_objects", (list_of(U64), BOOL), Answer.VOID, "", _switch),
    Method("get_names_of_all_objects", (), Answer.VALUE, "[str]", lambda host: list(host.world.scenery.names)),
    Method("project_point", (LOCATION, VECTOR, FLOAT), Answer.VALUE, "[bool, LabelledPoint]", _project),
    Method("cast_ray", (LOCATION, LOCATION), Answer.VALUE, "[LabelledPoint], at most one", _cast_ray),
    Method("freeze_all_traffic_lights", (BOOL,), Answer.VOID, "no traffic lights", _nothing),
    Method("reset_all_traffic_lights", (), Answer.VOID, "no traffic lights", _nothing),
    Method(
        "set_traffic_light_state",
        (U32, TRAFFIC_LIGHT_STATE),
        Answer.VOID,
        "always refused",
        lambda host, *a: no_traffic_light(host.world, *a),
        Grade.READ,
    ),
    Method("load_map_layer", (I32,), Answer.VOID, "no layers", _nothing),
    Method("unload_map_layer", (I32,), Answer.VOID, "no layers", _nothing),
)
