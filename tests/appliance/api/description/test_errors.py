"""Which statuses belong to which route stands in test_operations.py; here, what is shared by all."""

import json

import jsonschema_rs
import pytest

from appliance.api.app import ROUTES
from appliance.api.errors import WIRE, Dialect, error_body, error_headers, status_of
from appliance.api.openapi import describe
from appliance.errors import Code, HearthError

DOCUMENT = describe(ROUTES)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("code", WIRE)
def test_every_refusal_is_as_it_is_described(code: Code, dialect: Dialect) -> None:
    error = HearthError(code, "no", "field", retry_after_s=1.5, reason="WHY", details={"free_bytes": 3})
    response = DOCUMENT["components"]["responses"][f"{dialect}{status_of(error, dialect)}"]
    schema = response["content"]["application/json"]["schema"]
    body = json.loads(json.dumps(error_body(error, dialect, "id")))
    jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, body)
    assert set(error_headers(error)) <= set(response["headers"]) | {"Retry-After"}
