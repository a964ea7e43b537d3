"""Methods about the server, its episode, its map, and time."""

from dyncity_carla.loopback.argument_shapes import (
    ENDPOINT,
    EPISODE_SETTINGS,
    OPENDRIVE_PARAMETERS,
    WEATHER,
)
from dyncity_carla.loopback.geometry import wire_from_row
from dyncity_carla.loopback.methods import Answer, Grade, Host, Method
from dyncity_carla.loopback.records import stream_token
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.settings import Settings
from dyncity_carla.loopback.shapes import BOOL, I32, TEXT, U16, U32
from dyncity_carla.loopback.streams import WORLD_STREAM
from dyncity_carla.loopback.world import RefusedError
from dyncity_sim.errors import MapError

VERSION = "0.9.16"
OPENDRIVE_MAP = "OpenDriveMap"
"""Name of the map that shows the document a client sent."""

NO_ROADS = "<OpenDRIVE></OpenDRIVE>"


def _version(host: Host) -> str:
    return host.faults.version or VERSION


def _episode_info(host: Host) -> list[object]:
    return [host.world.episode_id, [stream_token(WORLD_STREAM, host.world.streaming_port)]]


def _sensor_token(host: Host, stream_id: int) -> list[object]:
    return [stream_token(stream_id, host.world.streaming_port)]


def _map_info(host: Host) -> list[object]:
    rows = host.world.spawn_rows if host.map_is_ready() else host.world.spawn_rows[:0]
    return [f"Carla/Maps/{host.world.roads.name}", [wire_from_row(row) for row in rows]]


def _map_data(host: Host) -> str:
    if host.faults.empty_opendrive:
        return ""
    return host.world.roads.opendrive if host.map_is_ready() else NO_ROADS


def _available_maps(host: Host) -> list[str]:
    return [f"/Game/Carla/Maps/{name}" for name in host.world.maps]


def _take_opendrive(host: Host, opendrive: str, _parameters: list[object]) -> None:
    try:
        host.world.maps[OPENDRIVE_MAP] = Roads(OPENDRIVE_MAP, opendrive)
    except MapError as error:
        raise RefusedError(f"opendrive could not be correctly parsed: failed to generate map. {error}") from error


def _load_episode(host: Host, name: str, reset_settings: bool, _layers: int) -> None:
    """The client reloads the map that is there by an empty name."""
    world = host.world
    roads = world.maps.get(name.split("/")[-1]) if name else world.roads
    if roads is None:
        raise RefusedError("map not found")
    host.load(roads)
    if reset_settings:
        world.settings = Settings()
        host.settings_changed()


def _set_settings(host: Host, wire: list[object]) -> int:
    host.world.settings = Settings.from_wire(wire)
    host.settings_changed()
    return host.world.moment.frame


def _tick(host: Host) -> int:
    if host.world.settings.synchronous_mode:
        return host.tick()
    return host.world.moment.frame + 1


def _no_recording(_host: Host, *_: object) -> str:
    raise RefusedError("the loopback server keeps no recordings")


def _set_weather(host: Host, weather: list[float]) -> None:
    host.world.weather = weather


METHODS = (
    Method("version", (), Answer.VALUE, "str", _version),
    Method("get_episode_info", (), Answer.VALUE, "EpisodeInfo", _episode_info),
    Method("get_sensor_token", (U32,), Answer.VALUE, "Token", _sensor_token),
    Method("get_episode_settings", (), Answer.VALUE, "EpisodeSettings", lambda host: host.world.settings.wire),
    Method("set_episode_settings", (EPISODE_SETTINGS,), Answer.VALUE, "frame", _set_settings),
    Method("tick_cue", (), Answer.VALUE, "frame", _tick),
    Method("get_required_files", (TEXT,), Answer.VALUE, "[]: the client keeps no files", lambda host, folder: []),
    Method("get_map_info", (), Answer.VALUE, "MapInfo", _map_info),
    Method("get_map_data", (), Answer.VALUE, "OpenDRIVE text", _map_data),
    Method("get_available_maps", (), Answer.VALUE, "[str]", _available_maps),
    Method("copy_opendrive_to_file", (TEXT, OPENDRIVE_PARAMETERS), Answer.VOID, "", _take_opendrive),
    Method("load_new_episode", (TEXT, BOOL, I32), Answer.VOID, "", _load_episode),
    Method("get_weather_parameters", (), Answer.VALUE, "WeatherParameters", lambda host: host.world.weather),
    Method("set_weather_parameters", (WEATHER,), Answer.VOID, "", _set_weather),
    Method("start_recorder", (TEXT, BOOL), Answer.VALUE, "always refused", _no_recording),
    Method("stop_recorder", (), Answer.VOID, "always refused", _no_recording),
    Method("query_lights_state", (TEXT,), Answer.VALUE, "[]: no street lights", lambda host, client: []),
    Method("is_traffic_manager_running", (U16,), Answer.VALUE, "bool", lambda host, port: port in host.world.managers),
    Method(
        "get_traffic_manager_running",
        (U16,),
        Answer.VALUE,
        "[host, port]",
        lambda host, port: [host.world.managers.get(port, ""), port],
        Grade.READ,
    ),
    Method(
        "add_traffic_manager_running",
        (ENDPOINT,),
        Answer.VALUE,
        "bool",
        lambda host, endpoint: host.world.managers.setdefault(endpoint[1], endpoint[0]) == endpoint[0],
    ),
    Method(
        "destroy_traffic_manager",
        (U16,),
        Answer.VALUE,
        "bool",
        lambda host, port: host.world.managers.pop(port, None) is not None,
        Grade.READ,
    ),
)
