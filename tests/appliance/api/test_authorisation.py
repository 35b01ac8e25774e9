"""Who may do what: every route of the table, five principals, and objects of oneself, of a colleague and of strangers.

What is expected follows from a few rules, written down here once more, and from exceptions that say why. A new route is
tried as soon as it is in the table.
"""

import itertools
from enum import StrEnum

import pytest
from msgspec.structs import replace

from appliance.api.app import ROUTES
from appliance.api.routing import Permission, Route
from appliance.config import Config
from appliance.domain import Account, ApiKey, Role, User
from appliance.services.key_format import format_key, generate_key
from appliance.store import accounts, api_keys, users
from tests.appliance.api.conftest import Api
from tests.appliance.api.route_samples import Ids, has_sample, key_of, make_objects, names_an_object, send
from tests.appliance.api.sample_objects import Owner

A = "/v1/accounts/{account_id}"
KEY_PATHS = [
    f"{A}/users/{{user_id}}/apiKeys",
    f"{A}/users/{{user_id}}/apiKeys/{{key_id}}",
    f"{A}/apiKeys/{{key_id}}",
]


class Whose(StrEnum):
    OWN = "one's own"
    COLLEAGUE = "a colleague's"
    STRANGER = "another account's"


HOME, ABROAD = "acme", "globex"
"""Neither is the account that the box belongs to."""

EVERYBODY = frozenset(Role)
MAY_REACH = {
    Permission.INFER: EVERYBODY,
    Permission.READ: EVERYBODY,
    Permission.OWN_KEYS: EVERYBODY,
    Permission.WRITE: EVERYBODY - {Role.INFERENCE_USER},
    Permission.ADMIN: frozenset({Role.ADMIN}),
}
MAY_CHANGE_OTHERS = {
    Permission.WRITE: frozenset({Role.ADMIN, Role.USER}),
    Permission.OWN_KEYS: frozenset({Role.ADMIN}),
}
"""What a colleague made. By other permissions everybody who reaches the route."""

READS = {
    f"GET {A}/models/{{model_id}}:getDownloadEndpoint": "takes data out of the box",
    f"GET {A}/datasets/{{dataset_id}}:getDownloadEndpoint": "takes data out of the box",
    f"GET {A}/datasets/{{dataset_id}}:preview": "shows data",
    f"POST {A}/datasets/{{dataset_id}}:splitDataset": "what it makes is one's own",
    **{f"GET {path}": "keys are listed without what makes them keys" for path in KEY_PATHS},
}
"""They need a permission to change, and change nothing that is a colleague's."""
FOR_THE_BOX = {
    "GET /metrics": "of all accounts",
    "POST /v1/accounts": "tenants",
    f"POST {A}:suspend": "tenants",
    f"POST {A}:unsuspend": "tenants",
    f"POST {A}/reservations": "devices",
    f"PATCH {A}/reservations/{{reservation_id}}": "devices",
    f"DELETE {A}/reservations/{{reservation_id}}": "devices",
    "POST /v1/node/leases": "devices",
}
"""Only for those of the account that the box belongs to, and none of these is one."""
OF_A_PROGRAM = {"POST /v1/node/leases/{lease_id}:renew", "DELETE /v1/node/leases/{lease_id}"}
"""A lease is in use by somebody's program: of others only administrators end it."""

MAY, NO_KEY, FORBIDDEN, HIDDEN = "may", 401, 403, 404


def expected(route: Route, role: Role | None, whose: Whose) -> object:
    """MAY, or the status of the refusal."""
    key = key_of(route)
    if route.permission is Permission.PUBLIC:
        return MAY
    if route.permission is Permission.SIGNED_URL:
        return FORBIDDEN  # the sample is signed by nobody
    if role is None:
        return NO_KEY
    if role not in MAY_REACH[route.permission]:
        return FORBIDDEN
    if whose is Whose.STRANGER:
        return HIDDEN
    if key in FOR_THE_BOX:
        return FORBIDDEN
    if whose is Whose.OWN or key in READS:
        return MAY
    may_change = {Role.ADMIN} if key in OF_A_PROGRAM else MAY_CHANGE_OTHERS.get(route.permission, EVERYBODY)
    return MAY if role in may_change else FORBIDDEN


def test_exceptions_are_of_routes_that_there_are() -> None:
    assert {*READS, *FOR_THE_BOX, *OF_A_PROGRAM} - {key_of(route) for route in ROUTES} == set()


def test_every_route_has_a_sample() -> None:
    assert [key_of(route) for route in ROUTES if not has_sample(route)] == []


@pytest.fixture
def config(config: Config) -> Config:
    return replace(config, identity=replace(config.identity, failed_auth_per_minute=10_000))


@pytest.fixture
async def keys(api: Api) -> dict[Role | None, dict[str, str]]:
    """The header of each principal."""
    headers: dict[Role | None, dict[str, str]] = {None: {}}
    async with api.services.node.database.transaction() as tx:
        for account_id in (HOME, ABROAD):
            await accounts.insert(tx, Account(id=account_id, created_at=tx.now, updated_at=tx.now))
        for account_id, user_id, role in (
            *((HOME, role.value, role) for role in Role),
            (HOME, "colleague", Role.USER),
            (ABROAD, "stranger", Role.USER),
        ):
            await users.insert(
                tx, User(account_id=account_id, id=user_id, role=role, created_at=tx.now, updated_at=tx.now)
            )
        for role in Role:
            parts = generate_key()
            digest = parts.secret_sha256
            key = ApiKey(account_id=HOME, user_id=role.value, id=parts.id, secret_sha256=digest, created_at=tx.now)
            await api_keys.insert(tx, key)
            headers[role] = {"Authorization": f"Bearer {format_key(parts)}"}
    return headers


async def test_nobody_may_more_or_less_than_the_rules_say(api: Api, keys: dict[Role | None, dict[str, str]]) -> None:
    surprises = []
    for route in filter(has_sample, ROUTES):
        untouched: dict[Owner, Ids] = {}
        for role, whose in itertools.product((*Role, None), kinds_of(route)):
            owner = owner_of(whose, role)
            ids = untouched.pop(owner, None) or await make_objects(api, route, owner)
            status = await send(api, route, ids, keys[role])
            told = status if status in (NO_KEY, FORBIDDEN, HIDDEN) else MAY
            if told != MAY or route.method == "GET":
                untouched[owner] = ids
            if told != (wanted := expected(route, role, whose)):
                surprises.append(f"{key_of(route)}: {role} on {whose}: {status}, not {wanted}")
    assert surprises == []


def kinds_of(route: Route) -> list[Whose]:
    if names_an_object(route):
        return [*Whose]
    return [Whose.OWN, Whose.STRANGER] if "{account_id}" in route.path else [Whose.OWN]


def owner_of(whose: Whose, role: Role | None) -> Owner:
    match whose:
        case Whose.OWN:
            return Owner(HOME, "colleague" if role is None else role.value)
        case Whose.COLLEAGUE:
            return Owner(HOME, "colleague")
        case Whose.STRANGER:
            return Owner(ABROAD, "stranger")
