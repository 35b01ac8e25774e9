import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.sdk.client import Client
from appliance.sdk.resources import UploadEndpoint
from tests.appliance.cli.conftest import Hearth
from tests.appliance.services.model_world import read_files
from tests.fakes.tiny_diffusion import build_tiny_lora, build_tiny_sdxl
from tests.fakes.tiny_embedder import build_tiny_embedder


def test_a_model_is_uploaded_shown_listed_and_deleted(hearth: Hearth, checkpoint: Path) -> None:
    outcome = hearth("create", "model", "mine", str(checkpoint), "--display-name", "My model", "--public")
    assert outcome.exit_code == 0, outcome.err
    assert "uploaded" in outcome.err
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert ["Name:", "accounts/hearth/models/mine"] in lines
    assert ["State:", "READY"] in lines
    assert ["Public:", "yes"] in lines
    assert ["Parameters:", "115,008"] in lines

    listed = hearth("list", "models")
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("mine ")]
    assert row[1:4] == ["READY", "512", "FP32"]
    assert "\nmine" not in hearth("list", "models", "-a", "fireworks").out

    assert hearth("delete", "model", "mine").out == "Deleted mine\n"
    gone = hearth("get", "model", "mine")
    assert (gone.exit_code, gone.out) == (1, "")
    assert gone.err.startswith("Error: accounts/hearth/models/mine not found. hearth list models ")


def test_json_is_what_the_api_says(hearth: Hearth, model_id: str) -> None:
    shown: Any = hearth("get", "model", model_id, "-o", "json").json
    assert (shown["name"], shown["state"], shown["contextLength"]) == (
        f"accounts/hearth/models/{model_id}",
        "READY",
        512,
    )
    listed: Any = hearth("-o", "json", "list", "models").json
    (again,) = [each for each in listed if each["name"] == shown["name"]]
    assert again.keys() <= shown.keys(), "only get says where a model is deployed"


def test_the_librarys_models_are_named_in_full_or_by_account(hearth: Hearth) -> None:
    name = "accounts/fireworks/models/ember-chat"
    shown = hearth("get", "model", name)
    assert name in shown.out
    assert hearth("get", "model", "ember-chat", "-a", "fireworks").out == shown.out


def test_only_what_belongs_to_a_model_is_sent(hearth: Hearth, checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling.py").write_text("print('never run')")
    (folder / ".gitattributes").write_text("")
    (folder / "original").mkdir()
    # A hub's cache holds links to the files.
    (folder / "config.json").rename(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "blob")
    outcome = hearth("create", "model", "mixed", str(folder), "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert outcome.err == "Not part of the model, left out: modeling.py, original, pytorch_model.bin\n"


def test_a_folder_that_is_no_model_is_refused_before_anything_is_created(hearth: Hearth, tmp_path: Path) -> None:
    missing = hearth("create", "model", "nothing", str(tmp_path / "missing"))
    assert missing.exit_code == 2
    empty = hearth("create", "model", "nothing", str(tmp_path))
    assert (empty.exit_code, empty.err) == (
        1,
        f"Error: {tmp_path} has no config.json: it is not a Hugging Face model folder\n",
    )
    (tmp_path / "config.json").write_text("{}")
    assert "no .safetensors files" in hearth("create", "model", "nothing", str(tmp_path)).err
    assert hearth("get", "model", "nothing").exit_code == 1


def test_a_broken_upload_says_how_to_go_on_and_the_same_command_goes_on(
    hearth: Hearth, checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{}")
    broken = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert broken.exit_code == 1
    assert "stays UPLOADING" in broken.err
    assert broken.err.splitlines()[-1].startswith("Error: ")

    (folder / "config.json").write_text(config)
    mended = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert mended.exit_code == 0, mended.err
    assert "waits for its files" in mended.err
    again = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert (again.exit_code, again.err) == (1, "Error: accounts/hearth/models/second-try already exists\n")


def test_an_upload_shows_its_progress_on_a_terminal(hearth: Hearth, checkpoint: Path) -> None:
    with hearth.in_terminal("create", "model", "watched", str(checkpoint)) as screen:
        assert screen.wait() == 0, screen.text
    assert "━" in screen.text
    assert re.search(r"\d+(\.\d)?/\d+(\.\d)? (KiB|MiB)", screen.text)
    assert "State:           READY" in screen.text


def test_a_list_fits_80_columns_and_never_cuts_an_id(hearth: Hearth, checkpoint: Path) -> None:
    model_id = "a-model-with-a-rather-long-name-but-not-the-longest-possible"
    assert hearth("create", "model", model_id, str(checkpoint), "--quiet").exit_code == 0
    with hearth.in_terminal("list", "models") as screen:
        assert screen.wait() == 0
    lines = screen.text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any(line.split()[:1] == [model_id] for line in lines)


def test_a_model_is_changed_and_what_is_empty_is_taken_away(hearth: Hearth, checkpoint: Path, tmp_path: Path) -> None:
    assert hearth("create", "model", "changed", str(checkpoint), "--quiet").exit_code == 0
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    words = ("--display-name", "New", "--context-length", "100", "--chat-template", str(template))
    changed: Any = hearth("update", "model", "changed", *words, "-o", "json").json
    assert (changed["displayName"], changed["contextLength"]) == ("New", 100)
    assert changed["conversationConfig"]["template"] == template.read_text()
    assert "Chat template:" in hearth("get", "model", "changed").out
    cleared: Any = hearth("model", "update", "changed", "--display-name", "", "--context-length", "0", "-ojson").json
    assert (cleared["displayName"], cleared["contextLength"]) == ("", 512)
    assert hearth("update", "model", "changed").exit_code == 2
    template.write_text("{% if")
    assert "malformed" in hearth("update", "model", "changed", "--chat-template", str(template)).err
    assert hearth("update", "model", "changed", "--supports-image-input").exit_code == 1


def test_a_model_comes_back_as_it_was_sent_and_what_came_before_is_not_fetched_again(
    hearth: Hearth, checkpoint: Path, model_id: str, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "folder"
    outcome = hearth("download", "model", model_id, str(target))
    assert (outcome.exit_code, outcome.err) == (0, "")
    sent = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    assert {file.name: file.read_bytes() for file in target.iterdir()} == sent

    weights = target / "model.safetensors"
    half = target / f".{weights.name}.0-0.part"
    half.write_bytes(b"of another version")
    weights.unlink()
    (target / "config.json").write_bytes(b"x" * len(sent["config.json"]))  # as large: taken for the same
    assert hearth("model", "download", model_id, str(target)).exit_code == 0
    assert weights.read_bytes() == sent["model.safetensors"]
    assert not half.exists()
    assert (target / "config.json").read_bytes().startswith(b"xxx")


def test_half_of_a_download_is_gone_on_with(hearth: Hearth, checkpoint: Path, model_id: str, tmp_path: Path) -> None:
    with httpx.Client() as http, Client(hearth.daemon.base_url, hearth.daemon.api_key) as client:
        url = client.models.download_urls(model_id)["model.safetensors"]
        version = http.head(url).headers["ETag"].strip('"')
        whole = (checkpoint / "model.safetensors").read_bytes()
        (tmp_path / f".model.safetensors.{version}.part").write_bytes(whole[:1000])
        told: list[int] = []
        client.models.download(url, tmp_path / "model.safetensors", told.append)
    assert (told[0], sum(told)) == (1000, len(whole))
    assert (tmp_path / "model.safetensors").read_bytes() == whole


def test_a_large_file_is_taken_up_again_where_it_ended(
    hearth: Hearth, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.sdk.models.RESUMABLE_BYTES", 1000)
    weights = checkpoint / "model.safetensors"
    with Client(hearth.daemon.base_url, hearth.daemon.api_key) as client:
        client.models.create("resumed")
        path = f"/v1/accounts/{client.account_id}/models/resumed:getUploadEndpoint"
        body = {"filenameToSize": {weights.name: weights.stat().st_size}, "enableResumableUpload": True}
        urls = client.call("POST", path, UploadEndpoint, body=body).filename_to_signed_urls
        part = weights.read_bytes()[:5000]
        headers = {"Content-Range": f"bytes 0-4999/{weights.stat().st_size}"}
        assert httpx.put(urls[weights.name], content=part, headers=headers).status_code == 308
        assert client.ask_upload(urls[weights.name], weights.stat().st_size).num_bytes == 5000
    outcome = hearth("upload", "model", "resumed", str(checkpoint), "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert "READY" in outcome.out


def test_a_model_is_prepared_for_what_this_box_serves(hearth: Hearth, model_id: str) -> None:
    assert "ready for FP16" in hearth("prepare-model", model_id, "--precision", "fp16").out
    refused = hearth("prepare", "model", model_id, "--precision", "FP4")
    assert (refused.exit_code, "FP8" in refused.err) == (1, True)
    assert "Precisions:" in hearth("get", "model", model_id).out


def test_files_are_checked_when_asked_for(hearth: Hearth, model_id: str) -> None:
    assert "READY" in hearth("validate", "model", model_id).out
    assert hearth("validate", "model", model_id, "--config-only").exit_code == 0


def test_an_image_model_with_its_folders_goes_up_and_comes_back(hearth: Hearth, tmp_path: Path) -> None:
    folder = build_tiny_sdxl(tmp_path / "sdxl", control_nets=["canny"])
    (folder / "vae_decoder").mkdir()
    (folder / "vae_decoder" / "model.onnx").write_bytes(b"x")
    outcome = hearth("create", "model", "painter", str(folder), "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert outcome.err == "Not part of the model, left out: vae_decoder\n"
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert ["Kind:", "FLUMINA_BASE_MODEL"] in lines
    assert ["Type:", "sdxl"] in lines
    shutil.rmtree(folder / "vae_decoder")
    assert hearth("download", "model", "painter", str(tmp_path / "back")).exit_code == 0
    assert read_files(tmp_path / "back") == read_files(folder)

    style = build_tiny_lora(tmp_path / "style", folder)
    outcome = hearth("create", "model", "style", str(style), "--base-model", "painter", "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert ["Kind:", "FLUMINA_ADDON"] in [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    for model in ("style", "painter"):
        assert hearth("delete", "model", model).exit_code == 0


def test_a_decoder_is_taken_for_embedding_when_it_is_said(hearth: Hearth, tmp_path: Path) -> None:
    folder = build_tiny_embedder(tmp_path / "reranker", "qwen3_reranker")
    outcome = hearth("create", "model", "reranker", str(folder), "--embedding", "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert ["Kind:", "EMBEDDING_MODEL"] in [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert hearth("delete", "model", "reranker").exit_code == 0
    assert hearth("create", "model", "x", str(folder), "--embedding", "--base-model", "reranker").exit_code == 2
