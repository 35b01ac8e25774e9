import msgspec
import pytest

from appliance.api.errors import WIRE, Dialect, error_body, error_headers, status_of
from appliance.errors import Code, HearthError
from appliance.sdk import errors
from appliance.sdk.errors import ApiError, error_from_answer, error_from_event

KIND_OF_CODE = {
    Code.INVALID: errors.Invalid,
    Code.UNAUTHENTICATED: errors.Unauthenticated,
    Code.FORBIDDEN: errors.Forbidden,
    Code.NOT_FOUND: errors.NotFound,
    Code.CONFLICT: errors.Conflict,
    Code.FAILED_PRECONDITION: errors.FailedPrecondition,
    Code.TOO_LARGE: errors.TooLarge,
    Code.RATE_LIMITED: errors.RateLimited,
    Code.PAYMENT_REQUIRED: errors.PaymentRequired,
    Code.OVERLOADED: errors.Unavailable,
    Code.UNAVAILABLE: errors.Unavailable,
    Code.TIMEOUT: errors.Timeout,
    Code.UNIMPLEMENTED: errors.Unimplemented,
    Code.INTERNAL: errors.Internal,
}


DIALECTS = (Dialect.OPENAI, Dialect.GATEWAY)
"""Of the routes that the SDK calls."""


def encode(error: HearthError, dialect: Dialect) -> tuple[int, dict[str, str], bytes]:
    headers = {name.lower(): value for name, value in error_headers(error).items()}
    return status_of(error, dialect), headers, msgspec.json.encode(error_body(error, dialect, "req-1"))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("code", Code)
def test_every_code_of_the_server_has_its_exception_in_both_dialects(code: Code, dialect: Dialect) -> None:
    assert set(KIND_OF_CODE) == set(WIRE)
    answer = encode(HearthError(code, "it did not work", "field", 7.0, "SOME_REASON"), dialect)
    error = error_from_answer(*answer)
    assert type(error) is KIND_OF_CODE[code]
    assert (error.message, error.param, error.code) == ("it did not work", "field", "SOME_REASON")
    assert error.retry_after_s == 7.0
    assert error.status == answer[0]


def test_statuses_of_the_server_and_of_the_sdk_are_the_same_set() -> None:
    served = {wire.status for wire in WIRE.values()} | {wire.gateway_status for wire in WIRE.values()}
    assert served == set(errors.BY_STATUS)


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[1]", b'{"error": 3}', b"\xff\xfe"])
def test_an_answer_that_is_not_ours_still_says_its_status(body: bytes) -> None:
    error = error_from_answer(502, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, body)
    assert type(error) is ApiError
    assert "502" in error.message
    assert error.retry_after_s is None


def test_an_error_event_is_told_from_any_other_event() -> None:
    error = error_from_event(b'{"error": {"message": "worker lost", "code": "WORKER_LOST"}, "request_id": "r"}')
    assert error is not None
    assert (error.message, error.code, error.status) == ("worker lost", "WORKER_LOST", None)
    assert error_from_event(b'{"choices": []}') is None
