"""Reservations and clusters as a client sees them: devices held for an account, and the box they are in."""

from collections.abc import Iterator

from appliance.sdk.resources import Empty, Resource, Transport, camel, collection_path, pages, resource_path, selection

RESERVATIONS, CLUSTERS = "reservations", "clusters"


class Reservation(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    description: str = ""
    state: str = ""
    accelerator_type: str = ""
    reserved_count: int = 0
    device_ids: list[str] = []
    region: str = ""
    start_time: str | None = None
    end_time: str | None = None
    created_by: str = ""
    create_time: str | None = None
    update_time: str | None = None


class ReservationPage(Resource, frozen=True, kw_only=True):
    reservations: list[Reservation]
    next_page_token: str = ""


class Cluster(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    state: str = ""
    region: str = ""
    accelerator_counts: dict[str, int] = {}


class ClusterPage(Resource, frozen=True, kw_only=True):
    clusters: list[Cluster]
    next_page_token: str = ""


class Reservations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, accelerator_type: str, reserved_count: int, *, reservation_id: str = "", **fields: object
    ) -> Reservation:
        """`fields` are those of `Reservation`, in this language's spelling; None leaves one to the server."""
        body = {"acceleratorType": accelerator_type, "reservedCount": reserved_count} | _given(fields)
        path, query = collection_path(self._transport, RESERVATIONS), {"reservationId": reservation_id}
        return self._transport.call("POST", path, Reservation, query, body)

    def get(self, reservation: str) -> Reservation:
        return self._transport.call("GET", self._path(reservation), Reservation)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Reservation]:
        query = selection(filter, order_by)
        for page in pages(self._transport, collection_path(self._transport, RESERVATIONS), ReservationPage, query):
            yield from page.reservations

    def update(self, reservation: str, **fields: object) -> Reservation:
        """What is not given stays as it is."""
        return self._transport.call("PATCH", self._path(reservation), Reservation, body=_given(fields))

    def delete(self, reservation: str) -> None:
        self._transport.call("DELETE", self._path(reservation), Empty)

    def _path(self, reservation: str) -> str:
        return resource_path(self._transport, RESERVATIONS, reservation)


class Clusters:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, cluster: str) -> Cluster:
        return self._transport.call("GET", resource_path(self._transport, CLUSTERS, cluster), Cluster)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Cluster]:
        query = selection(filter, order_by)
        for page in pages(self._transport, collection_path(self._transport, CLUSTERS), ClusterPage, query):
            yield from page.clusters


def _given(fields: dict[str, object]) -> dict[str, object]:
    return {camel(name): value for name, value in fields.items() if value is not None}
