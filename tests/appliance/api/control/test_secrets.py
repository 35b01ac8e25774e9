"""Secrets through the real `fireworks` package: a value goes in and is in no answer."""

import asyncio
import logging
import os
from pathlib import Path

import fireworks
import pytest
from fireworks import Fireworks

from appliance.domain import Role
from tests.appliance.api.conftest import Api

VALUE = "sk-canary-4d8e11"
SECRETS = "/v1/accounts/hearth/secrets"


async def test_a_secret_is_created_changed_listed_and_deleted_and_never_shown(
    admin: Fireworks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def session() -> None:
        name = "accounts/hearth/secrets/wandb"
        created = admin.secrets.create(name=name, key_name="WANDB_API_KEY", value=VALUE)
        assert (created.name, created.key_name, created.value) == (name, "WANDB_API_KEY", None)
        shown = admin.secrets.get("wandb")
        assert (shown.name, shown.value) == (name, None)
        changed = admin.secrets.update("wandb", key_name="WANDB", value=f"{VALUE}-2")
        assert (changed.key_name, changed.value) == ("WANDB", None)
        admin.secrets.create(name="aws", key_name="AWS", value="x")
        listed = [secret.name for secret in admin.secrets.list(page_size=1) if secret is not None]
        assert listed == ["accounts/hearth/secrets/aws", name]
        admin.secrets.delete("aws")
        with pytest.raises(fireworks.NotFoundError):
            admin.secrets.get("aws")
        with pytest.raises(fireworks.ConflictError):
            admin.secrets.create(name="wandb", key_name="WANDB", value="x")

    await asyncio.to_thread(session)
    stored = b"".join(
        path.read_bytes() for path in map(Path, map(tmp_path.joinpath, os.listdir(tmp_path))) if path.is_file()
    )
    assert VALUE.encode() not in stored
    servers = [
        record for record in caplog.records if record.name.split(".")[0] in ("appliance", "aiohttp", "aiosqlite")
    ]
    assert VALUE not in "".join(record.getMessage() for record in servers)


async def test_everybody_sees_that_there_is_a_secret_and_only_administrators_change_it(api: Api) -> None:
    body = {"name": "wandb", "keyName": "WANDB", "value": VALUE}
    async with api.session.post(SECRETS, json=body, headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200
    for role in Role:
        async with api.session.get(f"{SECRETS}/wandb", headers=api.bearer(role)) as response:
            assert (await response.json())["keyName"] == "WANDB"
        if role is not Role.ADMIN:
            for method, path in (("POST", SECRETS), ("PATCH", f"{SECRETS}/wandb"), ("DELETE", f"{SECRETS}/wandb")):
                async with api.session.request(method, path, json=body, headers=api.bearer(role)) as response:
                    assert response.status == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"keyName": "K", "value": VALUE}, "name"),
        ({"name": "k", "value": VALUE}, "keyName"),
        ({"name": "k", "keyName": "K"}, "value"),
        ({"name": "k", "keyName": "K", "value": 7}, "value"),
        ({"name": "k", "keyName": VALUE * 9, "value": "x"}, "keyName"),
        ({"name": "k", "keyName": [VALUE], "value": "x"}, "keyName"),
        ({"name": "K", "keyName": "K", "value": VALUE}, "name"),
    ],
)
async def test_a_field_at_fault_is_named_and_no_value_repeated(api: Api, body: dict[str, object], field: str) -> None:
    async with api.session.post(SECRETS, json=body, headers=api.bearer(Role.ADMIN)) as response:
        answer = await response.json()
        assert response.status == 400, answer
        assert answer["details"][0]["fieldViolations"][0]["field"] == field
        assert VALUE not in str(answer)


async def test_half_a_character_is_refused(api: Api) -> None:
    body = rb'{"name": "k", "keyName": "K", "value": "\ud800"}'
    headers = {**api.bearer(Role.ADMIN), "Content-Type": "application/json"}
    async with api.session.post(SECRETS, data=body, headers=headers) as response:
        assert response.status == 400
