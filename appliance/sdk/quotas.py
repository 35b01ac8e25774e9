"""Quotas as a client sees them: of an account, or of one of its users or keys."""

from collections.abc import Iterator
from urllib.parse import quote

from appliance.sdk.resources import Resource, Transport, account_path, given, pages, selection

NO_LIMIT = 2**63 - 1
"""Stands for no limit, in answers and in requests."""


class Quota(Resource, frozen=True, kw_only=True):
    name: str
    value: str = str(NO_LIMIT)
    max_value: str = str(NO_LIMIT)
    usage: float | None = None
    """None: nobody counts it, for there is no limit."""
    unit: str = ""
    description: str = ""
    update_time: str | None = None

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


class QuotaPage(Resource, frozen=True, kw_only=True):
    quotas: list[Quota]
    next_page_token: str = ""


class Quotas:
    """Of the account, unless a user or a key of it is named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, quota: str, *, user_id: str = "", key_id: str = "") -> Quota:
        return self._transport.call("GET", f"{self._path(user_id, key_id)}/{quote(quota, safe='')}", Quota)

    def list(self, *, user_id: str = "", key_id: str = "", filter: str = "", order_by: str = "") -> Iterator[Quota]:
        for page in pages(self._transport, self._path(user_id, key_id), QuotaPage, selection(filter, order_by)):
            yield from page.quotas

    def update(
        self,
        quota: str,
        *,
        value: int | None = None,
        max_value: int | None = None,
        user_id: str = "",
        key_id: str = "",
    ) -> Quota:
        """NO_LIMIT takes a limit away; what is not given stays as it is."""
        limits = given({"value": value, "max_value": max_value})
        body = {name: str(limit) for name, limit in limits.items()}
        path = f"{self._path(user_id, key_id)}/{quote(quota, safe='')}"
        return self._transport.call("PATCH", path, Quota, {"allowMissing": True}, body)

    def _path(self, user_id: str, key_id: str) -> str:
        of = f"/users/{quote(user_id, safe='')}" if user_id else ""
        of = f"/apiKeys/{quote(key_id, safe='')}" if key_id else of
        return f"{account_path(self._transport.account_id)}{of}/quotas"
