"""The one table of what can be limited."""

from appliance.domain import QuotaMetric
from appliance.services.levels import LEVELS
from appliance.services.quota_metrics import MEANINGS, Kind, applies
from appliance.services.spending import BUDGETS


def test_every_metric_is_explained_and_kept_in_one_way() -> None:
    assert set(MEANINGS) == set(QuotaMetric)
    by_kind = {kind: {metric for metric, meaning in MEANINGS.items() if meaning.kind is kind} for kind in Kind}
    assert by_kind[Kind.LEVEL] == set(LEVELS)
    assert by_kind[Kind.BUDGET] == set(BUDGETS)


def test_what_cannot_be_told_apart_by_user_is_the_accounts() -> None:
    assert applies(QuotaMetric.REPLICAS, "")
    assert not applies(QuotaMetric.REPLICAS, "users/ada")
    assert applies(QuotaMetric.MONTHLY_TOKENS, "apiKeys/k")
