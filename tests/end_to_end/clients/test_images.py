"""Models that draw: uploaded by our command line, deployed, and asked by the clients that people have."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionXLPipeline
from openai import OpenAI
from PIL import Image

from tests.end_to_end.clients.test_fireworks_0_19 import PYTHON
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.fakes.tiny_diffusion import CONTROL_NET, LORA_WEIGHTS, build_tiny_flux, build_tiny_lora, build_tiny_sdxl

SDXL, FLUX, STYLE = (f"accounts/hearth/models/{name}" for name in ("painter", "flux", "style"))
MODELS = ("painter", "flux")
PROMPT = "a red fox asleep in the snow"
SCRIPT = Path(__file__).with_name("fireworks_0_19_images_script.py")
READY_WITHIN_S = 120.0
THREE_STEPS: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 5.0, "height": 64, "width": 64}
FEW = {"num_inference_steps": 3, "seed": 7}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("painters")
    painter = build_tiny_sdxl(directory / "painter", control_nets=[CONTROL_NET], has_safety_checker=True)
    return {
        "painter": painter,
        "flux": build_tiny_flux(directory / "flux", is_distilled=True),
        "style": build_tiny_lora(directory / "style", painter),
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Iterator[DaemonProcess]:
    """One of its own: others count the workers of the shared one."""
    with running_daemon(tmp_path_factory.mktemp("images") / "data", num_spare_workers=0) as daemon:
        for name in MODELS:
            hearth(daemon, "create", "model", name, str(folders[name]))
            hearth(daemon, "create", "deployment", name, "--deployment-id", name, "--enable-addons")
        hearth(daemon, "create", "model", "style", str(folders["style"]), "--base-model", SDXL)
        with daemon.client() as client:
            for name in MODELS:
                wait_until(partial(is_serving, client, name), READY_WITHIN_S, f"{name} is deployed")
        hearth(daemon, "load-lora", "style", "--deployment", "painter", "--wait")
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.base_url}/inference/v1", api_key=daemon.api_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def told(daemon: DaemonProcess) -> Any:
    """What the old client's script saw, by the name of the call."""
    arguments = [f"{daemon.base_url}/inference/v1", daemon.api_key, "hearth", "painter"]
    done = subprocess.run([PYTHON, SCRIPT, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> Image.Image:
    """What diffusers itself makes of the prompt and seed 7, in three steps."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folders["painter"], add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return drawn_by(pipeline, **THREE_STEPS)


@pytest.fixture(scope="module")
def styled(folders: dict[str, Path]) -> Image.Image:
    """Likewise with the addon."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folders["painter"], add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(folders["style"], weight_name=LORA_WEIGHTS)
    return drawn_by(pipeline, **THREE_STEPS)


def drawn_by(pipeline: Any, **fields: Any) -> Image.Image:
    image: Image.Image = pipeline(PROMPT, generator=torch.Generator().manual_seed(7), **fields).images[0]
    return image


def is_serving(client: httpx.Client, deployment_id: str) -> bool:
    told = client.get(f"/v1/accounts/hearth/deployments/{deployment_id}").json()
    assert told["state"] != "FAILED", told
    return bool(told["replicaStats"]["readyReplicaCount"])


def hearth(daemon: DaemonProcess, *arguments: str) -> None:
    environment = {**os.environ, "HEARTH_BASE_URL": daemon.base_url, "HEARTH_API_KEY": daemon.api_key}
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments], env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{daemon.log()[-3000:]}"


def opened(data: bytes | str | None) -> Image.Image:
    """A str is base64."""
    assert data
    image = Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> int:
    """Of the pixels that are least alike, in levels of 256."""
    assert one.size == other.size
    return int(np.abs(np.asarray(one.convert("RGB"), np.int16) - np.asarray(other.convert("RGB"), np.int16)).max())


def assert_same(one: Image.Image, other: Image.Image) -> None:
    """But for the last bits, on which the number of threads has its say."""
    assert difference(one, other) <= 1


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def generated(client: OpenAI, **fields: Any) -> list[Image.Image]:
    extra = FEW | fields.pop("extra_body", {})
    answer = client.images.generate(**{"model": SDXL, "prompt": PROMPT, **fields}, extra_body=extra)
    assert answer.data is not None
    assert answer.usage is not None
    return [opened(image.b64_json) for image in answer.data]


def test_openai_reads_the_picture_that_diffusers_makes(client: OpenAI, plain: Image.Image) -> None:
    (image,) = generated(client)
    assert (image.format, image.size) == ("PNG", plain.size)
    assert_same(image, plain)


def test_openai_gets_as_many_as_it_asks_for(client: OpenAI, plain: Image.Image) -> None:
    first, second = generated(client, n=2, size="64x64", response_format="b64_json")
    assert_same(first, plain)
    assert_same(second, generated(client, extra_body={"seed": 8})[0])
    assert difference(first, second) > 20
    (jpeg,) = generated(client, output_format="jpeg", size="96x64")
    assert (jpeg.format, jpeg.size) == ("JPEG", (96, 64))


def test_openai_streams_progress_and_then_the_picture(client: OpenAI, plain: Image.Image) -> None:
    stream = client.images.generate(model=SDXL, prompt=PROMPT, stream=True, extra_body=FEW)
    *drawing, completed = stream
    assert [event.type for event in drawing] == ["image_generation.progress"] * 3
    assert completed.type == "image_generation.completed"
    assert_same(opened(completed.b64_json), plain)


def test_openai_edits_an_image_and_keeps_what_the_mask_keeps(client: OpenAI) -> None:
    image = Image.new("RGB", (64, 64), "black")
    mask = Image.new("RGBA", (64, 64), "black")
    mask.paste((0, 0, 0, 0), (32, 0, 64, 64))

    def edited(**fields: Any) -> Image.Image:
        answer = client.images.edit(model=SDXL, prompt=PROMPT, image=png(image), extra_body=FEW, **fields)
        assert answer.data is not None
        return opened(answer.data[0].b64_json)

    whole, half = edited(), edited(mask=png(mask))
    assert whole.size == half.size == (64, 64)
    assert whole.tobytes() != half.tobytes()
    # Outside of its mask an inpainted picture differs from the image by what the autoencoder loses of it.
    right = half.crop((40, 0, 64, 64)).tobytes()
    assert right != edited(mask=png(mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).crop((40, 0, 64, 64)).tobytes()


def test_an_addon_has_its_own_name(client: OpenAI, plain: Image.Image, styled: Image.Image) -> None:
    (image,) = generated(client, model=STYLE)
    assert_same(image, styled)
    assert difference(image, plain) > 20


def test_openai_is_told_what_is_wrong(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="scheduler: "):
        generated(client, extra_body={"scheduler": "NONE_SUCH"})
    with pytest.raises(openai.BadRequestError, match="image: "):
        client.images.edit(model=SDXL, prompt=PROMPT, image=png(Image.new("RGB", (64, 64)))[:60], extra_body=FEW)
    with pytest.raises(openai.NotFoundError):
        generated(client, model="accounts/hearth/models/nobody")


def test_the_old_fireworks_client_draws_from_text(told: Any, plain: Image.Image) -> None:
    assert_same(opened(told["text"]["png"]), plain)
    assert (told["text"]["format"], told["text"]["finish_reason"]) == ("PNG", "SUCCESS")
    assert (told["jpeg"]["format"], told["jpeg"]["size"]) == ("JPEG", [64, 64])
    first, second = (opened(picture["png"]) for picture in told["several"])
    assert_same(first, plain)
    assert difference(first, second) > 20


def test_the_old_fireworks_client_draws_from_images(told: Any) -> None:
    text, image, control, same = (opened(told[name]["png"]) for name in ("text", "image", "control", "schedule"))
    assert difference(text, image) > 20
    assert difference(text, control) > 20
    assert_same(image, same)  # 0.75 of the steps, said in two ways
    assert_same(image, opened(told["images"][0]["png"]))


def test_the_old_fireworks_client_names_an_addon_beside_its_model(told: Any, styled: Image.Image) -> None:
    assert_same(opened(told["styled"]["png"]), styled)


def test_the_old_fireworks_client_finds_edges(told: Any) -> None:
    assert told["edges"] == [0, 255]
    assert told["control"]["size"] == [64, 64]


def test_the_old_fireworks_client_reads_refusals_and_filtered_pictures(told: Any) -> None:
    assert told["filtered"]["finish_reason"] == "CONTENT_FILTERED"
    assert not any(opened(told["filtered"]["png"]).tobytes())
    fields = ["width", "sampler", "control_net_name", "model_id"]
    assert told["errors"] == [f"InvalidRequestError {field}" for field in fields]


def test_workflows_answer_in_every_form(daemon: DaemonProcess, folders: dict[str, Path]) -> None:
    pipeline = FluxPipeline.from_pretrained(folders["flux"])
    pipeline.set_progress_bar_config(disable=True)
    fields = {"num_inference_steps": 2, "guidance_scale": 0.0, "height": 64, "width": 64}
    plain = drawn_by(pipeline, **fields, max_sequence_length=256)
    body = {"prompt": PROMPT, "num_inference_steps": 2, "seed": 7, "guidance_scale": 3.5}
    with daemon.client() as client:

        def ask(accept: str, **fields: Any) -> httpx.Response:
            path = f"/inference/v1/workflows/{FLUX}/text_to_image"
            return client.post(path, json=body | fields, headers={"Accept": accept}).raise_for_status()

        assert_same(opened(ask("image/png", aspect_ratio="1:1").content), plain)
        answer = ask("application/json").json()
        assert_same(opened(answer["base64"][0]), plain)
        jpeg = ask("image/jpeg", aspect_ratio="3:2", seed=0)
        assert opened(jpeg.content).size == (80, 64)
        assert int(jpeg.headers["Seed"]) > 0
        again = ask("image/jpeg", aspect_ratio="3:2", seed=int(jpeg.headers["Seed"]))
        assert again.content == jpeg.content


def test_bombs_and_disguises_are_refused_by_name_and_harm_nobody(daemon: DaemonProcess) -> None:
    workers = {worker.pid for worker in daemon.workers()}
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, frames = io.BytesIO(), io.BytesIO()
    Image.new("CMYK", (64, 96), (9, 9, 9, 9)).save(turned, "JPEG", exif=exif)
    shades = [Image.new("L", (64, 64), shade) for shade in range(100)]
    shades[0].save(frames, "GIF", save_all=True, append_images=shades[1:])
    harmless = [turned.getvalue(), frames.getvalue(), png(Image.new("I;16", (64, 64), 999))]
    hostile = [
        png(Image.new("1", (8000, 8000))),
        png(Image.new("1", (1, 300))),
        png(Image.new("RGB", (64, 64)))[:50],
        b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        b"\xff\xd8\xff" + bytes(100),
        b"P6\n99999 99999\n255\n",
        b"",
    ]
    with daemon.client() as client:

        def ask(name: str, part: str, data: bytes) -> httpx.Response:
            fields = {"prompt": PROMPT, "steps": "2", "image_strength": "0.5", "control_net_name": CONTROL_NET}
            path = f"/inference/v1/image_generation/{SDXL}/{name}"
            return client.post(path, data=fields, files={part: ("x.png", data, "image/png")})

        for name, part in (("image_to_image", "init_image"), ("control_net", "control_image")):
            for data in harmless:
                assert ask(name, part, data).status_code == 200
            for data in hostile:
                refused = ask(name, part, data)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, part)
        assert ask("image_to_image", "init_image", turned.getvalue()).headers["content-type"] == "image/png"
        for data in hostile:
            refused = ask("canny_edge_detection", "image", data)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "image")
    assert {worker.pid for worker in daemon.workers()} == workers
    assert "Traceback" not in daemon.log()
