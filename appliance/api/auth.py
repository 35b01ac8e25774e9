"""Who asks, and whether the route lets them: key -> Principal -> role -> permission.

Runs on the route that matched, never on a path. Whether an object belongs to the caller is for the services.
"""

import time
from collections import OrderedDict

import msgspec
from aiohttp import web

from appliance.api.routing import PRINCIPAL, ROUTE, Permission, request_id, services
from appliance.domain import Origin, Role
from appliance.errors import Code, HearthError
from appliance.services.access import require_not_suspended

OF_EVERY_ROLE = frozenset({Permission.INFER, Permission.READ, Permission.OWN_KEYS})
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.INFERENCE_USER: OF_EVERY_ROLE,
    Role.CONTRIBUTOR: OF_EVERY_ROLE | {Permission.WRITE},
    Role.USER: OF_EVERY_ROLE | {Permission.WRITE},
    Role.ADMIN: OF_EVERY_ROLE | {Permission.WRITE, Permission.ADMIN},
}
WITHOUT_KEY = frozenset({Permission.PUBLIC, Permission.SIGNED_URL})
READING_METHODS = frozenset({"GET", "HEAD"})
KEY_LENGTH_MAX = 512
USER_AGENT_LENGTH_MAX = 200


class FailureLimiter:
    """Counts refused keys per address in windows of a minute.

    A right key always passes: keys are too long to guess, so the limit protects the store from a flood of
    look-ups' answers, and one misconfigured client must not lock out its neighbours behind the same address.
    """

    ADDRESSES_MAX = 10_000

    def __init__(self, failures_per_minute: int) -> None:
        self._failures_per_minute = failures_per_minute
        self._windows: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def record(self, address: str, now: float) -> float | None:
        """Count one failure; the seconds until the window ends once the address is over the limit."""
        minute = int(now // 60)
        started, failures = self._windows.pop(address, (minute, 0))
        failures = failures + 1 if started == minute else 1
        self._windows[address] = (minute, failures)
        if len(self._windows) > self.ADDRESSES_MAX:
            self._windows.popitem(last=False)
        return (minute + 1) * 60 - now if failures > self._failures_per_minute else None


FAILURES = web.AppKey("failures", FailureLimiter)


async def authorise(request: web.Request, permission: Permission) -> None:
    """Put the Principal on the request, or raise `unauthenticated`, `rate_limited` or `forbidden`."""
    if permission in WITHOUT_KEY:
        return
    try:
        principal = await services(request).identity.authenticate(_presented_key(request))
    except HearthError as error:
        if error.code is Code.UNAUTHENTICATED:
            _refuse_flood(request)
        raise
    request[PRINCIPAL] = msgspec.structs.replace(principal, origin=origin_of(request))
    if permission not in ROLE_PERMISSIONS[principal.role]:
        raise HearthError(Code.FORBIDDEN, f"the role {principal.role} may not do this; it needs {permission} access")
    if not _is_read(request, permission):
        require_not_suspended(principal)


def _is_read(request: web.Request, permission: Permission) -> bool:
    """What a suspended account may still do."""
    if permission in (Permission.ADMIN, Permission.OWN_KEYS):
        return request.method in READING_METHODS
    return permission is Permission.READ


def origin_of(request: web.Request) -> Origin:
    return Origin(
        method=request[ROUTE].rpc_name,
        request_id=request_id(request),
        client_address=request.remote or "",
        user_agent=request.headers.get("User-Agent", "")[:USER_AGENT_LENGTH_MAX],
    )


def _refuse_flood(request: web.Request) -> None:
    wait_s = request.app[FAILURES].record(request.remote or "", time.monotonic())
    if wait_s is not None:
        raise HearthError(Code.RATE_LIMITED, "too many requests with a wrong API key", retry_after_s=wait_s)


def _presented_key(request: web.Request) -> str:
    """`Authorization: Bearer KEY` in any case, a bare key, or `X-Api-Key`; several different ones are refused.

    A query is kept in histories and logs of others, so that it holds a key only where there is no other way.
    """
    values = {_strip_scheme(value) for value in request.headers.getall("Authorization", [])}
    values |= {value.strip() for value in request.headers.getall("X-Api-Key", [])}
    if request[ROUTE].is_websocket:
        values |= {_strip_scheme(value) for value in request.query.getall("Authorization", [])}
    if len(values) != 1 or len(request.headers.getall("Authorization", [])) > 1:
        raise _unauthenticated("send one API key, as `Authorization: Bearer KEY`")
    (key,) = values
    if not key or len(key) > KEY_LENGTH_MAX:
        raise _unauthenticated("the API key is malformed")
    return key


def _strip_scheme(value: str) -> str:
    scheme, separator, rest = value.strip().partition(" ")
    if not separator:
        return scheme
    if scheme.lower() != "bearer":
        raise _unauthenticated("the Authorization scheme must be Bearer")
    return rest.strip()


def _unauthenticated(message: str) -> HearthError:
    return HearthError(Code.UNAUTHENTICATED, message)
