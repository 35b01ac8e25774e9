"""Usage and bills as a client sees them. Times are RFC 3339, and a window has at most 31 days."""

from appliance.sdk.resources import Resource, Transport, account_path

DEVICES = "DEPLOYMENT_USAGE"
"""Usage type of the time of devices; the others are of what requests used."""


class Money(Resource, frozen=True, kw_only=True):
    currency_code: str
    units: str = "0"
    nanos: int = 0

    @property
    def amount(self) -> float:
        return int(self.units) + self.nanos / 1e9


class DailyUsage(Resource, frozen=True, kw_only=True):
    """What one group used on one day."""

    start_time: str = ""
    end_time: str = ""
    usage_type: str = ""
    request_count: str = "0"
    prompt_tokens: str = "0"
    cached_prompt_tokens: str = "0"
    completion_tokens: str = "0"
    audio_input_seconds: float = 0.0
    image_count: str = "0"
    cost: Money | None = None
    group: dict[str, str] = {}


class ServerlessUsage(DailyUsage, frozen=True, kw_only=True):
    """Tokens, sound and pictures on deployments that other accounts use as well."""

    model_name: str = ""
    api_key_id: str = ""


class DedicatedUsage(DailyUsage, frozen=True, kw_only=True):
    """Of the account's own deployments: the time of their devices, and what they did in it."""

    deployment_id: str = ""
    base_model: str = ""
    accelerator_type: str = ""
    accelerator_seconds: str = "0"


class AccountUsage(Resource, frozen=True, kw_only=True):
    serverless_costs: list[ServerlessUsage] = []
    dedicated_costs: list[DedicatedUsage] = []


class LineItem(Resource, frozen=True, kw_only=True):
    category: str
    grouping_key: str = ""
    grouping_value: str = ""
    secondary_grouping_key: str = ""
    secondary_grouping_value: str = ""
    quantity: float = 0.0
    unit_amount: Money | None = None
    total_cost: Money | None = None


class BillingSummary(Resource, frozen=True, kw_only=True):
    line_items: list[LineItem] = []


class Billing:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def usage(
        self, start_time: str, end_time: str, *, usage_type: str = "", timezone: str = "", group_by: str = ""
    ) -> AccountUsage:
        """By day; `group_by` is a list of names with commas between."""
        query = _window(start_time, end_time) | {"usageType": usage_type, "timezone": timezone, "groupBy": group_by}
        return self._transport.call("GET", f"{self._path}/billingUsage", AccountUsage, query)

    def summary(self, start_time: str, end_time: str) -> BillingSummary:
        path = f"{self._path}/billing/summary"
        return self._transport.call("GET", path, BillingSummary, _window(start_time, end_time))

    def metrics(self, start_time: str, end_time: str) -> str:
        """A table for spreadsheets, as text."""
        return self._transport.text(f"{self._path}/billing:exportMetrics", _window(start_time, end_time))

    @property
    def _path(self) -> str:
        return account_path(self._transport.account_id)


def _window(start_time: str, end_time: str) -> dict[str, object]:
    return {"startTime": start_time, "endTime": end_time}
