"""Accounts as a client sees them: one's own, and for administrators of the box all."""

from collections.abc import Iterator

from appliance.sdk.api_keys import ApiKey
from appliance.sdk.resources import Resource, Status, Transport, account_path, given, pages, selection


class Account(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    email: str = ""
    state: str = ""
    status: Status = Status()
    suspend_state: str = ""
    """Unless UNSUSPENDED, it may only read."""
    create_time: str | None = None
    update_time: str | None = None


class CreatedAccount(Account, frozen=True, kw_only=True):
    api_key: ApiKey
    """Of its administrator, with the key itself, this once."""


class AccountPage(Resource, frozen=True, kw_only=True):
    accounts: list[Account]
    next_page_token: str = ""


class Accounts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, account_id: str, *, display_name: str | None = None, email: str | None = None) -> CreatedAccount:
        """For administrators of the box."""
        body = {"accountId": account_id, "account": given({"display_name": display_name, "email": email})}
        return self._transport.call("POST", "/v1/accounts", CreatedAccount, body=body)

    def get(self, account_id: str) -> Account:
        return self._transport.call("GET", _path(account_id), Account)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Account]:
        for page in pages(self._transport, "/v1/accounts", AccountPage, selection(filter, order_by)):
            yield from page.accounts

    def update(self, account_id: str, **fields: object) -> Account:
        """What is not given stays as it is."""
        return self._transport.call("PATCH", _path(account_id), Account, body=given(fields))

    def suspend(self, account_id: str, *, reason: str | None = None) -> Account:
        body = given({"reason": reason})
        return self._transport.call("POST", f"{_path(account_id)}:suspend", Account, body=body)

    def unsuspend(self, account_id: str) -> Account:
        return self._transport.call("POST", f"{_path(account_id)}:unsuspend", Account, body={})


def _path(account: str) -> str:
    """Of an id, or of a full name."""
    return account_path(account.removeprefix("accounts/"))
