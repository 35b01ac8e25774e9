import os
from collections.abc import Awaitable
from pathlib import Path

import pytest

from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.services.keyring import Keyring
from appliance.services.secrets import PURPOSE, SecretAsk, Secrets
from appliance.store.database import Database
from tests.appliance.services.people import CONTRIBUTOR, FOREIGN_ADMIN, ROOT, audited, put_people
from tests.appliance.services.samples import principal
from tests.fakes.fake_clock import FakeClock

VALUE = "sk-canary-1f0a7c"
WANDB = SecretAsk(key_name="WANDB_API_KEY", value=VALUE)
KEYRING = Keyring(b"m" * 32)


@pytest.fixture
async def secrets(database: Database) -> Secrets:
    await put_people(database)
    return Secrets(database, KEYRING)


async def refusal(attempt: Awaitable[object]) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt
    return caught.value


def stored_bytes(directory: Path) -> bytes:
    return b"".join((directory / name).read_bytes() for name in os.listdir(directory))


@pytest.mark.parametrize("name", ["wandb", "accounts/acme/secrets/wandb"])
async def test_a_value_is_sealed_to_its_name_and_in_no_file(secrets: Secrets, tmp_path: Path, name: str) -> None:
    secret = await secrets.create(ROOT, "acme", name, WANDB)
    assert secret.name == "accounts/acme/secrets/wandb"
    assert KEYRING.unseal(PURPOSE, secret.sealed_value, secret.name) == VALUE.encode()
    with pytest.raises(HearthError):
        KEYRING.unseal(PURPOSE, secret.sealed_value, "accounts/globex/secrets/wandb")
    await secrets.update(ROOT, "acme", "wandb", SecretAsk(value=f"{VALUE}-2"))
    assert b"WANDB_API_KEY" in stored_bytes(tmp_path)
    assert VALUE.encode() not in stored_bytes(tmp_path)


async def test_what_was_asked_for_does_not_show_its_value() -> None:
    assert VALUE not in f"{WANDB!r} {WANDB} {[WANDB]}"


async def test_what_is_not_given_stays(secrets: Secrets, clock: FakeClock) -> None:
    before = await secrets.create(ROOT, "acme", "wandb", WANDB)
    clock.advance(1.0)
    renamed = await secrets.update(ROOT, "acme", "wandb", SecretAsk(key_name="WANDB"))
    assert (renamed.key_name, renamed.sealed_value, renamed.updated_at) == ("WANDB", before.sealed_value, clock())
    changed = await secrets.update(ROOT, "acme", "wandb", SecretAsk(value="other"))
    assert changed.key_name == "WANDB"
    assert KEYRING.unseal(PURPOSE, changed.sealed_value, changed.name) == b"other"
    assert await secrets.get(CONTRIBUTOR, "acme", "wandb") == changed
    assert await secrets.list(CONTRIBUTOR, "acme") == [changed]
    await secrets.delete(ROOT, "acme", "wandb")
    assert await secrets.list(CONTRIBUTOR, "acme") == []


@pytest.mark.parametrize(
    ("name", "ask", "param"),
    [
        ("wandb", SecretAsk(key_name="K"), "value"),
        ("wandb", SecretAsk(key_name="K", value=""), "value"),
        ("wandb", SecretAsk(key_name="K", value="x" * 65537), "value"),
        ("wandb", SecretAsk(key_name=f"{VALUE} ", value="x"), "keyName"),
        ("wandb", SecretAsk(key_name="", value="x"), "keyName"),
        ("W&B", WANDB, "name"),
        ("", WANDB, "name"),
        ("accounts/globex/secrets/wandb", WANDB, "name"),
        ("accounts/acme/models/wandb", WANDB, "name"),
    ],
)
async def test_what_a_secret_cannot_be_is_refused_by_name_without_its_value(
    secrets: Secrets, name: str, ask: SecretAsk, param: str
) -> None:
    error = await refusal(secrets.create(ROOT, "acme", name, ask))
    assert (error.code, error.param) == (Code.INVALID, param)
    assert VALUE not in error.message


async def test_a_name_is_taken_once(secrets: Secrets) -> None:
    await secrets.create(ROOT, "acme", "wandb", WANDB)
    error = await refusal(secrets.create(ROOT, "acme", "wandb", WANDB))
    assert (error.code, error.param) == (Code.CONFLICT, "name")
    await secrets.create(FOREIGN_ADMIN, "globex", "wandb", WANDB)


async def test_only_administrators_change_secrets_and_other_accounts_see_none(secrets: Secrets) -> None:
    await secrets.create(ROOT, "acme", "wandb", WANDB)
    for who, code in (
        (CONTRIBUTOR, Code.FORBIDDEN),
        (principal("acme", "u", Role.USER), Code.FORBIDDEN),
        (FOREIGN_ADMIN, Code.NOT_FOUND),
    ):
        for attempt in (
            secrets.create(who, "acme", "new", WANDB),
            secrets.update(who, "acme", "wandb", WANDB),
            secrets.delete(who, "acme", "wandb"),
        ):
            assert (await refusal(attempt)).code is code
    others: list[Awaitable[object]] = [
        secrets.get(FOREIGN_ADMIN, "acme", "wandb"),
        secrets.list(FOREIGN_ADMIN, "acme"),
        secrets.get(FOREIGN_ADMIN, "globex", "wandb"),
        secrets.delete(ROOT, "acme", "none"),
    ]
    for other in others:
        assert (await refusal(other)).code is Code.NOT_FOUND


async def test_the_audit_log_names_the_fields_alone(secrets: Secrets, database: Database) -> None:
    await secrets.create(ROOT, "acme", "wandb", WANDB)
    await secrets.update(ROOT, "acme", "wandb", SecretAsk(value="other"))
    await secrets.delete(ROOT, "acme", "wandb")
    name = "accounts/acme/secrets/wandb"
    assert await audited(database) == [
        ("acme", name, ["keyName", "value"]),
        ("acme", name, ["value"]),
        ("acme", name, []),
    ]
