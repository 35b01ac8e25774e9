"""Routes of reservations: devices held for an account."""

import time
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.deployment_body import refuse_other_region
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import (
    Answer,
    Empty,
    ResourceId,
    Timestamp,
    Wire,
    decode,
    decode_query,
    is_neutral,
    render_time,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Reservation
from appliance.names import last_segment
from appliance.services.reservations import ReservationAsk

Region = Annotated[str, msgspec.Meta(description="The one region of this box; its name or GLOBAL.", examples=["LOCAL"])]


class ReservationBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    description: str | None = None
    accelerator_type: Annotated[
        str | None, msgspec.Meta(description="Required for a new one.", examples=["NVIDIA_H100_80GB"])
    ] = None
    reserved_count: Annotated[int | None, msgspec.Meta(description="How many devices; required for a new one.")] = None
    start_time: Timestamp | None = None
    end_time: Annotated[
        Timestamp | msgspec.UnsetType | None, msgspec.Meta(description="null: until it is deleted.")
    ] = msgspec.UNSET
    region: Region | None = None
    multi_region: Region | None = None


class NewReservation(Wire, frozen=True, kw_only=True):
    """Query of a creation."""

    reservation_id: Annotated[ResourceId | None, msgspec.Meta(description="Default: one that is made up.")] = None


class ReservationAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    state: Annotated[str, msgspec.Meta(description="SCHEDULED, ACTIVE or ENDED.")]
    accelerator_type: str
    reserved_count: int
    device_ids: list[str]
    region: Region
    start_time: str | None = None
    end_time: str | None = None
    created_by: str
    create_time: str | None = None
    update_time: str | None = None


async def create_reservation(request: web.Request) -> web.StreamResponse:
    """Hold devices for an account.

    From the start to the end nothing of other accounts is placed on them; what others have there moves, or waits.
    """
    reservation = await services(request).reservations.create(
        principal(request),
        request.match_info["account_id"],
        decode_query(request, NewReservation).reservation_id,
        await _read_ask(request),
    )
    return json_response(_render(request, reservation))


async def list_reservations(request: web.Request) -> web.StreamResponse:
    """List the reservations of an account, those that are over too."""
    found = await services(request).reservations.list(principal(request), request.match_info["account_id"])
    return list_response(
        request, "reservations", ReservationAnswer, found, lambda reservation: _render(request, reservation)
    )


async def get_reservation(request: web.Request) -> web.StreamResponse:
    """Get a reservation."""
    reservation = await services(request).reservations.get(principal(request), *_name(request))
    return masked_response(request, _render(request, reservation))


async def update_reservation(request: web.Request) -> web.StreamResponse:
    """Rename a reservation, or change when it ends."""
    ask = await _read_ask(request)
    reservation = await services(request).reservations.update(principal(request), *_name(request), ask)
    return json_response(_render(request, reservation))


async def delete_reservation(request: web.Request) -> web.StreamResponse:
    """Give the devices of a reservation back to everybody."""
    await services(request).reservations.delete(principal(request), *_name(request))
    return json_response(Empty())


async def _read_ask(request: web.Request) -> ReservationAsk:
    body = masked_update(request, await decode(request, ReservationBody))
    region = services(request).config.region
    refuse_other_region(body.region, "region", region)
    refuse_other_region(body.multi_region, "multiRegion", region)
    ends_at = body.end_time
    return ReservationAsk(
        accelerator_type=None if is_neutral(body.accelerator_type) else body.accelerator_type,
        num_devices=body.reserved_count,
        display_name=body.display_name,
        description=body.description,
        starts_at=body.start_time.timestamp() if body.start_time else None,
        ends_at=ends_at.timestamp() if ends_at else (None if ends_at is None else msgspec.UNSET),
    )


def _render(request: web.Request, reservation: Reservation) -> ReservationAnswer:
    return render_reservation(reservation, services(request).config.region, time.time())


def render_reservation(reservation: Reservation, region: str, now: float) -> ReservationAnswer:
    is_over = reservation.ends_at is not None and reservation.ends_at <= now
    return ReservationAnswer(
        name=reservation.name,
        display_name=reservation.display_name,
        description=reservation.description,
        state="ACTIVE" if reservation.holds_at(now) else "ENDED" if is_over else "SCHEDULED",
        accelerator_type=reservation.accelerator_type,
        reserved_count=len(reservation.device_ids),
        device_ids=reservation.device_ids,
        region=region,
        start_time=render_time(reservation.starts_at),
        end_time=render_time(reservation.ends_at),
        created_by=reservation.created_by,
        create_time=render_time(reservation.created_at),
        update_time=render_time(reservation.updated_at),
    )


def _name(request: web.Request) -> tuple[str, str]:
    account_id = request.match_info["account_id"]
    segment = request.match_info["reservation_id"]
    return account_id, last_segment(segment, account_id, "reservations", "reservation_id")


COLLECTION = "/v1/accounts/{account_id}/reservations"
RESERVATION = "/v1/accounts/{account_id}/reservations/{reservation_id}"

ROUTES = [
    Route(
        "POST",
        COLLECTION,
        create_reservation,
        Permission.ADMIN,
        ReservationBody,
        answer=ReservationAnswer,
        query=NewReservation,
    ),
    Route("GET", COLLECTION, list_reservations, Permission.READ, answer=ReservationAnswer, plural="reservations"),
    Route("GET", RESERVATION, get_reservation, Permission.READ, answer=ReservationAnswer),
    Route("PATCH", RESERVATION, update_reservation, Permission.ADMIN, ReservationBody, answer=ReservationAnswer),
    Route("DELETE", RESERVATION, delete_reservation, Permission.ADMIN, answer=Empty),
]
