import pytest

from appliance.sdk.addresses import is_loopback


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "http://127.9.9.9"])
def test_this_machine_is_loopback(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "https://api.example.com", "http://127.0.0.1.example.com", "no url"]
)
def test_other_machines_are_not_loopback(url: str) -> None:
    assert not is_loopback(url)
