from appliance.sdk.billing import DEVICES, Billing, Money
from appliance.services import usage
from tests.appliance.sdk.recording_transport import RecordingTransport

WINDOW = {"startTime": "a", "endTime": "b"}


def test_usage_is_asked_for_by_window_and_group() -> None:
    transport = RecordingTransport({"serverlessCosts": [{"promptTokens": "7", "group": {"model_name": "m"}}]})
    usage = Billing(transport).usage("a", "b", group_by="model_name")
    assert usage.serverless_costs[0].prompt_tokens == "7"
    (call,) = transport.calls
    assert call.path == "/v1/accounts/acme/billingUsage"
    assert {name: value for name, value in call.query.items() if value} == {**WINDOW, "groupBy": "model_name"}


def test_a_summary_has_lines_with_costs() -> None:
    item = {"category": "Device hours", "quantity": 1.5, "totalCost": {"currencyCode": "USD", "units": "1"}}
    transport = RecordingTransport({"lineItems": [item]})
    (line,) = Billing(transport).summary("a", "b").line_items
    assert line.total_cost == Money(currency_code="USD", units="1")
    assert transport.calls[0].path == "/v1/accounts/acme/billing/summary"


def test_the_type_of_device_time_is_what_the_server_calls_it() -> None:
    assert DEVICES == usage.DEVICES


def test_money_is_units_and_billionths() -> None:
    assert Money(currency_code="USD", units="2", nanos=500_000_000).amount == 2.5


def test_the_table_comes_as_text() -> None:
    transport = RecordingTransport("email\n")
    assert Billing(transport).metrics("a", "b") == '"email\\n"'
    assert (transport.calls[0].path, transport.calls[0].query) == ("/v1/accounts/acme/billing:exportMetrics", WINDOW)
