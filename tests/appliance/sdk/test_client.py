import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from appliance.sdk.accounts import Account
from appliance.sdk.chat import Message
from appliance.sdk.client import Client, Planned
from appliance.sdk.errors import NoAnswer, NotFound, TooLarge
from appliance.sdk.originals import original_of


class Script:
    """What a server answers to whatever it is asked, byte for byte, and the requests it got."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.bodies: list[bytes] = []


@contextmanager
def serving(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.readline():
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    head += line
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.splitlines()
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                script.heads.append(head.decode())
                script.bodies.append(self.rfile.read(length))
                self.wfile.write(script.answer)
                if b"Connection: close" in script.answer:
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def stream(*events: bytes) -> bytes:
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


def test_a_call_says_what_sent_it() -> None:
    script = Script(answer(b"{}", headers="x-fireworks-account-id: acme\r\n"))
    with serving(script) as url, Client(url, "secret") as client:
        assert client.account_id == "acme"
    assert re.search(r"User-Agent: hearth-sdk/\d", script.heads[0])


def test_a_call_carries_the_key_and_reads_the_answer() -> None:
    script = Script(answer(b'{"name": "accounts/acme"}'))
    with serving(script) as url, Client(f"{url}/", "fw_key") as client:
        assert client.call("GET", "/v1/accounts/acme", Account, {"hard": True, "none": None, "off": False}).name
    assert script.heads[0].startswith("GET /v1/accounts/acme?hard=true HTTP/1.1")
    assert "Authorization: Bearer fw_key" in script.heads[0]


def test_the_account_is_what_the_server_says_of_the_key_and_is_asked_once() -> None:
    script = Script(answer(b"{}", headers="x-fireworks-account-id: acme\r\n"))
    with serving(script) as url, Client(url, "fw_key") as client:
        assert (client.account_id, client.account_id) == ("acme", "acme")
        assert Client(url, "fw_key", account_id="other").account_id == "other"
    assert len(script.heads) == 1


def test_a_server_that_names_no_account_is_not_ours() -> None:
    with serving(Script(answer(b"{}"))) as url, Client(url, None) as client, pytest.raises(NoAnswer, match="is it a"):
        _ = client.account_id


def test_a_refusal_raises_its_kind() -> None:
    body = b'{"code": 5, "message": "accounts/acme not found", "details": []}'
    with (
        serving(Script(answer(body, "404 Not Found"))) as url,
        Client(url, "k") as client,
        pytest.raises(NotFound, match="accounts/acme not found"),
    ):
        client.call("GET", "/v1/accounts/acme", Account)


def test_an_answer_that_is_not_the_expected_json_is_no_answer() -> None:
    with serving(Script(answer(b"<html>"))) as url, Client(url, "k") as client, pytest.raises(NoAnswer, match="read"):
        client.call("GET", "/v1/accounts/acme", Account)


def test_nobody_listening_is_said_plainly() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url, "k") as client, pytest.raises(NoAnswer, match="is the daemon running"):
            client.call("GET", "/v1/accounts", Account)


def test_a_connection_that_ends_early_is_no_answer() -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"name"'
    with serving(Script(cut)) as url, Client(url, "k") as client, pytest.raises(NoAnswer):
        client.call("GET", "/v1/accounts", Account)


def test_events_are_read_until_the_end_mark_and_only_line_feeds_part_them() -> None:
    script = Script(stream('{"choices":[{"delta":{"content":"a\u2028b"}}]}'.encode(), b"[DONE]", b"never read"))
    with serving(script) as url, Client(url, "k") as client:
        pieces = list(client.chat.stream("m", [Message("user", "Hi")]))
    assert [piece.text for piece in pieces] == ["a\u2028b"]


def test_a_stream_without_its_end_mark_has_broken_off() -> None:
    with serving(Script(stream(b'{"choices":[{"delta":{"content":"a"}}]}'))) as url, Client(url, "k") as client:
        pieces = client.chat.stream("m", [Message("user", "Hi")])
        assert next(pieces).text == "a"
        with pytest.raises(NoAnswer, match="broke off"):
            next(pieces)


def test_a_file_goes_to_its_signed_url_whole_and_without_the_key(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(range(256)) * 8192)
    script = Script(answer(b"{}"))
    sent: list[int] = []
    with serving(script) as url, Client("http://127.0.0.1:1", "fw_key") as client:
        client.put_file(f"{url}/signed?signature=s", file, sent.append)
    assert script.heads[0].startswith("PUT /signed?signature=s")
    assert "fw_key" not in script.heads[0]
    assert script.bodies == [file.read_bytes()]
    assert sum(sent) == file.stat().st_size


def test_a_refused_upload_says_why(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"{}")
    body = b'{"error": {"message": "larger than announced", "code": "TOO_LARGE"}}'
    with (
        serving(Script(answer(body, "413 Content Too Large"))) as url,
        Client(url, "k") as client,
        pytest.raises(TooLarge, match="larger than announced"),
    ):
        client.put_file(f"{url}/signed", file, lambda size: None)


def test_what_watches_requests_sees_each_before_it_is_sent_and_may_keep_it() -> None:
    class KeptError(Exception): ...

    seen: list[Planned] = []

    def watch(planned: Planned) -> None:
        seen.append(planned)
        if planned.method != "GET":
            raise KeptError

    script = Script(answer(b'{"name": "accounts/acme"}'))
    with serving(script) as url, Client(url, None, before=watch) as client:
        client.call("GET", "/v1/accounts/acme", Account, {"readMask": "name"})
        with pytest.raises(KeptError):
            client.call("POST", "/v1/accounts", Account, body={"accountId": "acme"})
    assert seen == [
        Planned("GET", "/v1/accounts/acme", {"readMask": "name"}),
        Planned("POST", "/v1/accounts", {}, {"accountId": "acme"}),
    ]
    assert len(script.heads) == 1


def test_a_client_that_is_told_to_keeps_what_was_sent() -> None:
    script = Script(answer(b'{"name": "accounts/acme", "newField": [1]}'))
    with serving(script) as url, Client(url, None, keeps_originals=True) as client:
        found = client.call("GET", "/v1/accounts/acme", Account)
    assert original_of(found) == {"name": "accounts/acme", "newField": [1]}


def test_the_key_holder_is_what_the_server_says() -> None:
    body = b'{"account": "accounts/acme", "user": "accounts/acme/users/ann", "role": "user", "keyId": "k1"}'
    script = Script(answer(body, headers="x-fireworks-account-id: acme\r\n"))
    with serving(script) as url, Client(url, "fw_key") as client:
        holder = client.key_holder
    assert (holder.account_id, holder.user, holder.role) == ("acme", "accounts/acme/users/ann", "user")
