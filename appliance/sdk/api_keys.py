"""API keys as a client sees them: the key itself is in the answer to its creation alone."""

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from appliance.sdk.resources import Empty, Resource, Transport, collection_path, given, pages, resource_path, selection


class ApiKey(Resource, frozen=True, kw_only=True):
    key_id: str
    display_name: str = ""
    key: str = ""
    """The secret; only in the answer to create."""
    prefix: str = ""
    user: str = ""
    """Full name of whose it is."""
    email: str = ""
    """Of that user."""
    annotations: dict[str, str] = {}
    create_time: str | None = None
    expire_time: str | None = None
    last_used: str | None = None


class ApiKeyPage(Resource, frozen=True, kw_only=True):
    api_keys: list[ApiKey]
    next_page_token: str = ""


class ApiKeys:
    """A new one is the caller's own unless a user is named; of the others, `user_id` narrows down which are meant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        display_name: str | None = None,
        expire_time: str | None = None,
        annotations: Mapping[str, str] | None = None,
        user_id: str | None = None,
    ) -> ApiKey:
        properties = given({"display_name": display_name, "expire_time": expire_time, "annotations": annotations})
        return self._transport.call("POST", self._path(user_id), ApiKey, body={"apiKey": properties})

    def get(self, key_id: str, *, user_id: str | None = None) -> ApiKey:
        return self._transport.call("GET", f"{self._path(user_id)}/{quote(key_id, safe='')}", ApiKey)

    def list(self, *, user_id: str | None = None, filter: str = "", order_by: str = "") -> Iterator[ApiKey]:
        for page in pages(self._transport, self._path(user_id), ApiKeyPage, selection(filter, order_by)):
            yield from page.api_keys

    def delete(self, key_id: str, *, user_id: str | None = None) -> None:
        self._transport.call("POST", f"{self._path(user_id)}:delete", Empty, body={"keyId": key_id})

    def _path(self, user_id: str | None) -> str:
        if user_id is None:
            return collection_path(self._transport, "apiKeys")
        return f"{resource_path(self._transport, 'users', user_id)}/apiKeys"
