"""Zero data retention: what people send in is nowhere afterwards but where they put it.

A daemon of its own, at its most talkative log level, with a folder for temporary files of its own. Words that occur
nowhere else are sent in every part of a request that may hold them, in good requests and in bad ones; then every byte
that the daemon has left is searched for them: while it runs, after it was killed, and after a life that ended well.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess


class Canaries(dict[str, str]):
    """A word for each place that something is sent in, made when it is first sent."""

    def __missing__(self, place: str) -> str:
        self[place] = f"canary{secrets.token_hex(8)}{place.replace('-', '')}"
        return self[place]


CANARIES = Canaries()
FILES = {"dataset-line": "datasets", "broken-dataset-line": "datasets", "model-file": "models"}
"""What people upload stays, in the folder where it belongs."""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonProcess]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    daemon = DaemonProcess(tmp_path / "data", log_level="debug")
    yield daemon.start()
    daemon.close()


def test_nothing_of_what_people_send_is_left_behind(daemon: DaemonProcess, tmp_path: Path) -> None:
    key = send_everything(daemon)
    words = {**CANARIES, "api-key": key.split("_")[2], "admin-key": daemon.api_key.split("_")[2]}
    assert found_in_files(tmp_path, words) == []
    assert found_in_processes(daemon, words) == []
    assert found_in_metrics(daemon, words) == []
    daemon.kill()
    assert found_in_files(tmp_path, words) == []
    daemon.start()
    assert daemon.stop() == 0
    assert found_in_files(tmp_path, words) == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hearth.db").write_bytes(bytes(5) + CANARIES["prompt"].encode())
    (tmp_path / "data" / "datasets").mkdir()
    (tmp_path / "data" / "datasets" / "lines").write_text(CANARIES["dataset-line"])
    assert found_in_files(tmp_path, CANARIES) == ["prompt in data/hearth.db"]


# ---- sending


def send_everything(daemon: DaemonProcess) -> str:
    """Returns an API key that was used, and revoked."""
    with daemon.client() as admin:
        path = "/v1/accounts/hearth/users/admin/apiKeys"
        made = admin.post(path, json={"apiKey": {"displayName": "canary"}}).json()
        keep_secrets(admin)
        upload_files(admin)
        with httpx.Client(base_url=daemon.base_url, headers={"X-Api-Key": made["key"]}, timeout=60.0) as client:
            infer(client)
            infer_wrongly(client)
        assert admin.post(f"{path}:delete", json={"keyId": made["keyId"]}).status_code == 200
    assert httpx.get(f"{daemon.base_url}/v1/accounts", headers={"X-Api-Key": made["key"]}).status_code == 401
    return str(made["key"])


def infer(client: httpx.Client) -> None:
    word = CANARIES
    headers = {"X-Canary": word["header"], "X-Session-Affinity": word["header"]}
    tool = {
        "name": word["tool-name"],
        "description": word["tool-description"],
        "parameters": {"type": "object", "properties": {word["tool-argument"]: {"type": "string"}}},
    }
    call = {"name": word["tool-name"], "arguments": f'{{"{word["tool-argument"]}": "{word["tool-argument"]}"}}'}
    schema = {
        "type": "object",
        "description": word["schema-description"],
        "properties": {word["schema-property"]: {"enum": [word["schema-property"]]}},
    }
    messages = [
        {"role": "system", "content": word["system"]},
        {"role": "user", "content": word["prompt"]},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": word["answer-so-far"]},
        {"role": "user", "content": [{"type": "text", "text": word["prompt"]}]},
    ]
    chat = {
        "model": EMBER,
        "messages": messages,
        "max_tokens": 3,
        "user": word["user-field"],
        "metadata": {"k": word["metadata"]},
        "stop": [word["stop-word"]],
        "prompt_cache_key": word["user-field"],
    }
    plain = [{"role": "user", "content": word["prompt"]}]
    asked = [
        ("chat/completions", chat),
        ("chat/completions", chat | {"stream": True}),
        ("chat/completions", chat | {"tools": [{"type": "function", "function": tool}]}),
        (
            "chat/completions",
            {"model": EMBER, "messages": plain, "max_tokens": 3}
            | {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}},
        ),
        ("completions", {"model": EMBER, "prompt": word["completion-prompt"], "echo": True, "max_tokens": 3}),
        ("completions", {"model": EMBER, "prompt": word["completion-prompt"], "stream": True, "max_tokens": 3}),
        ("messages", {"model": EMBER, "messages": plain, "system": word["message-block"], "max_tokens": 3}),
    ]
    for path, body in asked:
        answer = client.post(f"/inference/v1/{path}?note={word['query']}", json=body, headers=headers)
        assert answer.status_code == 200, (path, answer.text)


def infer_wrongly(client: httpx.Client) -> None:
    """Refusals may quote what they refuse, to who sent it."""
    word = CANARIES
    plain = [{"role": "user", "content": word["prompt"]}]
    asked: list[tuple[str, object]] = [
        ("chat/completions", {"model": word["model-name"], "messages": plain}),
        ("chat/completions", {"model": EMBER, "messages": plain, "temperature": word["bad-value"]}),
        ("chat/completions", {"model": EMBER, "messages": [{"role": word["bad-value"], "content": word["prompt"]}]}),
        ("chat/completions", {"model": EMBER, "messages": plain, "tools": [{"type": word["bad-value"]}]}),
        (
            "chat/completions",
            {"model": EMBER, "messages": plain}
            | {"response_format": {"type": "grammar", "grammar": f"root ::= {word['grammar']}"}},
        ),
        (
            "chat/completions",
            {"model": EMBER, "messages": plain}
            | {
                "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": word["schema-property"]}}}
            },
        ),
        (
            "chat/completions",
            {"model": EMBER}
            | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": word["image"]}}]}]},
        ),
        ("completions", {"model": EMBER, "prompt": word["completion-prompt"] * 3000}),
        ("completions", {"model": EMBER, "prompt": word["completion-prompt"], "suffix": word["suffix"], "n": 0}),
        ("messages", {"model": EMBER, "messages": [{"role": "user", "content": [{"type": word["bad-value"]}]}]}),
    ]
    for path, body in asked:
        answer = client.post(f"/inference/v1/{path}", json=body)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
    broken = f'{{"model": "{EMBER}", "messages": [{{"role": "user", "content": "{word["bad-json"]}'
    assert client.post("/inference/v1/chat/completions", content=broken).status_code == 400
    assert client.get(f"/inference/v1/models/{word['model-name']}").status_code == 404
    assert client.get(f"/v1/accounts/hearth/models/{word['model-name']}").status_code in (400, 404)


def keep_secrets(admin: httpx.Client) -> None:
    secret = {"name": "wandb", "keyName": "WANDB_API_KEY", "value": CANARIES["secret-value"]}
    assert admin.post("/v1/accounts/hearth/secrets", json=secret).status_code == 200
    assert admin.patch("/v1/accounts/hearth/secrets/wandb", json={"value": CANARIES["secret-value"]}).status_code == 200
    oidc = {"issuerUrl": "https://login.example.com", "clientId": "h", "clientSecret": CANARIES["identity-secret"]}
    provider = {"oidcConfig": oidc, "tenantDomains": ["example.com"]}
    assert admin.post("/v1/accounts/hearth/identityProviders", json=provider).status_code == 200


def upload_files(admin: httpx.Client) -> None:
    """Files with a canary in them, good ones and such as the checks refuse."""
    good = f'{{"prompt": "{CANARIES["dataset-line"]}", "completion": "x"}}\n'
    broken = (
        f'{good}{{"messages": "{CANARIES["broken-dataset-line"]}"\n{{"role": "{CANARIES["broken-dataset-line"]}"}}\n'
    )
    for id, content, status in (("good", good, 200), ("broken", broken, 400)):
        made = admin.post("/v1/accounts/hearth/datasets", json={"datasetId": id, "dataset": {}})
        assert made.status_code == 200, made.text
        sent = admin.post(f"/v1/accounts/hearth/datasets/{id}:upload", files={"file": ("a.jsonl", content.encode())})
        assert sent.status_code == status, sent.text
    config = f'{{"architectures": ["StrangeModel"], "about": "{CANARIES["model-file"]}"}}'.encode()
    model = "/v1/accounts/hearth/models/strange"
    created = {"modelId": "strange", "model": {"kind": "HF_BASE_MODEL", "baseModelDetails": {}}}
    assert admin.post("/v1/accounts/hearth/models", json=created).status_code == 200
    sizes = {"filenameToSize": {"config.json": len(config)}}
    urls = admin.post(f"{model}:getUploadEndpoint", json=sizes).json()["filenameToSignedUrls"]
    assert httpx.put(urls["config.json"], content=config).status_code == 200
    assert admin.get(f"{model}:validateUpload").status_code == 400


# ---- searching


def found_in_files(root: Path, words: dict[str, str]) -> list[str]:
    """Below the folder of the data directory, the logs and the temporary files."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        place = path.relative_to(root)
        for name, word in words.items():
            belongs = FILES.get(name) in place.parts or (name == "admin-key" and path.name == "admin-api-key")
            if word.encode() in content and not belongs:
                found.append(f"{name} in {place}")
    return found


def found_in_processes(daemon: DaemonProcess, words: dict[str, str]) -> list[str]:
    """In what everybody who lists processes may read, and in what they hand down."""
    process = psutil.Process(daemon.pid)
    texts = [f"{each.cmdline()} {each.environ()}" for each in (process, *process.children(recursive=True))]
    return [name for name, word in words.items() for text in texts if word in text]


def found_in_metrics(daemon: DaemonProcess, words: dict[str, str]) -> list[str]:
    with daemon.client() as client:
        text = client.get("/metrics").text + client.get("/v1/accounts/hearth/auditLogs").text
    return [name for name, word in words.items() if word in text]
