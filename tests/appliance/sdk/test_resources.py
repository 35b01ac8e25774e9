import pytest

from appliance.sdk.models import Models
from tests.appliance.sdk.recording_transport import RecordingTransport


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("m", "/v1/accounts/acme/models/m"),
        ("accounts/fireworks/models/m", "/v1/accounts/fireworks/models/m"),
        ("accounts/acme/deployments/m", "/v1/accounts/acme/models/accounts%2Facme%2Fdeployments%2Fm"),
        ("../../x?y", "/v1/accounts/acme/models/..%2F..%2Fx%3Fy"),
    ],
)
def test_a_name_becomes_one_path_segment_of_its_own_account(named: str, path: str) -> None:
    transport = RecordingTransport({"name": "whatever"})
    Models(transport).get(named)
    assert transport.calls[0].path == path
