import pytest
from dyncity_carla.loopback.faults import FAULTS, Faults, checked_fault, parse_fault

from dyncity_sim.errors import InvalidInputError


@pytest.mark.parametrize("name", list(FAULTS))
def test_every_fault_may_be_named_without_parameters(name: str):
    assert parse_fault(name)[1].keys() == FAULTS[name].keys()


def test_parameters_are_read_as_their_types():
    assert parse_fault("slow:method=tick_cue,seconds=2.5,count=3") == (
        "slow",
        {"method": "tick_cue", "seconds": 2.5, "count": 3},
    )


@pytest.mark.parametrize(
    "text", ["fast", "slow:what=x", "slow:seconds=long", "die:in_ticks=", "slow:seconds=nan", "stall:seconds=-1"]
)
def test_a_fault_that_is_not_understood_is_refused(text: str):
    with pytest.raises(InvalidInputError, match="fault"):
        parse_fault(text)


def test_as_many_frames_are_lost_as_were_asked_for():
    faults = Faults()
    faults.turn_on("lose-sensor-frames", checked_fault("lose-sensor-frames", {"count": 2, "sensor": 30}))
    assert [faults.loses_frame_of(sensor) for sensor in (31, 30, 30, 30)] == [False, True, True, False]


async def test_as_many_replies_are_slow_as_were_asked_for():
    faults = Faults()
    faults.turn_on("slow", {"method": "tick_cue", "seconds": 0.0, "count": 2})
    for method in ("version", "tick_cue", "tick_cue", "tick_cue"):
        await faults.hold_up(method)
    assert faults.slow[0].count == 0


def test_channels_drop_after_so_many_ticks():
    faults = Faults()
    faults.turn_on("drop", {"channel": "stream", "in_ticks": 3})
    assert [faults.channels_to_drop() for _ in range(4)] == [[], [], ["stream"], []]


def test_clearing_turns_everything_off():
    faults = Faults()
    faults.turn_on("version", {"text": "0.9.13"})
    faults.turn_on("die", {"in_ticks": 1})
    faults.clear()
    assert faults == Faults()
