import pytest
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DeadlineError,
    InvalidInputError,
    RemoteError,
    StorageError,
    UnavailableError,
    UnsupportedConditionError,
)
from dyncity_sim.wire.status import error_from_status, internal_status, status_from_error

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def round_trip(error):
    status = status_from_error(error)
    assert status is not None
    back = error_from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert type(back) is type(error)
    return back


@given(words, words, words, st.just("") | words)
def test_an_invalid_input_keeps_its_four_parts(field, got, expected, mend):
    back = round_trip(InvalidInputError(field, got, expected, mend))
    assert (back.field, back.got, back.expected, back.mend) == (field, got, expected, mend)


@given(words, st.floats(0, 1e5))
def test_busy_keeps_its_hint_and_says_it_once(message, retry_after_s):
    error = BusyError(message, retry_after_s)
    back = round_trip(error)
    assert back.retry_after_s == pytest.approx(retry_after_s, abs=1e-8)
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", [UnsupportedConditionError, DeadlineError, UnavailableError])
def test_plain_errors_keep_kind_and_message(kind):
    assert str(round_trip(kind("what happened"))) == "what happened"


@pytest.mark.parametrize(
    "error", [CheckpointError("w", 1, "2"), ConfigError("c", 1, "2"), StorageError("disk"), RemoteError("r")]
)
def test_trouble_of_the_server_itself_is_not_told(error):
    assert status_from_error(error) is None


def test_an_internal_status_is_a_remote_error_with_the_incident():
    error = error_from_status(internal_status("abc123"))
    assert type(error) is RemoteError
    assert "abc123" in str(error)


def test_a_long_value_is_cut_to_fit_into_grpc_metadata():
    status = status_from_error(InvalidInputError("f" * 9999, "g" * 9999, "e" * 9999, "m" * 9999))
    assert status.ByteSize() < 4096


def test_exhaustion_without_a_retry_hint_is_a_message_over_the_limit():
    error = error_from_status(status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="larger than max"))
    assert type(error) is InvalidInputError
    assert error.field == "message"
