"""Reservations over the wire; what may be is the services' test."""

from typing import Any

from appliance.api.control.reservations import render_reservation
from appliance.domain import Reservation, Role
from tests.appliance.api.conftest import DEVICES, Api

PATH = "/v1/accounts/hearth/reservations"
KIND = DEVICES[0].accelerator_type


async def ask(api: Api, method: str, path: str, body: object = None, role: Role = Role.ADMIN) -> tuple[int, Any]:
    async with api.session.request(method, path, json=body, headers=api.bearer(role)) as response:
        return response.status, await response.json()


async def test_a_reservation_is_made_read_changed_and_deleted(api: Api) -> None:
    body = {"acceleratorType": KIND, "reservedCount": 1, "displayName": "Week", "endTime": "2999-01-02T03:04:05Z"}
    status, made = await ask(api, "POST", f"{PATH}?reservationId=week", body)
    assert status == 200, made
    assert made["name"] == "accounts/hearth/reservations/week"
    assert (made["state"], made["deviceIds"], made["region"]) == ("ACTIVE", [DEVICES[1].id], "LOCAL")
    assert made["endTime"] == "2999-01-02T03:04:05.000000Z"
    assert await ask(api, "GET", f"{PATH}/week", role=Role.INFERENCE_USER) == (200, made)
    listed = (await ask(api, "GET", f'{PATH}?filter=state="ACTIVE"', role=Role.USER))[1]
    assert (listed["reservations"], listed["totalSize"]) == ([made], 1)
    status, changed = await ask(api, "PATCH", f"{PATH}/week", made | {"displayName": "Month", "endTime": None})
    assert (status, changed["displayName"], changed.get("endTime")) == (200, "Month", None)
    assert await ask(api, "DELETE", f"{PATH}/accounts%2Fhearth%2Freservations%2Fweek") == (200, {})
    assert (await ask(api, "GET", f"{PATH}/week"))[0] == 404


async def test_making_one_takes_an_administrator(api: Api) -> None:
    status, _ = await ask(api, "POST", PATH, {"acceleratorType": KIND, "reservedCount": 1}, Role.USER)
    assert status == 403


async def test_a_region_is_not_chosen(api: Api) -> None:
    body = {"acceleratorType": KIND, "reservedCount": 1, "multiRegion": "EUROPE"}
    status, answer = await ask(api, "POST", PATH, body)
    assert (status, "multiRegion" in answer["message"]) == (400, True)


def test_the_state_tells_whether_it_holds_now() -> None:
    reservation = Reservation(
        account_id="a",
        id="r",
        accelerator_type="X",
        device_ids=[],
        starts_at=10.0,
        ends_at=20.0,
        created_at=0.0,
        updated_at=0.0,
    )
    states = [render_reservation(reservation, "LOCAL", now).state for now in (9.0, 10.0, 20.0)]
    assert states == ["SCHEDULED", "ACTIVE", "ENDED"]
