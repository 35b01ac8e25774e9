"""Runs under fireworks-ai 0.19.20 alone: asks its old image client for pictures and prints what came back, as JSON.

Arguments: base URL, key, account, model. Imports nothing of ours.
"""

import base64
import io
import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from PIL import Image

# By name: type checkers see the newer release, which has other things under this one.
old_images: Any = import_module("fireworks.client.image")
old_error: Any = import_module("fireworks.client.error")

PROMPT = "a red fox asleep in the snow"


def drawing() -> Image.Image:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (16, 16, 48, 48))
    return image


def shown(answer: Any) -> dict[str, Any]:
    file = io.BytesIO()
    answer.image.convert("RGB").save(file, "PNG")
    return {
        "format": answer.image.format,
        "size": answer.image.size,
        "png": base64.b64encode(file.getvalue()).decode(),
        "finish_reason": answer.finish_reason,
    }


def draw(client: Any) -> dict[str, Any]:
    few = {"steps": 3, "seed": 7, "height": 64, "width": 64}
    edges = client.canny_edge_detection(drawing())
    return {
        "text": shown(client.text_to_image(PROMPT, **few)),
        "jpeg": shown(client.text_to_image(PROMPT, output_image_format="JPG", **few)),
        "several": [shown(answer) for answer in client.text_to_image(PROMPT, samples=2, **few)],
        "image": shown(client.image_to_image(drawing(), PROMPT, image_strength=0.25, **few)),
        "schedule": shown(
            client.image_to_image(
                drawing(),
                PROMPT,
                init_image_mode="STEP_SCHEDULE",
                step_schedule_start=0.75,
                step_schedule_end=0.0,
                **few,
            )
        ),
        "images": [
            shown(answer) for answer in client.image_to_image(drawing(), PROMPT, image_strength=0.25, samples=2, **few)
        ],
        "edges": sorted(set(edges.tobytes())),
        "control": shown(client.control_net(edges, "canny", PROMPT, conditioning_scale=0.8, **few)),
        "styled": shown(
            client.text_to_image(
                PROMPT, lora_adapter_name="hearth/style", lora_weight_filename="pytorch_lora_weights.safetensors", **few
            )
        ),
        "filtered": shown(client.text_to_image(PROMPT, safety_check=True, **few)),
    }


def errors(client: Any) -> list[str]:
    names = []
    asked: list[Callable[[], object]] = [
        lambda: client.text_to_image(PROMPT, width=63),
        lambda: client.text_to_image(PROMPT, sampler="NONE_SUCH"),
        lambda: client.control_net(drawing(), "depth", PROMPT),
        lambda: client.qr_code(PROMPT),
    ]
    for ask in asked:
        try:
            ask()
        except old_error.FireworksError as refusal:
            names.append(f"{type(refusal).__name__} {json.loads(str(refusal))['error']['param']}")
    return names


def main() -> None:
    base_url, key, account, model = sys.argv[1:]
    client = old_images.ImageInference(account=account, model=model, api_key=key, base_url=base_url)
    print(json.dumps({**draw(client), "errors": errors(client)}))


main()
