"""What who meets a quota is told."""

from appliance.domain import QuotaMetric
from appliance.errors import Code
from appliance.services.quota_errors import budget_error, quota_error
from appliance.services.spending import Subject


def test_a_refusal_names_quota_subject_limit_and_usage() -> None:
    error = quota_error(Code.RATE_LIMITED, Subject("acme", "users/ada"), QuotaMetric.REQUESTS, 1000, 1000, "wait")
    assert error.message == (
        "the quota requests-per-minute of accounts/acme/users/ada is 1,000, of which 1,000 are used; wait"
    )
    assert error.details == {"quota": "requests-per-minute", "limit": 1000, "usage": 1000}


def test_a_budget_that_is_used_up_is_no_matter_of_waiting() -> None:
    error = budget_error(Subject("acme"), QuotaMetric.MONTHLY_SPEND, 5, 4.999)
    assert (error.code, error.reason, error.retry_after_s) == (Code.PAYMENT_REQUIRED, "QUOTA_EXCEEDED", None)
    assert error.message.endswith("is 5, of which 5.0 are used")
