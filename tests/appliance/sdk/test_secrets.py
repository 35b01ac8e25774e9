from appliance.sdk.secrets import Secrets
from tests.appliance.sdk.recording_transport import RecordingTransport

SECRETS = "/v1/accounts/acme/secrets"
WANDB = {"name": "accounts/acme/secrets/wandb", "keyName": "WANDB_API_KEY"}


def test_a_value_goes_in_and_a_name_comes_back() -> None:
    transport = RecordingTransport(WANDB, WANDB, WANDB, {}, {"secrets": [WANDB]})
    secrets = Secrets(transport)
    assert secrets.create("wandb", key_name="WANDB_API_KEY", value="v").key_name == "WANDB_API_KEY"
    secrets.update("wandb", value="w")
    secrets.get("accounts/acme/secrets/wandb")
    secrets.delete("wandb")
    assert [secret.name for secret in secrets.list()] == ["accounts/acme/secrets/wandb"]
    assert [(call.method, call.path, call.body) for call in transport.calls] == [
        ("POST", SECRETS, {"name": "wandb", "keyName": "WANDB_API_KEY", "value": "v"}),
        ("PATCH", f"{SECRETS}/wandb", {"value": "w"}),
        ("GET", f"{SECRETS}/wandb", None),
        ("DELETE", f"{SECRETS}/wandb", None),
        ("GET", SECRETS, None),
    ]
