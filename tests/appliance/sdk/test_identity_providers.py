from appliance.sdk.identity_providers import IdentityProviders
from tests.appliance.sdk.recording_transport import RecordingTransport

PROVIDERS = "/v1/accounts/acme/identityProviders"
LOGIN = {"name": "accounts/acme/identityProviders/x", "oidcConfig": {"clientId": "box"}}


def test_what_is_not_said_is_left_to_the_server() -> None:
    transport = RecordingTransport(LOGIN, LOGIN, LOGIN, {}, {"identityProviders": [LOGIN]})
    providers = IdentityProviders(transport)
    created = providers.create(oidc_config={"clientId": "box"}, saml_config=None)
    assert created.oidc_config is not None
    assert (created.oidc_config.client_id, created.saml_config) == ("box", None)
    providers.update("x", enable_jit_user_provisioning=False)
    providers.get("x")
    providers.delete("x")
    assert len(list(providers.list())) == 1
    assert [(call.method, call.path, call.body) for call in transport.calls] == [
        ("POST", PROVIDERS, {"oidcConfig": {"clientId": "box"}}),
        ("PATCH", f"{PROVIDERS}/x", {"enableJitUserProvisioning": False}),
        ("GET", f"{PROVIDERS}/x", None),
        ("DELETE", f"{PROVIDERS}/x", None),
        ("GET", PROVIDERS, None),
    ]
