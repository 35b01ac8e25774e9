"""What a call can fail with. Catch `SdkError` for anything, `ApiError` for every refusal, a subclass for one kind.

SdkError
├── NoAnswer                 nothing, or not all, of an answer: daemon unreachable, hung up, took too long
└── ApiError                 an answer that is not success
    ├── Invalid              400  a field is missing or wrong; `param` names it
    ├── Unauthenticated      401
    ├── PaymentRequired      402
    ├── Forbidden            403
    ├── NotFound             404
    ├── Timeout              408, 504
    ├── Conflict             409
    ├── FailedPrecondition   412, from the control plane 400: well-formed, but not in the present state
    ├── TooLarge             413
    ├── RateLimited          429
    ├── Internal             500
    ├── Unimplemented        501
    └── Unavailable          503  starting, overloaded or gone; `retry_after_s` says when to ask again
"""

from collections.abc import Mapping

import msgspec

GRPC_FAILED_PRECONDITION = 9
"""The control plane's number that tells this from any other 400."""


class SdkError(Exception):
    """`message` is one line for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NoAnswer(SdkError):
    pass


class ApiError(SdkError):
    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """None when the error arrived inside a stream."""
        self.code = code
        """The wire's constant, such as NOT_FOUND or DEPLOYMENT_SCALING_UP, where the answer had one."""
        self.param = param
        self.retry_after_s = retry_after_s


class Invalid(ApiError):
    pass


class FailedPrecondition(ApiError):
    pass


class Unauthenticated(ApiError):
    pass


class PaymentRequired(ApiError):
    pass


class Forbidden(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class TooLarge(ApiError):
    pass


class RateLimited(ApiError):
    pass


class Internal(ApiError):
    pass


class Unimplemented(ApiError):
    pass


class Unavailable(ApiError):
    pass


class Timeout(ApiError):
    pass


BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    408: Timeout,
    409: Conflict,
    412: FailedPrecondition,
    413: TooLarge,
    429: RateLimited,
    500: Internal,
    501: Unimplemented,
    503: Unavailable,
    504: Timeout,
}
"""`api/errors.py`'s table read backwards; a test holds the two together."""


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct, rename="camel"):
    reason: str | None = None
    field_violations: list[_Violation] = []


class _GatewayError(msgspec.Struct):
    """The control plane's body."""

    code: int
    message: str
    details: list[_Detail] = []


class _OpenAiError(msgspec.Struct):
    message: str
    code: str | None = None
    param: str | None = None


class _OpenAiBody(msgspec.Struct):
    """The data plane's body, and its event inside a stream."""

    error: _OpenAiError


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The exception for an answer that is not success, whichever dialect its body speaks."""
    kind = BY_STATUS.get(status, ApiError)
    retry_after_s = _seconds(headers.get("retry-after"))
    match _decode(body):
        case _OpenAiBody(error=error):
            return kind(error.message, status, error.code, error.param, retry_after_s)
        case _GatewayError(code=number, message=message, details=details):
            if number == GRPC_FAILED_PRECONDITION:
                kind = FailedPrecondition
            reason = next((detail.reason for detail in details if detail.reason), None)
            param = next((violation.field for detail in details for violation in detail.field_violations), None)
            return kind(message, status, reason, param, retry_after_s)
        case None:
            return kind(f"the server answered {status} without saying why", status, retry_after_s=retry_after_s)


def error_from_event(event: bytes) -> ApiError | None:
    """The exception for an event that is an error; None for every other event."""
    try:
        error = msgspec.json.decode(event, type=_OpenAiBody).error
    except msgspec.DecodeError:
        return None
    return ApiError(error.message, code=error.code, param=error.param)


def _decode(body: bytes) -> _OpenAiBody | _GatewayError | None:
    kinds: list[type[_OpenAiBody] | type[_GatewayError]] = [_OpenAiBody, _GatewayError]
    for kind in kinds:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError:
            continue
    return None


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
