import struct

import numpy as np
from dyncity_carla.loopback import records
from dyncity_carla.loopback.records import ACTOR_RECORD, Moment
from hypothesis import given
from hypothesis import strategies as st

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
MOMENT = Moment(frame=2**40 + 7, elapsed_s=12.5, delta_s=0.1, platform_s=1e9)


def test_sizes_are_those_of_the_wire():
    assert ACTOR_RECORD.itemsize == 119
    assert len(records.sensor_header(10, MOMENT, np.zeros(6))) == 48
    assert len(records.world_state(MOMENT, 1, 0, np.zeros(0, ACTOR_RECORD))) == 48 + 36
    assert len(records.stream_token(1, 2)) == 24


@given(
    st.integers(0, 2**32 - 1),
    st.lists(FLOAT32, min_size=15, max_size=15),
    st.binary(min_size=54, max_size=54),
)
def test_every_field_of_a_record_lies_at_its_offset(actor_id: int, values: list[float], details: bytes):
    record = np.zeros(3, ACTOR_RECORD)
    record[1]["id"], record[1]["state"] = actor_id, 1
    record[1]["transform"], record[1]["velocity"] = values[:6], values[6:9]
    record[1]["angular_velocity"], record[1]["acceleration"] = values[9:12], values[12:15]
    record[1]["details"] = np.frombuffer(details, np.uint8)
    packed = records.world_state(MOMENT, 1, 0, record)[48 + 36 :][119 : 2 * 119]
    assert struct.unpack_from("<IB", packed) == (actor_id, 1)
    assert list(struct.unpack_from("<15f", packed, 5)) == values
    assert packed[65:] == details


def test_the_headers_hold_what_the_client_reads():
    message = records.world_state(MOMENT, 3, records.MAP_CHANGED, np.zeros(1, ACTOR_RECORD))
    sensor_type, frame, elapsed_s, *place = struct.unpack_from("<QQd6f", message)
    assert (sensor_type, frame, elapsed_s, place) == (17, 2**40 + 7, 12.5, [0.0] * 6)
    episode, platform_s, delta_s, *origin, state = struct.unpack_from("<Qdf3iI", message, 48)
    assert (episode, platform_s, origin, state) == (3, 1e9, [0, 0, 0], 1)
    assert delta_s == np.float32(0.1)
    assert len(message) == 48 + 36 + 119


@given(
    st.lists(FLOAT32, min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(-1, 8),
    st.integers(0, 2**32 - 1),
)
def test_a_vehicle_shows_its_control_limit_and_lights(
    pedals: list[float], switches: list[bool], gear: int, lights: int
):
    packed = records.vehicle_details([*pedals, *switches, gear], 30.0, lights)
    assert len(packed) == 54
    assert struct.unpack_from("<fff???if", packed) == (*pedals, *switches, gear, 30.0)
    assert packed[23] == lights & 0xFF
    assert packed[24:] == bytes(30)


def test_a_walker_shows_its_control():
    packed = records.walker_details([0.0, 1.0, 0.0], 1.5, True)
    assert struct.unpack_from("<3ff?", packed) == (0.0, 1.0, 0.0, 1.5, True)
    assert len(packed) == 54


def test_a_token_names_its_stream_and_a_tcp_port_and_leaves_the_address_open():
    token = records.stream_token(77, 40123)
    assert struct.unpack_from("<IHBB", token) == (77, 40123, 1, 0)
    assert token[8:] == bytes(16)
