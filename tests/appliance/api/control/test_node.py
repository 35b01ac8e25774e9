"""Health, readiness, metrics, and whose key it is."""

import msgspec
import pytest

from appliance.api.app import build_app
from appliance.api.server import HttpServer
from appliance.domain import Role
from appliance.live_config import LiveConfig
from tests.appliance.api.conftest import READY_MODEL, Api


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_health_needs_no_key_and_tells_nothing(api: Api, path: str) -> None:
    async with api.session.get(path) as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok"}


async def test_ready_while_models_are_asleep_and_not_without_a_supervisor(api: Api) -> None:
    async with api.session.get("/readyz") as response:
        assert response.status == 503
        assert "supervisor" in (await response.json())["error"]["message"]
    admin = await api.services.identity.authenticate(api.keys[Role.ADMIN])
    await api.services.deployments.scale(admin, "fireworks", "tiny-deployment", 0)
    await api.services.node.supervisor.start()
    async with api.session.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready"}
    await api.services.node.supervisor.close(drain_s=0.0)


async def test_not_ready_once_the_store_has_failed(api: Api) -> None:
    await api.services.node.supervisor.start()
    api.services.node.database.failed.set()
    async with api.session.get("/readyz") as response:
        assert response.status == 503
        assert "state store" in (await response.json())["error"]["message"]
    await api.services.node.supervisor.close(drain_s=0.0)


async def test_metrics_tell_requests_tokens_and_latencies(api: Api) -> None:
    body = {"model": READY_MODEL, "prompt": "x"}
    async with api.session.post("/v1/completions", json=body, headers=api.bearer()) as response:
        assert response.status == 200
    async with api.session.get("/metrics", headers=api.bearer(Role.ADMIN)) as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    deployment = "accounts/fireworks/deployments/tiny-deployment"
    assert f'hearth_generations_total{{deployment="{deployment}",outcome="completed"}} 1.0' in text
    assert f'hearth_tokens_total{{deployment="{deployment}",kind="prompt"}} 7.0' in text
    assert f'hearth_first_token_seconds_count{{deployment="{deployment}"}} 1.0' in text
    assert "hearth_generations_in_flight 0.0" in text


async def test_metrics_are_not_for_other_accounts(api: Api) -> None:
    config = api.services.config
    elsewhere = msgspec.structs.replace(
        config, identity=msgspec.structs.replace(config.identity, account_id="elsewhere")
    )
    server = HttpServer(build_app(api.services._replace(live=LiveConfig(elsewhere))), config.server)
    url = await server.start()
    async with api.session.get(url + "/metrics", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 403
    await server.close()


async def test_key_is_verified_by_a_header(api: Api) -> None:
    async with api.session.get("/verifyApiKey", headers=api.bearer(Role.INFERENCE_USER)) as response:
        assert response.status == 200
        assert response.headers["x-fireworks-account-id"] == "hearth"
    async with api.session.get("/verifyApiKey") as response:
        assert response.status == 401


async def test_openapi_document_is_served(api: Api) -> None:
    async with api.session.get("/openapi.json") as response:
        assert response.status == 200
        assert "/inference/v1/chat/completions" in (await response.json())["paths"]


async def test_an_account_reads_the_metrics_of_its_own_deployments_six_times_a_minute(api: Api) -> None:
    path = "/v1/accounts/hearth/metrics"
    for expected in (*6 * [200], 429):
        async with api.session.get(path, headers=api.bearer(Role.INFERENCE_USER)) as response:
            assert response.status == expected
    for account_id, expected in (("other", 404), ("fireworks", 403)):
        async with api.session.get(f"/v1/accounts/{account_id}/metrics", headers=api.bearer()) as response:
            assert response.status == expected
    async with api.session.get("/v1/accounts/fireworks/metrics", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200
