"""The classes of CARLA 0.9.16 that are arguments, as shapes."""

from collections.abc import Sequence
from typing import Any

from dyncity_carla.loopback.shapes import (
    BOOL,
    FLOAT,
    I32,
    TEXT,
    U8,
    U16,
    U32,
    Shape,
    array,
    integer,
    list_of,
    optional,
    variant,
)

VECTOR = array("Vector3D", ("x", FLOAT), ("y", FLOAT), ("z", FLOAT))
VECTOR_2D = array("Vector2D", ("x", FLOAT), ("y", FLOAT))
LOCATION = array("Location", ("x", FLOAT), ("y", FLOAT), ("z", FLOAT))
ROTATION = array("Rotation", ("pitch", FLOAT), ("yaw", FLOAT), ("roll", FLOAT))
TRANSFORM = array("Transform", ("location", LOCATION), ("rotation", ROTATION))
BOUNDING_BOX = array(
    "BoundingBox", ("location", LOCATION), ("extent", VECTOR), ("rotation", ROTATION), ("actor_id", U32)
)
COLOUR = array("Color", ("r", U8), ("g", U8), ("b", U8))

ATTRIBUTE_VALUE = array("ActorAttributeValue", ("id", TEXT), ("type", integer("type", 1, 5)), ("value", TEXT))
ACTOR_DESCRIPTION = array("ActorDescription", ("uid", U32), ("id", TEXT), ("attributes", list_of(ATTRIBUTE_VALUE)))
ATTACHMENT = integer("AttachmentType", 0, 2)
EPISODE_SETTINGS = array(
    "EpisodeSettings",
    ("synchronous_mode", BOOL),
    ("no_rendering_mode", BOOL),
    ("fixed_delta_seconds", optional(FLOAT)),
    ("substepping", BOOL),
    ("max_substep_delta_time", FLOAT),
    ("max_substeps", I32),
    ("max_culling_distance", FLOAT),
    ("deterministic_ragdolls", BOOL),
    ("tile_stream_distance", FLOAT),
    ("actor_active_distance", FLOAT),
    ("spectator_as_ego", BOOL),
)
WEATHER_FIELDS = (
    "cloudiness",
    "precipitation",
    "precipitation_deposits",
    "wind_intensity",
    "sun_azimuth_angle",
    "sun_altitude_angle",
    "fog_density",
    "fog_distance",
    "fog_falloff",
    "wetness",
    "scattering_intensity",
    "mie_scattering_scale",
    "rayleigh_scattering_scale",
    "dust_storm",
)
WEATHER = array("WeatherParameters", *((field, FLOAT) for field in WEATHER_FIELDS))
OPENDRIVE_PARAMETERS = array(
    "OpendriveGenerationParameters",
    ("vertex_distance", FLOAT),
    ("max_road_length", FLOAT),
    ("wall_height", FLOAT),
    ("additional_width", FLOAT),
    ("smooth_junctions", BOOL),
    ("enable_mesh_visibility", BOOL),
    ("enable_pedestrian_navigation", BOOL),
)
VEHICLE_CONTROL = array(
    "VehicleControl",
    ("throttle", FLOAT),
    ("steer", FLOAT),
    ("brake", FLOAT),
    ("hand_brake", BOOL),
    ("reverse", BOOL),
    ("manual_gear_shift", BOOL),
    ("gear", I32),
)
ACKERMANN_CONTROL = array(
    "VehicleAckermannControl", *((f, FLOAT) for f in ("steer", "steer_speed", "speed", "acceleration", "jerk"))
)
WALKER_CONTROL = array("WalkerControl", ("direction", VECTOR), ("speed", FLOAT), ("jump", BOOL))
WHEEL_FIELDS = (
    "tire_friction",
    "damping_rate",
    "max_steer_angle",
    "radius",
    "max_brake_torque",
    "max_handbrake_torque",
    "lat_stiff_max_load",
    "lat_stiff_value",
    "long_stiff_value",
)
WHEEL = array("WheelPhysicsControl", *((field, FLOAT) for field in WHEEL_FIELDS), ("position", VECTOR))
PHYSICS_CONTROL = array(
    "VehiclePhysicsControl",
    ("torque_curve", list_of(VECTOR_2D)),
    ("max_rpm", FLOAT),
    ("moi", FLOAT),
    ("damping_rate_full_throttle", FLOAT),
    ("damping_rate_zero_throttle_clutch_engaged", FLOAT),
    ("damping_rate_zero_throttle_clutch_disengaged", FLOAT),
    ("use_gear_autobox", BOOL),
    ("gear_switch_time", FLOAT),
    ("clutch_strength", FLOAT),
    ("final_ratio", FLOAT),
    ("forward_gears", list_of(array("Gear", ("ratio", FLOAT), ("down_ratio", FLOAT), ("up_ratio", FLOAT)))),
    ("mass", FLOAT),
    ("drag_coefficient", FLOAT),
    ("center_of_mass", VECTOR),
    ("steering_curve", list_of(VECTOR_2D)),
    ("wheels", list_of(WHEEL)),
    ("use_sweep_wheel_collision", BOOL),
)
LIGHT_STATE = array("VehicleLightState", ("flags", U32))
TRAFFIC_LIGHT_STATE = integer("TrafficLightState", 0, 4)
ENDPOINT = array("endpoint", ("host", TEXT), ("port", U16))


def _commands() -> Sequence[Shape]:
    return COMMANDS


COMMAND = array("Command", ("command", variant("command", _commands)))
_SPAWN_FIELDS = array(
    "SpawnActor",
    ("description", ACTOR_DESCRIPTION),
    ("transform", TRANSFORM),
    ("parent", optional(U32)),
    ("attachment", U8),
    ("socket", TEXT),
    ("do_after", list_of(COMMAND)),
)


def _spawn_actor(value: Any, path: str) -> None:
    """The client leaves the attachment uninitialised where there is no parent, so it counts with one only."""
    _SPAWN_FIELDS.check(value, path)
    parent, attachment = value[2], value[3]
    if parent[0]:
        ATTACHMENT.check(attachment, f"{path}.attachment")


def _of_actor(name: str, *fields: tuple[str, Shape]) -> Shape:
    return array(name, ("actor", U32), *fields)


COMMANDS: tuple[Shape, ...] = (
    Shape("SpawnActor", _spawn_actor),
    _of_actor("DestroyActor"),
    _of_actor("ApplyVehicleControl", ("control", VEHICLE_CONTROL)),
    _of_actor("ApplyVehicleAckermannControl", ("control", ACKERMANN_CONTROL)),
    _of_actor("ApplyWalkerControl", ("control", WALKER_CONTROL)),
    _of_actor("ApplyVehiclePhysicsControl", ("physics", PHYSICS_CONTROL)),
    _of_actor("ApplyTransform", ("transform", TRANSFORM)),
    _of_actor("ApplyWalkerState", ("transform", TRANSFORM), ("speed", FLOAT)),
    _of_actor("ApplyTargetVelocity", ("velocity", VECTOR)),
    _of_actor("ApplyTargetAngularVelocity", ("angular_velocity", VECTOR)),
    _of_actor("ApplyImpulse", ("impulse", VECTOR)),
    _of_actor("ApplyForce", ("force", VECTOR)),
    _of_actor("ApplyAngularImpulse", ("impulse", VECTOR)),
    _of_actor("ApplyTorque", ("torque", VECTOR)),
    _of_actor("SetSimulatePhysics", ("enabled", BOOL)),
    _of_actor("SetEnableGravity", ("enabled", BOOL)),
    _of_actor("SetAutopilot", ("enabled", BOOL)),
    _of_actor("ShowDebugTelemetry", ("enabled", BOOL)),
    _of_actor("SetVehicleLightState", ("flags", U32)),
    _of_actor("ApplyLocation", ("location", LOCATION)),
    array("ConsoleCommand", ("command", TEXT)),
    _of_actor("SetTrafficLightState", ("state", TRAFFIC_LIGHT_STATE)),
)
"""Commands of a batch, by their index in the client's variant."""

_LINE = array("DebugLine", ("begin", LOCATION), ("end", LOCATION), ("thickness", FLOAT))
_ARROW = array("DebugArrow", ("line", _LINE), ("arrow_size", FLOAT))
_POINT = array("DebugPoint", ("location", LOCATION), ("size", FLOAT))
_BOX = array("DebugBox", ("box", BOUNDING_BOX), ("rotation", ROTATION), ("thickness", FLOAT))
_STRING = array("DebugString", ("location", LOCATION), ("text", TEXT), ("draw_shadow", BOOL))
DEBUG_SHAPE = array(
    "DebugShape",
    ("primitive", variant("primitive", lambda: (_POINT, _LINE, _ARROW, _BOX, _STRING, _POINT, _LINE, _ARROW, _BOX))),
    ("color", COLOUR),
    ("life_time", FLOAT),
    ("persistent_lines", BOOL),
)
