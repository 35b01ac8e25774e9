"""Keys as clients send them, roles against permissions, and the limit on failures."""

import asyncio
import re
from itertools import pairwise

import aiohttp
import pytest
from aiohttp import web

from appliance.api.app import ROUTES
from appliance.api.auth import ROLE_PERMISSIONS, WITHOUT_KEY, FailureLimiter
from appliance.api.routing import Permission
from appliance.domain import Role, SuspendState
from appliance.services.accounts import AccountAsk
from tests.appliance.api.conftest import Api

VERIFY = "/verifyApiKey"


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "{}"])
async def test_key_is_taken_with_and_without_its_scheme(api: Api, form: str) -> None:
    async with api.session.get(VERIFY, headers={"Authorization": form.format(api.keys[Role.USER])}) as response:
        assert response.status == 200
        assert response.headers["x-fireworks-account-id"] == "hearth"


async def test_key_is_taken_from_x_api_key(api: Api) -> None:
    async with api.session.get(VERIFY, headers={"X-Api-Key": api.keys[Role.USER]}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer fw_nonsense"},
        {"Authorization": "Bearer ' OR 1=1 --"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer " + "x" * 7000},
        {"Authorization": "Bearer \u00fc"},
        {"X-Api-Key": "\u20ac"},
    ],
)
async def test_anything_else_is_unauthenticated(api: Api, headers: dict[str, str]) -> None:
    async with api.session.get(VERIFY, headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == "UNAUTHENTICATED"


async def test_two_keys_at_once_are_refused_even_when_both_are_right(api: Api) -> None:
    right = f"Bearer {api.keys[Role.USER]}"
    for headers in (
        [("Authorization", right), ("Authorization", right)],
        [("Authorization", right), ("X-Api-Key", api.keys[Role.ADMIN])],
    ):
        async with api.session.get(VERIFY, headers=headers) as response:
            assert response.status == 401


async def test_same_key_in_both_headers_is_one_key(api: Api) -> None:
    key = api.keys[Role.USER]
    headers = {"Authorization": f"Bearer {key}", "X-Api-Key": key}
    async with api.session.get(VERIFY, headers=headers) as response:
        assert response.status == 200


async def test_flood_of_wrong_keys_is_limited_and_the_right_key_still_works(api: Api) -> None:
    wrong = {"Authorization": "Bearer fw_wrong"}

    async def status() -> int:
        async with api.session.get(VERIFY, headers=wrong) as response:
            if response.status == 429:
                assert 1 <= int(response.headers["Retry-After"]) <= 60
            return response.status

    statuses = await asyncio.gather(*(status() for _ in range(2 * api.services.config.identity.failed_auth_per_minute)))
    assert 429 in statuses
    async with api.session.get(VERIFY, headers=api.bearer(Role.USER)) as response:
        assert response.status == 200


def test_limit_is_per_address_and_per_minute() -> None:
    limiter = FailureLimiter(failures_per_minute=2)
    assert limiter.record("a", now=0.0) is None
    assert limiter.record("a", now=1.0) is None
    assert limiter.record("a", now=15.0) == 45.0
    assert limiter.record("b", now=15.0) is None
    assert limiter.record("a", now=60.0) is None


def test_limiter_remembers_a_bounded_number_of_addresses() -> None:
    limiter = FailureLimiter(failures_per_minute=1)
    for address in range(limiter.ADDRESSES_MAX + 10):
        limiter.record(str(address), now=0.0)
    assert limiter.record("0", now=0.0) is None
    assert limiter.record(str(limiter.ADDRESSES_MAX + 5), now=0.0) is not None


def test_roles_only_grow() -> None:
    ordered = [Role.INFERENCE_USER, Role.CONTRIBUTOR, Role.USER, Role.ADMIN]
    assert set(ROLE_PERMISSIONS) == set(Role)
    for smaller, larger in pairwise(ordered):
        assert ROLE_PERMISSIONS[smaller] <= ROLE_PERMISSIONS[larger]
    assert not ROLE_PERMISSIONS[Role.ADMIN] & WITHOUT_KEY


def paths_of(app: web.Application) -> list[tuple[str, str]]:
    """Every method and path that can be reached, with something in the place of each parameter."""
    reachable = []
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        for parameter in path.split("{")[1:]:
            path = path.replace("{" + parameter.partition("}")[0] + "}", "something")
        reachable.append((route.method, path))
    return reachable


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer fw_junk"}])
async def test_every_route_that_is_not_declared_public_refuses_strangers(api: Api, headers: dict[str, str]) -> None:
    open_paths = {route.path for route in ROUTES if route.permission in WITHOUT_KEY}
    seen = 0
    for method, path in paths_of(api.app):
        async with api.session.request(method, path, headers=headers) as response:
            seen += 1
            if any(path.startswith(open_path.partition("{")[0]) for open_path in open_paths):
                assert response.status not in (401, 429), path
            else:
                assert response.status in (401, 429), path
    assert seen > len(ROUTES)


async def test_role_is_checked_on_every_route(api: Api) -> None:
    for route in ROUTES:
        for role, permissions in ROLE_PERMISSIONS.items():
            if route.permission in WITHOUT_KEY or route.permission in permissions:
                continue
            async with api.session.request(route.method, api.filled(route.path), headers=api.bearer(role)) as response:
                assert response.status == 403, (route.path, role)


async def test_metrics_are_for_admins(api: Api) -> None:
    assert Permission.ADMIN in {route.permission for route in ROUTES if route.path == "/metrics"}
    async with api.session.get("/metrics", headers=api.bearer(Role.ADMIN)) as response:
        assert response.status == 200


async def test_revoked_key_is_refused_at_once(api: Api) -> None:
    admin = await api.services.identity.authenticate(api.keys[Role.ADMIN])
    victim = await api.services.identity.authenticate(api.keys[Role.USER])
    await api.services.tenancy.api_keys.delete(admin, victim.account_id, victim.user_id, victim.key_id)
    async with api.session.get(VERIFY, headers=api.bearer(Role.USER)) as response:
        assert response.status == 401


async def test_key_is_not_in_any_log_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{api.url}/x", headers=api.bearer(Role.USER)) as reply:
        assert reply.status == 404
    assert api.keys[Role.USER] not in caplog.text


async def test_a_suspended_account_reaches_what_reads_and_nothing_else(api: Api) -> None:
    admin = await api.services.identity.authenticate(api.keys[Role.ADMIN])
    created = await api.services.tenancy.accounts.create(admin, "acme", AccountAsk())
    await api.services.tenancy.accounts.suspend(admin, "acme", SuspendState.CREDIT_DEPLETED)
    headers = {"Authorization": f"Bearer {created.first_key.key}"}
    for route in ROUTES:
        if route.permission in WITHOUT_KEY:
            continue
        path = re.sub(r"\{account_id\}", "acme", route.path)
        async with api.session.request(route.method, api.filled(path), headers=headers) as response:
            may_read = route.permission is Permission.READ or (
                route.permission in (Permission.ADMIN, Permission.OWN_KEYS) and route.method in ("GET", "HEAD")
            )
            assert ("is suspended (CREDIT_DEPLETED)" in await response.text()) is not may_read, (route.method, path)
