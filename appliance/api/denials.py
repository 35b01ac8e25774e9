"""Which refusals the audit log hears of: wrong keys, missing permission, other accounts' resources, broken limits.

Inference requests are not in that log, for usage has them by key; those that are refused are. Tells names and ids that
have the form of such, never a key, a token or anything else that a client sent.
"""

import re

from aiohttp import web

from appliance.api.auth import origin_of
from appliance.api.routing import PRINCIPAL, ROUTE, services
from appliance.errors import Code, HearthError
from appliance.services.audit_denials import OUTCOMES, Attempt

_ID = re.compile(r"[a-z0-9-]{1,63}")
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_PREFIX = re.compile(r"/(?:inference/)?v1/")
UNTOLD = "?"


def note_denial(request: web.Request, error: HearthError) -> None:
    """Of a request whose route is known."""
    if error.code not in OUTCOMES or (error.code is Code.NOT_FOUND and not _is_across_accounts(request)):
        return
    attempt = Attempt(request.get(PRINCIPAL), origin_of(request), _resource(request))
    services(request).audit_logs.denials.note(attempt, error.code)


def _is_across_accounts(request: web.Request) -> bool:
    """Everybody may look into the library, where what is missing is just that."""
    principal, account_id = request.get(PRINCIPAL), request.match_info.get("account_id")
    library = services(request).config.identity.library_account_id
    return principal is not None and account_id not in (None, principal.account_id, library)


def _resource(request: web.Request) -> str:
    """The route's path with the ids of this request: `accounts/acme/models/m`."""

    def told(parameter: re.Match[str]) -> str:
        value = request.match_info.get(parameter[1], "")
        return value if parameter[1].endswith("_id") and _ID.fullmatch(value) else UNTOLD

    return _PARAMETER.sub(told, _PREFIX.sub("", request[ROUTE].path, count=1)).lstrip("/")
