"""What who meets a quota is told: which, whose, how much it is, how much of it is used."""

from appliance.domain import QuotaMetric
from appliance.errors import Code, HearthError
from appliance.services.spending import Subject

QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
"""Reason of refusals that waiting does not help."""


def budget_error(subject: Subject, metric: QuotaMetric, limit: int, usage: float, wish: str = "") -> HearthError:
    """The month's are used up, or would be."""
    return quota_error(Code.PAYMENT_REQUIRED, subject, metric, limit, usage, wish, reason=QUOTA_EXCEEDED)


def quota_error(
    code: Code,
    subject: Subject,
    metric: QuotaMetric,
    limit: int,
    usage: float,
    wish: str = "",
    *,
    reason: str | None = None,
    retry_after_s: float | None = None,
) -> HearthError:
    message = f"the quota {metric} of {subject} is {limit:,}, of which {round(usage, 2):,} are used"
    return HearthError(
        code,
        f"{message}; {wish}" if wish else message,
        retry_after_s=retry_after_s,
        reason=reason,
        details={"quota": metric.value, "limit": limit, "usage": usage},
    )
