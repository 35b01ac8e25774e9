from appliance.api.app import ROUTES
from appliance.api.openapi import describe
from tests.appliance.api.description.test_operations import responses_of


def test_a_creation_leads_to_what_was_created() -> None:
    created = describe(ROUTES)["paths"]["/v1/accounts/{account_id}/models"]["post"]["responses"]["200"]
    assert created["links"]["get_model"] == {
        "operationId": "get_model",
        "parameters": {"model_id": "$response.body#/name", "account_id": "$request.path.account_id"},
    }
    assert {"delete_model", "validate_model_upload"} <= set(created["links"])


def test_what_creates_nothing_leads_nowhere() -> None:
    for route in ROUTES:
        if route.method != "POST" or ":" in route.path:
            assert "links" not in responses_of(route)["200"]
