"""Secrets as a client sees them: a value goes in and never comes back."""

from collections.abc import Iterator

from appliance.sdk.resources import (
    Empty,
    Resource,
    Transport,
    collection_path,
    given,
    pages,
    resource_path,
    selection,
)

COLLECTION = "secrets"


class Secret(Resource, frozen=True, kw_only=True):
    name: str
    key_name: str = ""
    create_time: str | None = None
    update_time: str | None = None


class SecretPage(Resource, frozen=True, kw_only=True):
    secrets: list[Secret]
    next_page_token: str = ""


class Secrets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, secret_id: str, *, key_name: str, value: str) -> Secret:
        body = {"name": secret_id, "keyName": key_name, "value": value}
        return self._transport.call("POST", collection_path(self._transport, COLLECTION), Secret, body=body)

    def get(self, secret: str) -> Secret:
        return self._transport.call("GET", self._path(secret), Secret)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[Secret]:
        path = collection_path(self._transport, COLLECTION)
        for page in pages(self._transport, path, SecretPage, selection(filter, order_by)):
            yield from page.secrets

    def update(self, secret: str, *, key_name: str | None = None, value: str | None = None) -> Secret:
        """What is not given stays as it is."""
        body = given({"key_name": key_name, "value": value})
        return self._transport.call("PATCH", self._path(secret), Secret, body=body)

    def delete(self, secret: str) -> None:
        self._transport.call("DELETE", self._path(secret), Empty)

    def _path(self, secret: str) -> str:
        return resource_path(self._transport, COLLECTION, secret)
