"""The `fireworks-ai` package, 1.x: its methods for accounts, users, API keys and secrets (flow 20)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import fireworks
import httpx
import pytest
from fireworks import Fireworks

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess

VALUE = "sk-canary-e2e-5b21"


def as_whom(daemon: DaemonProcess, key: str) -> Fireworks:
    return Fireworks(base_url=daemon.base_url, api_key=key, account_id="hearth", max_retries=0)


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with as_whom(daemon, daemon.api_key) as client:
        yield client


@pytest.fixture
def bot(client: Fireworks, daemon: DaemonProcess) -> Iterator[str]:
    """A service account that is gone afterwards."""
    client.users.create(role="inference-user", user_id="flow-bot", service_account=True, email="flow@hearth.test")
    yield "flow-bot"
    with daemon.client() as http:
        http.delete("/v1/accounts/hearth/users/flow-bot").raise_for_status()


def ask(client: Fireworks) -> str:
    answer = client.chat.completions.create(
        model=EMBER, messages=[{"role": "user", "content": "What is Hearth?"}], max_tokens=4
    )
    content = answer.choices[0].message.content
    assert isinstance(content, str)
    return content


def test_the_callers_account_is_listed(client: Fireworks) -> None:
    names = [account.name for account in client.accounts.list() if account is not None]
    assert "accounts/hearth" in names
    assert client.accounts.get().suspend_state == "UNSUSPENDED"


def test_a_key_is_shown_once_works_and_stops_working(client: Fireworks, daemon: DaemonProcess, bot: str) -> None:
    expires = datetime.now(UTC) + timedelta(days=1)
    created = client.api_keys.create(bot, api_key={"display_name": "ci", "expire_time": expires})
    assert created.key is not None
    assert created.key_id is not None
    assert (created.email, created.secure) == ("flow@hearth.test", True)
    with as_whom(daemon, created.key) as other:
        assert ask(other)
        with pytest.raises(fireworks.PermissionDeniedError):
            other.models.create(model_id="x")
        (listed,) = [key for key in client.api_keys.list(bot) if key is not None]
        assert (listed.key, listed.key_id, listed.prefix) == (None, created.key_id, f"fw_{created.key_id}")
        client.api_keys.delete(bot, key_id=created.key_id)
        with pytest.raises(fireworks.AuthenticationError):
            ask(other)
    assert [key for key in client.api_keys.list(bot) if key is not None] == []


def test_a_users_role_counts_for_its_key_at_once(client: Fireworks, daemon: DaemonProcess, bot: str) -> None:
    created = client.api_keys.create(bot, api_key={})
    assert created.key is not None
    with as_whom(daemon, created.key) as other:
        with pytest.raises(fireworks.PermissionDeniedError):
            other.secrets.create(name="flow", key_name="FLOW", value="x")
        assert client.users.update(bot, role="admin").role == "admin"
        other.secrets.create(name="flow", key_name="FLOW", value="x")
        other.secrets.delete("flow")
        client.users.update(bot, role="inference-user")
        with pytest.raises(fireworks.PermissionDeniedError):
            other.secrets.delete("flow")
    found = {user.name: user.role for user in client.users.list(page_size=1) if user is not None}
    assert found[f"accounts/hearth/users/{bot}"] == "inference-user"
    assert client.users.get(bot).service_account


def test_a_secret_goes_in_and_never_comes_out(client: Fireworks, daemon: DaemonProcess) -> None:
    name = "accounts/hearth/secrets/flow-secret"
    created = client.secrets.create(name=name, key_name="FLOW_SECRET", value=VALUE)
    assert (created.name, created.value) == (name, None)
    assert client.secrets.get("flow-secret").value is None
    assert client.secrets.update("flow-secret", key_name="FLOW", value=f"{VALUE}-2").key_name == "FLOW"
    assert name in [secret.name for secret in client.secrets.list() if secret is not None]
    client.secrets.delete("flow-secret")
    with pytest.raises(fireworks.NotFoundError):
        client.secrets.get("flow-secret")
    for path in daemon.data_dir.rglob("hearth.db*"):
        assert VALUE.encode() not in path.read_bytes(), path
    assert VALUE not in daemon.log()


def test_refusals_are_the_clients_own_exceptions(client: Fireworks, daemon: DaemonProcess) -> None:
    """Flow 21."""
    with as_whom(daemon, "fw_wrong") as stranger, pytest.raises(fireworks.AuthenticationError):
        stranger.users.get("admin")
    with pytest.raises(fireworks.NotFoundError):
        client.chat.completions.create(model="accounts/hearth/models/none", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(fireworks.NotFoundError):
        client.users.get("nobody")
    with pytest.raises(fireworks.BadRequestError, match="last administrator"):
        client.users.update("admin", role="user")


def test_a_suspended_account_reads_and_asks_for_nothing(client: Fireworks, daemon: DaemonProcess) -> None:
    with daemon.client() as http:
        answer = http.post("/v1/accounts", json={"accountId": "flow-tenant"}).raise_for_status().json()
        http.post("/v1/accounts/flow-tenant:suspend", json={}).raise_for_status()
        with Fireworks(
            base_url=daemon.base_url, api_key=answer["apiKey"]["key"], account_id="flow-tenant", max_retries=0
        ) as tenant:
            assert tenant.accounts.get().suspend_state == "BLOCKED_BY_ABUSE_RULE"
            with pytest.raises(fireworks.APIStatusError) as caught:
                ask(tenant)
            assert caught.value.status_code == httpx.codes.PRECONDITION_FAILED
            http.post("/v1/accounts/flow-tenant:unsuspend").raise_for_status()
            assert ask(tenant)
