"""A synchronous client of one daemon. The only file of the SDK that opens a connection.

with Client("http://127.0.0.1:8080", api_key) as client:
    for piece in client.chat.stream("accounts/fireworks/models/ember-chat", [Message("user", "Hello")]):
        print(piece.text, end="")
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from appliance.sdk.chat import Chat
from appliance.sdk.deployed_models import DeployedModels
from appliance.sdk.deployments import Deployments
from appliance.sdk.errors import NoAnswer, error_from_answer
from appliance.sdk.fleet import Node
from appliance.sdk.resources import Accounts, ApiKeys, Models

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 600.0
"""Checking an uploaded model reads all of it, and a first token may wait for a load."""
UPLOAD_PIECE_BYTES = 1024 * 1024
DONE = b"[DONE]"
JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class Client:
    """`account_id` is the key's own account unless another is named."""

    def __init__(self, base_url: str, api_key: str | None, account_id: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._account_id = account_id
        self._key_header = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # A proxy meant for the world would swallow calls to the daemon next door.
            trust_env=not is_loopback(self.base_url),
        )
        self.accounts = Accounts(self)
        self.api_keys = ApiKeys(self)
        self.models = Models(self)
        self.deployments = Deployments(self)
        self.deployed_models = DeployedModels(self)
        self.node = Node(self)
        self.chat = Chat(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def account_id(self) -> str:
        return self._account_id or self.key_account_id

    @cached_property
    def key_account_id(self) -> str:
        """The account that the key belongs to, as the server says."""
        with self._answer("GET", "/verifyApiKey") as response:
            account_id = response.headers.get("x-fireworks-account-id")
        if not account_id:
            raise NoAnswer(f"{self.base_url} does not say which account the key belongs to; is it a Hearth daemon?")
        return str(account_id)

    def call(self, method: str, path: str, kind: type[T], query: Mapping[str, object] = {}, body: object = None) -> T:
        """One request, one decoded answer. Query parameters that are None, empty or false are left out."""
        parameters = {name: _query_text(value) for name, value in query.items() if value not in (None, "", False)}
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else JSON
        with self._answer(method, path, parameters, content, headers) as response:
            payload = response.read()
        try:
            return msgspec.json.decode(payload, type=kind)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"the answer of {self.base_url} to {method} {path} cannot be read: {error}") from error

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        """Send a file to its signed URL, which is permission enough: the key stays here."""
        size = file.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._answer("PUT", url, content=_pieces(file, on_sent), headers=headers, with_key=False) as response:
            response.read()

    def events(self, path: str, body: object) -> Iterator[bytes]:
        """The data of each server-sent event up to the end mark; raises NoAnswer when the stream stops before it."""
        with self._answer("POST", path, content=msgspec.json.encode(body), headers=JSON) as response:
            for line in _lines(response):
                if line.startswith(b"data:"):
                    data = line.removeprefix(b"data:").strip()
                    if data == DONE:
                        return
                    yield data
        raise NoAnswer("the answer broke off: the server ended the stream early")

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] = {},
        content: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] = {},
        with_key: bool = True,
    ) -> Iterator[httpx.Response]:
        """A successful response whose body is not read yet; everything else raises an SdkError."""
        if not url.startswith(("http://", "https://")):
            url = self.base_url + url
        try:
            with self._http.stream(
                method,
                url,
                params=dict(query) or None,
                content=content,
                headers={**headers, **(self._key_header if with_key else {})},
            ) as response:
                if not response.is_success:
                    raise error_from_answer(response.status_code, response.headers, response.read())
                yield response
        except httpx.ConnectError as error:
            raise NoAnswer(f"cannot reach {self.base_url}: is the daemon running? ({error})") from error
        except httpx.TimeoutException as error:
            raise NoAnswer(f"{self.base_url} took too long to answer") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"no complete answer from {self.base_url}: {error}") from error


def is_loopback(base_url: str) -> bool:
    """Whether a URL leads to this machine."""
    try:
        host = httpx.URL(base_url).host
    except httpx.InvalidURL:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _query_text(value: object) -> str:
    return "true" if value is True else str(value)


def _pieces(file: Path, on_sent: Callable[[int], None]) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(UPLOAD_PIECE_BYTES):
            yield piece
            on_sent(len(piece))


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Lines as bytes; httpx's own splitting also breaks at U+2028 and its like, which JSON text may hold."""
    rest = b""
    for piece in response.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest
