"""The one exception the daemon raises on purpose, and the closed set of codes it may carry.

Everything else that escapes a handler is a bug: `api/errors.py` answers it with code `internal` and an id.
"""

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    """What went wrong, independent of any transport. `api/errors.py` maps each to HTTP exactly once."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FAILED_PRECONDITION = "failed_precondition"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    PAYMENT_REQUIRED = "payment_required"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"


class HearthError(Exception):
    """An answer that is not success. `message` is shown to the client: no paths, no other tenant's names."""

    def __init__(
        self,
        code: Code,
        message: str,
        param: str | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        """The request field at fault, as the client spells it."""
        self.retry_after_s = retry_after_s
        self.reason = reason
        """A wire constant finer than the code that clients match on, such as DEPLOYMENT_SCALING_UP."""
        self.details = details or {}
        """What a program may want to read apart from `message`: further members of the error, by wire name."""
