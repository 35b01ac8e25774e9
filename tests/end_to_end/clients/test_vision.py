"""A model with eyes: uploaded by our command line, deployed, and shown images through the `openai` package."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon
from tests.fakes.tiny_vlm import build_tiny_vlm

MODEL = "accounts/hearth/models/eyes"


def hearth(daemon: DaemonProcess, *arguments: str) -> None:
    environment = {**os.environ, "HEARTH_BASE_URL": daemon.base_url, "HEARTH_API_KEY": daemon.api_key}
    subprocess.run([sys.executable, "-m", "appliance", *arguments], env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """Of a daemon of its own: others count the workers of the shared one."""
    directory = build_tiny_vlm(tmp_path_factory.mktemp("model") / "eyes", "llava")
    with running_daemon(tmp_path_factory.mktemp("vision") / "data") as daemon:
        hearth(daemon, "create", "model", "eyes", str(directory))
        hearth(daemon, "create", "deployment", "eyes", "--deployment-id", "eyes", "--wait")
        with OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key=daemon.api_key, max_retries=0) as client:
            yield client


def image(colour: str) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def look(client: OpenAI, *images: dict[str, Any]) -> Any:
    content: Any = [{"type": "text", "text": "What is this?" * 8}, *images]
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=8, temperature=0, logprobs=True
    )


def likelihoods(answer: Any) -> list[float]:
    return [token.logprob for token in answer.choices[0].logprobs.content]


def test_an_image_is_seen_and_remembered_as_itself_alone(client: OpenAI) -> None:
    red, blue = look(client, image("red")), look(client, image("blue"))
    assert red.usage.prompt_tokens == blue.usage.prompt_tokens
    assert likelihoods(red) != likelihoods(blue), "what is seen tells the answers apart"
    again = look(client, image("red"))
    assert again.usage.prompt_tokens_details.cached_tokens > blue.usage.prompt_tokens_details.cached_tokens
    assert again.choices[0].message.content == red.choices[0].message.content


def test_several_images_take_their_places(client: OpenAI) -> None:
    one, two = look(client, image("red")), look(client, image("red"), image("blue"))
    assert two.usage.prompt_tokens > one.usage.prompt_tokens


def test_what_is_no_image_is_refused_by_its_place(client: OpenAI) -> None:
    damaged = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(openai.BadRequestError, match="image"):
        look(client, damaged)
