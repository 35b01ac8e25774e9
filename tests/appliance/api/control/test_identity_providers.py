import pytest

from appliance.domain import Role
from tests.appliance.api.conftest import Api
from tests.fakes.saml_provider import METADATA, with_prologue

PROVIDERS = "/v1/accounts/hearth/identityProviders"
CLIENT_SECRET = "client-canary-90cc"
OIDC: dict[str, object] = {
    "displayName": "Login",
    "oidcConfig": {"issuerUrl": "https://login.test", "clientId": "box", "clientSecret": CLIENT_SECRET},
    "tenantDomains": ["hearth.test"],
}


async def create(api: Api, body: dict[str, object]) -> dict[str, object]:
    async with api.session.post(PROVIDERS, json=body, headers=api.bearer(Role.ADMIN)) as response:
        answer: dict[str, object] = await response.json()
        assert response.status == 200, answer
    return answer


async def test_an_oidc_provider_is_shown_without_its_clients_secret(api: Api) -> None:
    created = await create(api, OIDC)
    assert created["oidcConfig"] == {"issuerUrl": "https://login.test", "clientId": "box"}
    assert (created["issuerUrl"], created["clientId"], created["state"]) == ("https://login.test", "box", "READY")
    assert (created["enableJitUserProvisioning"], created["jitDefaultRole"]) == (False, "inference-user")
    assert created["enforceSso"] is False
    url = f"/v1/{created['name']}"
    for role in Role:
        async with api.session.get(url, headers=api.bearer(role)) as response:
            assert await response.json() == created
    async with api.session.get(f"{PROVIDERS}?filter=displayName:log", headers=api.bearer()) as response:
        assert (await response.json())["identityProviders"] == [created]
    back = {**created, "displayName": "SSO", "oidcConfig": {"clientSecret": "other"}}
    async with api.session.patch(url, json=back, headers=api.bearer(Role.ADMIN)) as response:
        changed = await response.json()
        assert (response.status, changed["displayName"], changed["clientId"]) == (200, "SSO", "box")
    async with api.session.delete(url, headers=api.bearer(Role.ADMIN)) as response:
        assert (response.status, await response.json()) == (200, {})
    async with api.session.get(url, headers=api.bearer()) as response:
        assert response.status == 404


async def test_a_saml_provider_is_named_by_its_metadata(api: Api) -> None:
    body: dict[str, object] = {
        "samlConfig": {"metadataXml": METADATA},
        "tenantDomains": ["hearth.test"],
        "enableIdpInitiatedSso": True,
    }
    created = await create(api, body)
    assert created["samlConfig"] == {"metadataXml": METADATA}
    assert created["issuerUrl"] == "http://www.okta.com/exk1"
    assert "clientId" not in created


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"enforceSso": True}, "enforceSso"),
        ({"samlConfig": {"metadataUrl": "https://x.test"}}, "oidcConfig"),
        (
            {"oidcConfig": {"issuerUrl": "http://login.test", "clientId": "x", "clientSecret": "y"}},
            "oidcConfig.issuerUrl",
        ),
        ({"oidcConfig": {"issuerUrl": "https://login.test", "clientId": "x"}}, "oidcConfig.clientSecret"),
        ({"oidcConfig": None, "samlConfig": {"metadataXml": with_prologue("<!DOCTYPE x>")}}, "samlConfig.metadataXml"),
        ({"jitDefaultRole": "king"}, "jitDefaultRole"),
        ({"tenantDomains": ["hearth"]}, "tenantDomains"),
    ],
)
async def test_a_field_at_fault_is_named(api: Api, changes: dict[str, object], field: str) -> None:
    async with api.session.post(PROVIDERS, json={**OIDC, **changes}, headers=api.bearer(Role.ADMIN)) as response:
        answer = await response.json()
        assert response.status == 400, answer
        assert answer["details"][0]["fieldViolations"][0]["field"] == field
        assert CLIENT_SECRET not in str(answer)


async def test_only_administrators_change_providers(api: Api) -> None:
    for role in set(Role) - {Role.ADMIN}:
        async with api.session.post(PROVIDERS, json=OIDC, headers=api.bearer(role)) as response:
            assert response.status == 403
