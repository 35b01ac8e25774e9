"""Reservations: devices held for an account. Who keeps the box makes them; their account sees them.

Which devices is decided here, once; what follows from it for placement is `orchestrator/reserving.py`'s.
"""

import builtins
from collections.abc import Callable, Iterable, Sequence

import msgspec

from appliance.config import IdentitySettings
from appliance.domain import Principal, Reservation
from appliance.errors import Code, HearthError
from appliance.names import ResourceName, generate_id, validate_id
from appliance.orchestrator.gpus import Device
from appliance.services import audit
from appliance.services.access import keeps_box, not_found
from appliance.store import accounts, reservations
from appliance.store.database import Connection, Database

DISPLAY_NAME_LENGTH_MAX = 63
DESCRIPTION_LENGTH_MAX = 1000
SAME_TIME_S = 0.001


class ReservationAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be held; None, in a change: as it is."""

    accelerator_type: str | None = None
    num_devices: int | None = None
    display_name: str | None = None
    description: str | None = None
    starts_at: float | None = None
    """None, of a new one: now."""
    ends_at: float | msgspec.UnsetType | None = msgspec.UNSET
    """None: until it is deleted."""


class Reservations:
    def __init__(
        self, database: Database, settings: IdentitySettings, devices: Sequence[Device], notify: Callable[[], None]
    ) -> None:
        """`notify` has the fleet looked after now."""
        self._database = database
        self._settings = settings
        self._devices = devices
        self._notify = notify

    async def create(
        self, principal: Principal, account_id: str, reservation_id: str | None, ask: ReservationAsk
    ) -> Reservation:
        """Raises `failed_precondition` when so many devices are not to be had for all of the time."""
        self._require_keeper(principal, account_id)
        reservation_id = generate_id() if reservation_id is None else validate_id(reservation_id, "reservationId")
        name = ResourceName(account_id, "reservations", reservation_id)
        async with self._database.transaction() as tx:
            if await accounts.get(tx.connection, account_id) is None:
                raise not_found(f"accounts/{account_id}")
            if await reservations.get(tx.connection, account_id, reservation_id) is not None:
                raise HearthError(Code.CONFLICT, f"{name} already exists", "reservationId")
            starts_at = tx.now if ask.starts_at is None else ask.starts_at
            reservation = Reservation(
                account_id=account_id,
                id=reservation_id,
                display_name=ask.display_name or "",
                description=ask.description or "",
                accelerator_type=ask.accelerator_type or "",
                device_ids=[],
                starts_at=starts_at,
                ends_at=None if ask.ends_at is msgspec.UNSET else ask.ends_at,
                created_by=principal.user_id,
                created_at=tx.now,
                updated_at=tx.now,
            )
            check(reservation, tx.now)
            others = await reservations.list_all(tx.connection)
            chosen = choose_devices(reservation, ask.num_devices or 0, self._devices, others)
            reservation = msgspec.structs.replace(reservation, device_ids=chosen)
            await reservations.insert(tx, reservation)
            await audit.record(tx, principal, reservation.name, given_fields(ask))
        self._notify()
        return reservation

    async def get(self, principal: Principal, account_id: str, reservation_id: str) -> Reservation:
        async with self._database.reader() as db:
            return await self._find(db, principal, account_id, reservation_id)

    async def list(self, principal: Principal, account_id: str) -> builtins.list[Reservation]:
        """By id, those that are over too."""
        self._require_sight(principal, account_id)
        async with self._database.reader() as db:
            return await reservations.list_in_account(db, account_id)

    async def update(
        self, principal: Principal, account_id: str, reservation_id: str, ask: ReservationAsk
    ) -> Reservation:
        """Its names, and when it ends; raises `failed_precondition` when others have its devices by then."""
        self._require_keeper(principal, account_id)
        async with self._database.transaction() as tx:
            reservation = await self._find(tx.connection, principal, account_id, reservation_id)
            refuse_other_devices(reservation, ask)
            changed = msgspec.structs.replace(
                reservation,
                display_name=reservation.display_name if ask.display_name is None else ask.display_name,
                description=reservation.description if ask.description is None else ask.description,
                ends_at=reservation.ends_at if ask.ends_at is msgspec.UNSET else ask.ends_at,
                updated_at=tx.now,
            )
            if changed.ends_at != reservation.ends_at:
                check(changed, tx.now)
                others = [each for each in await reservations.list_all(tx.connection) if each.name != changed.name]
                if taken := set(changed.device_ids) & held_meanwhile(changed, others):
                    raise HearthError(
                        Code.FAILED_PRECONDITION,
                        f"endTime: {len(taken)} of its devices are reserved for others by then",
                        "endTime",
                    )
            await reservations.update(tx, changed)
            await audit.record(tx, principal, changed.name, given_fields(ask))
        self._notify()
        return changed

    async def delete(self, principal: Principal, account_id: str, reservation_id: str) -> None:
        """Its devices are everybody's from now on; what runs on them stays."""
        self._require_keeper(principal, account_id)
        async with self._database.transaction() as tx:
            reservation = await self._find(tx.connection, principal, account_id, reservation_id)
            await reservations.delete(tx, account_id, reservation_id)
            await audit.record(tx, principal, reservation.name)
        self._notify()

    async def _find(self, db: Connection, principal: Principal, account_id: str, reservation_id: str) -> Reservation:
        self._require_sight(principal, account_id)
        reservation = await reservations.get(db, account_id, reservation_id)
        if reservation is None:
            raise not_found(f"accounts/{account_id}/reservations/{reservation_id}")
        return reservation

    def _require_sight(self, principal: Principal, account_id: str) -> None:
        if principal.account_id != account_id and not keeps_box(principal, self._settings):
            raise not_found(f"accounts/{account_id}")

    def _require_keeper(self, principal: Principal, account_id: str) -> None:
        self._require_sight(principal, account_id)
        if not keeps_box(principal, self._settings):
            raise HearthError(Code.FORBIDDEN, "only administrators of this box hold its devices for an account")


def check(reservation: Reservation, now: float) -> None:
    if len(reservation.display_name) > DISPLAY_NAME_LENGTH_MAX:
        raise _invalid("displayName", f"at most {DISPLAY_NAME_LENGTH_MAX} characters")
    if len(reservation.description) > DESCRIPTION_LENGTH_MAX:
        raise _invalid("description", f"at most {DESCRIPTION_LENGTH_MAX} characters")
    if reservation.ends_at is not None and reservation.ends_at <= max(now, reservation.starts_at):
        raise _invalid("endTime", "after startTime, and in the future")


def choose_devices(
    reservation: Reservation, num_devices: int, devices: Sequence[Device], others: Iterable[Reservation]
) -> list[str]:
    """Ids of so many devices of its type that nobody else has at any time that it lasts."""
    kind = reservation.accelerator_type
    suitable = [device for device in devices if device.accelerator_type == kind]
    if not suitable:
        known = ", ".join(sorted({device.accelerator_type for device in devices}))
        raise _invalid("acceleratorType", f"{kind[:100] or 'nothing'} is not in this box; there is {known}")
    if not 1 <= num_devices <= len(suitable):
        raise _invalid("reservedCount", f"between 1 and {len(suitable)}, which is what this box has of {kind}")
    taken = held_meanwhile(reservation, others)
    open_ids = [device.id for device in suitable if device.id not in taken]
    if len(open_ids) < num_devices:
        raise HearthError(
            Code.FAILED_PRECONDITION,
            f"reservedCount: {num_devices} of {kind} are asked for; {len(open_ids)} of {len(suitable)} are not"
            " reserved in that time",
            "reservedCount",
        )
    return open_ids[-num_devices:]  # the first ones fill first, so the last ones are the likeliest to be idle


def held_meanwhile(reservation: Reservation, others: Iterable[Reservation]) -> set[str]:
    """Devices of those that last at any moment at which this one does."""
    return {device_id for other in others if _overlap(reservation, other) for device_id in other.device_ids}


def refuse_other_devices(reservation: Reservation, ask: ReservationAsk) -> None:
    """What cannot change may be said again; a time comes back as it was shown, without its last digits."""
    is_same = {
        "acceleratorType": ask.accelerator_type in (None, reservation.accelerator_type),
        "reservedCount": ask.num_devices in (None, len(reservation.device_ids)),
        "startTime": ask.starts_at is None or abs(ask.starts_at - reservation.starts_at) < SAME_TIME_S,
    }
    for param in is_same:
        if not is_same[param]:
            raise _invalid(param, "it cannot be changed; make another reservation")


def given_fields(ask: ReservationAsk) -> list[str]:
    """Wire names of what was asked."""
    return [
        wire_name
        for name, wire_name in WIRE_NAMES.items()
        if getattr(ask, name) is not None and getattr(ask, name) is not msgspec.UNSET
    ]


WIRE_NAMES = {
    "accelerator_type": "acceleratorType",
    "num_devices": "reservedCount",
    "display_name": "displayName",
    "description": "description",
    "starts_at": "startTime",
    "ends_at": "endTime",
}


def _overlap(one: Reservation, other: Reservation) -> bool:
    return (one.ends_at is None or other.starts_at < one.ends_at) and (
        other.ends_at is None or one.starts_at < other.ends_at
    )


def _invalid(param: str, rule: str) -> HearthError:
    return HearthError(Code.INVALID, f"{param}: {rule}", param)
