"""The headers that tell a client how much its rate limits leave. A minute's limits, where there are any."""

from collections.abc import Sequence

from appliance.api.errors import OVER_LIMIT_HEADER
from appliance.domain import QuotaMetric
from appliance.services.admission import Headroom

_NAMES = {
    QuotaMetric.REQUESTS: "requests",
    QuotaMetric.PROMPT_TOKENS: "tokens-prompt",
    QuotaMetric.GENERATED_TOKENS: "tokens-generated",
}
LIMIT, REMAINING = "x-ratelimit-limit-", "x-ratelimit-remaining-"
MEANINGS = {
    OVER_LIMIT_HEADER: "no, where there is a limit by time.",
    **{LIMIT + name: "Within a minute; the tightest limit of key, user and account." for name in _NAMES.values()},
    **{REMAINING + name: "What is left of it." for name in _NAMES.values()},
}
"""Of each header, for /openapi.json."""


def rate_limit_headers(headroom: Sequence[Headroom]) -> dict[str, str]:
    if not headroom:
        return {}
    headers = {OVER_LIMIT_HEADER: "no"}
    for room in headroom:
        name = _NAMES[room.metric]
        headers[LIMIT + name] = str(room.limit)
        headers[REMAINING + name] = str(room.remaining)
    return headers
