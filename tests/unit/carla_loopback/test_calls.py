import pytest

pytest.importorskip("msgpack")

from dyncity_carla.loopback.calls import CallLog


def test_the_last_calls_are_kept_and_all_are_counted():
    log = CallLog(kept=3)
    for number in range(5):
        log.add(log.begin(), 1, "tick_cue" if number % 2 else "version", [[False], number], frame=number)
    assert log.counts == {"version": 3, "tick_cue": 2}
    assert [call.shown()["args"][1] for call in log.select(None, 0, 10)] == [2, 3, 4]
    assert [call.number for call in log.select("tick_cue", 0, 10)] == [4]
    assert [call.number for call in log.select(None, 3, 1)] == [5]


def test_a_violation_is_kept_when_its_call_no_longer_is():
    log = CallLog(kept=1)
    log.add(log.begin(), 1, "fly", [[False]], 0, violation="no such method")
    log.add(log.begin(), 1, "version", [[False]], 0)
    assert log.violations == ["call 1 of fly: no such method"]
