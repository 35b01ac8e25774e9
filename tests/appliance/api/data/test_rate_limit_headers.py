from appliance.api.data.rate_limit_headers import rate_limit_headers
from appliance.domain import QuotaMetric
from appliance.services.admission import Headroom


def test_without_limits_nothing_is_said() -> None:
    assert rate_limit_headers([]) == {}


def test_each_limit_has_two_headers() -> None:
    headroom = [Headroom(QuotaMetric.REQUESTS, 10, 9), Headroom(QuotaMetric.PROMPT_TOKENS, 500, 0)]
    assert rate_limit_headers(headroom) == {
        "x-ratelimit-over-limit": "no",
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-limit-tokens-prompt": "500",
        "x-ratelimit-remaining-tokens-prompt": "0",
    }
