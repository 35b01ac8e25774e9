"""Every quota that there is: what it limits, in which unit, and how it is kept."""

from enum import Enum, auto
from typing import NamedTuple

from appliance.domain import QuotaMetric


class Kind(Enum):
    RATE = auto()
    """Within any minute; in memory. A refusal says how long to wait."""
    BUDGET = auto()
    """Within a month of UTC; exact after a crash. What is used up is used up."""
    LEVEL = auto()
    """At once; counted from what there is."""


class Meaning(NamedTuple):
    kind: Kind
    unit: str
    text: str
    is_of_account_only: bool = False
    """Users and keys have none."""


MEANINGS: dict[QuotaMetric, Meaning] = {
    QuotaMetric.SERVERLESS_REQUESTS: Meaning(
        Kind.RATE, "requests", "Requests per minute to models that the appliance deploys by itself."
    ),
    QuotaMetric.REQUESTS: Meaning(Kind.RATE, "requests", "Requests per minute to all models."),
    QuotaMetric.PROMPT_TOKENS: Meaning(Kind.RATE, "tokens", "Tokens of prompts per minute."),
    QuotaMetric.GENERATED_TOKENS: Meaning(Kind.RATE, "tokens", "Tokens of answers per minute."),
    QuotaMetric.MONTHLY_TOKENS: Meaning(Kind.BUDGET, "tokens", "Tokens of prompts and answers per month."),
    QuotaMetric.MONTHLY_ACCELERATOR_SECONDS: Meaning(
        Kind.BUDGET, "seconds", "Device seconds of the account's deployments per month.", is_of_account_only=True
    ),
    QuotaMetric.MONTHLY_SPEND: Meaning(
        Kind.BUDGET, "currency", "Cost per month by the price table, in its currency; needs one."
    ),
    QuotaMetric.REPLICAS: Meaning(
        Kind.LEVEL, "replicas", "Sum of maxReplicaCount of the account's deployments.", is_of_account_only=True
    ),
    QuotaMetric.DISK_BYTES: Meaning(
        Kind.LEVEL, "bytes", "Size of the account's models and datasets.", is_of_account_only=True
    ),
}


def applies(metric: QuotaMetric, subject_path: str) -> bool:
    return not (subject_path and MEANINGS[metric].is_of_account_only)
