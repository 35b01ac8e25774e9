"""Users as a client sees them: the people of an account, and its service accounts."""

from collections.abc import Iterator

from appliance.sdk.resources import (
    Empty,
    Resource,
    Status,
    Transport,
    collection_path,
    given,
    pages,
    resource_path,
    selection,
)

COLLECTION = "users"


class User(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    email: str = ""
    role: str = ""
    service_account: bool = False
    state: str = ""
    status: Status = Status()
    create_time: str | None = None
    update_time: str | None = None


class UserPage(Resource, frozen=True, kw_only=True):
    users: list[User]
    next_page_token: str = ""


class Users:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, user_id: str | None = None, *, role: str, **fields: object) -> User:
        """Without an id the server makes one from the e-mail address."""
        query = {"userId": user_id}
        body = given({"role": role, **fields})
        return self._transport.call("POST", collection_path(self._transport, COLLECTION), User, query, body)

    def get(self, user: str) -> User:
        return self._transport.call("GET", self._path(user), User)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[User]:
        path = collection_path(self._transport, COLLECTION)
        for page in pages(self._transport, path, UserPage, selection(filter, order_by)):
            yield from page.users

    def update(self, user: str, **fields: object) -> User:
        """What is not given stays as it is."""
        return self._transport.call("PATCH", self._path(user), User, body=given(fields))

    def delete(self, user: str) -> None:
        """With all its keys."""
        self._transport.call("DELETE", self._path(user), Empty)

    def _path(self, user: str) -> str:
        return resource_path(self._transport, COLLECTION, user)
