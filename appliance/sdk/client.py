"""A synchronous client of one daemon. The only file of the SDK that opens a connection.

with Client("http://127.0.0.1:8080", api_key) as client:
    for piece in client.chat.stream("accounts/fireworks/models/ember-chat", [Message("user", "Hello")]):
        print(piece.text, end="")
"""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from appliance.sdk.accounts import Accounts
from appliance.sdk.addresses import is_loopback
from appliance.sdk.api_keys import ApiKeys
from appliance.sdk.audit_logs import AuditLogs
from appliance.sdk.billing import Billing
from appliance.sdk.chat import Chat
from appliance.sdk.datasets import Datasets
from appliance.sdk.deployed_models import DeployedModels
from appliance.sdk.deployment_shapes import DeploymentShapes
from appliance.sdk.deployments import Deployments
from appliance.sdk.errors import ApiError, NoAnswer, error_from_answer
from appliance.sdk.fleet import Node
from appliance.sdk.halves import CHANGED_STATUSES, Half
from appliance.sdk.identities import KeyHolder
from appliance.sdk.identity_providers import IdentityProviders
from appliance.sdk.listing import Listing
from appliance.sdk.models import Models
from appliance.sdk.originals import keep
from appliance.sdk.quotas import Quotas
from appliance.sdk.reservations import Clusters, Reservations
from appliance.sdk.resources import UploadState
from appliance.sdk.secrets import Secrets
from appliance.sdk.users import Users

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 600.0
"""Checking an uploaded model reads all of it, and a first token may wait for a load."""
UPLOAD_PIECE_BYTES = 1024 * 1024
DONE = b"[DONE]"
JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class Planned(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    method: str
    path: str
    query: dict[str, str] = {}
    body: object = None


class Client:
    """`account_id` is the key's own account unless another is named.

    `before` is told of every request and may raise what keeps it from being sent; `keeps_originals` makes resources
    remember the JSON that they came as.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        account_id: str | None = None,
        *,
        listing: Listing | None = None,
        before: Callable[[Planned], None] | None = None,
        keeps_originals: bool = False,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.listing = listing or Listing()
        self._before = before
        self._keeps_originals = keeps_originals
        self._account_id = account_id
        self._key_header = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = httpx.Timeout(answer_timeout_s, connect=min(answer_timeout_s, CONNECT_TIMEOUT_S))
        self.accounts = Accounts(self)
        self.users = Users(self)
        self.api_keys = ApiKeys(self)
        self.secrets = Secrets(self)
        self.identity_providers = IdentityProviders(self)
        self.models = Models(self)
        self.datasets = Datasets(self)
        self.deployments = Deployments(self)
        self.deployed_models = DeployedModels(self)
        self.deployment_shapes = DeploymentShapes(self)
        self.reservations = Reservations(self)
        self.quotas = Quotas(self)
        self.billing = Billing(self)
        self.clusters = Clusters(self)
        self.audit_logs = AuditLogs(self)
        self.node = Node(self)
        self.chat = Chat(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for name in ("_plain", "_secure"):
            if name in self.__dict__:
                self.__dict__[name].close()

    @cached_property
    def _plain(self) -> httpx.Client:
        """For URLs without TLS. Trusts no certificate: reading those that are trusted takes longer than an answer."""
        return self._open(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    @cached_property
    def _secure(self) -> httpx.Client:
        return self._open(trusted=True)

    def _open(self, trusted: ssl.SSLContext | bool) -> httpx.Client:
        # A proxy meant for the world would swallow calls to the daemon next door.
        return httpx.Client(
            headers={"User-Agent": f"hearth-sdk/{version('hearth')}"},
            timeout=self._timeout,
            verify=trusted,
            trust_env=not is_loopback(self.base_url),
        )

    @property
    def account_id(self) -> str:
        return self._account_id or self.key_account_id

    @cached_property
    def key_holder(self) -> KeyHolder:
        """Whose the key is, as the server says."""
        with self._send("GET", "/verifyApiKey") as response:
            account_id, payload = response.headers.get("x-fireworks-account-id"), response.read()
        try:
            holder = msgspec.json.decode(payload, type=KeyHolder)
        except msgspec.DecodeError:
            account_id = None
        if not account_id:
            raise NoAnswer(f"{self.base_url} does not say which account the key belongs to; is it a Hearth daemon?")
        return msgspec.structs.replace(holder, account_id=str(account_id))

    @property
    def key_account_id(self) -> str:
        return self.key_holder.account_id

    def call(self, method: str, path: str, kind: type[T], query: Mapping[str, object] = {}, body: object = None) -> T:
        """One request, one decoded answer. Query parameters that are None, empty or false are left out."""
        parameters = _parameters(query)
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else JSON
        with self._answer(method, path, parameters, content, headers) as response:
            payload = response.read()
        try:
            answer = msgspec.json.decode(payload, type=kind)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"the answer of {self.base_url} to {method} {path} cannot be read: {error}") from error
        if self._keeps_originals:
            keep(answer, msgspec.json.decode(payload))
        return answer

    def text(self, path: str, query: Mapping[str, object] = {}) -> str:
        """What is not JSON."""
        with self._answer("GET", path, _parameters(query)) as response:
            response.read()
            return response.text

    def put_file(self, url: str, file: Path, on_sent: Callable[[int], None]) -> None:
        """Send a file to its signed URL, which is permission enough: the key stays here."""
        size = file.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._answer("PUT", url, content=_pieces(file, on_sent), headers=headers, with_key=False) as response:
            response.read()

    def ask_upload(self, url: str, size: int) -> UploadState:
        """How much of a file is there already; of an URL for resumable uploads."""
        with self._answer("PUT", url, headers={"Content-Range": f"bytes */{size}"}, with_key=False) as response:
            return _upload_state(response, size)

    def put_part(self, url: str, file: Path, start: int, on_sent: Callable[[int], None]) -> UploadState:
        """Send a file from `start` to its end; what arrives before the connection breaks is not lost."""
        size = file.stat().st_size
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size - start),
            "Content-Range": f"bytes {start}-{size - 1}/{size}",
        }
        pieces = _pieces(file, on_sent, start)
        with self._answer("PUT", url, content=pieces, headers=headers, with_key=False) as response:
            return _upload_state(response, size)

    def fetch_file(self, url: str, file: Path, on_received: Callable[[int], None]) -> None:
        """Bring a file from its signed URL; goes on with the half that lies there, and leaves a whole one alone."""
        half = Half.find(file)
        try:
            answer = self._answer("GET", url, headers=half.headers if half else {}, with_key=False)
            with answer as response:
                self._take(response, file, half, on_received)
        except ApiError as error:
            if half is None or error.status not in CHANGED_STATUSES:
                raise
            half.path.unlink()
            self.fetch_file(url, file, on_received)

    def _take(
        self, response: httpx.Response, file: Path, half: "Half | None", on_received: Callable[[int], None]
    ) -> None:
        if half is None and file.exists() and str(file.stat().st_size) == response.headers.get("Content-Length"):
            return on_received(file.stat().st_size)
        half = half or Half.begin(file, response.headers.get("ETag", ""))
        on_received(half.num_bytes)
        with half.path.open("ab") as received:
            for piece in response.iter_raw():
                received.write(piece)
                on_received(len(piece))
        half.path.replace(file)
        return None

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
        if self._before is not None:
            body = msgspec.json.decode(content) if isinstance(content, bytes) and headers == JSON else None
            self._before(Planned(method, url, dict(query), body))
        with self._send(method, url, query, content, headers, with_key) as response:
            yield response

    @contextmanager
    def _send(
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
            with (self._plain if url.startswith("http://") else self._secure).stream(
                method,
                url,
                params=dict(query) or None,
                content=content,
                headers={**headers, **(self._key_header if with_key else {})},
            ) as response:
                if not response.is_success and response.status_code != httpx.codes.PERMANENT_REDIRECT:
                    raise error_from_answer(response.status_code, response.headers, response.read())
                yield response
        except httpx.ConnectError as error:
            raise NoAnswer(f"cannot reach {self.base_url}: is the daemon running? ({error})") from error
        except httpx.TimeoutException as error:
            raise NoAnswer(f"{self.base_url} took too long to answer") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"no complete answer from {self.base_url}: {error}") from error


def _parameters(query: Mapping[str, object]) -> dict[str, str]:
    return {name: _query_text(value) for name, value in query.items() if value not in (None, "", False)}


def _query_text(value: object) -> str:
    return "true" if value is True else str(value)


def _upload_state(response: httpx.Response, size: int) -> UploadState:
    """308 says that more is expected, and how much is there."""
    if response.status_code == httpx.codes.PERMANENT_REDIRECT:
        last = response.headers.get("Range", "").rpartition("-")[2]
        return UploadState(num_bytes=int(last) + 1 if last.isdigit() else 0)
    return msgspec.structs.replace(msgspec.json.decode(response.read(), type=UploadState), num_bytes=size)


def _pieces(file: Path, on_sent: Callable[[int], None], start: int = 0) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
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
