"""The whole engine against transformers' own greedy generate with pixel values: the same tokens, however it is cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import LlavaForConditionalGeneration, Qwen2VLForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from models.info import AreaSize
from runtime.llm.request import PromptImage, Request
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel, make_request, run, token_ids
from tests.fakes.tiny_vlm import IMAGE_EDGE, IMAGE_TOKEN_ID, START_TOKEN_ID, STOP_TOKEN_ID, VisionFamily
from tests.runtime.llm.vision.images import prompt_image, random_pixels

NUM_NEW_TOKENS = 10
MARGIN_MIN = 1e-3

IMAGE_SIZES: dict[VisionFamily, list[tuple[int, int]]] = {
    "llava": [(IMAGE_EDGE, IMAGE_EDGE)] * 3,
    "qwen2_vl": [(42, 56), (28, 84), (56, 28)],
}


class Prompt:
    """Token ids with every placeholder, and the images behind them."""

    def __init__(self, token_ids: list[int], images: list[PromptImage]) -> None:
        self.token_ids = token_ids
        self.images = images

    def request(self, name: str, num_new_tokens: int = NUM_NEW_TOKENS) -> Request:
        request = make_request(self.token_ids, request_id=name, max_tokens=num_new_tokens)
        request.images = self.images
        return request


class Golden:
    def __init__(self, directory: Path, family: VisionFamily) -> None:
        self.tiny = TinyModel(directory)
        self.family = family
        assert self.tiny.info.vision is not None
        self.vision = self.tiny.info.vision
        self.pixels = [random_pixels(*size, seed) for seed, size in enumerate(IMAGE_SIZES[family])]
        a, b, c = self.pixels
        self.prompts = [
            self.prompt([3, 5, 9], a, [11, 12, 13, 14]),
            self.prompt([], b, [21]),
            self.prompt(list(range(30, 51)), a, [7, 8], b, [9, 10, 11]),
            self.prompt([3, 5, 9], c, [11, 12, 13, 14]),
            self.prompt(list(range(60, 60 + 2 * BLOCK_SIZE + 3))),
        ]
        classes: dict[VisionFamily, Any] = {
            "llava": LlavaForConditionalGeneration,
            "qwen2_vl": Qwen2VLForConditionalGeneration,
        }
        self.reference = classes[family].from_pretrained(directory, dtype=torch.float32)
        self.expected = [self.generate(prompt) for prompt in self.prompts]

    def prompt(self, *pieces: list[int] | NDArray[np.uint8]) -> Prompt:
        token_ids: list[int] = []
        images: list[PromptImage] = []
        is_framed = self.family == "qwen2_vl"
        for piece in pieces:
            if isinstance(piece, list):
                token_ids += piece
                continue
            token_ids += [START_TOKEN_ID] * is_framed
            images.append(prompt_image(self.vision, piece, len(token_ids)))
            token_ids += [IMAGE_TOKEN_ID] * images[-1].num_tokens + [STOP_TOKEN_ID] * is_framed
        return Prompt(token_ids, images)

    def generate(self, prompt: Prompt) -> list[int]:
        input_ids = torch.tensor([prompt.token_ids])
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        generated = self.reference.generate(
            **inputs,
            **self.image_inputs(prompt, input_ids),
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best_two = torch.stack(generated.logits).topk(2).values
        assert (best_two[..., 0] - best_two[..., 1]).min() > MARGIN_MIN, "choose another seed"
        return [int(token_id) for token_id in generated.sequences[0, len(prompt.token_ids) :]]

    def image_inputs(self, prompt: Prompt, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Made by transformers' own image processors of the same pixels."""
        if not prompt.images:
            return {}
        images = [Image.fromarray(image.pixels) for image in prompt.images]
        if self.family == "llava":
            edges = {"size": {"shortest_edge": IMAGE_EDGE}, "crop_size": {"height": IMAGE_EDGE, "width": IMAGE_EDGE}}
            return dict(CLIPImageProcessorPil(**edges)(images, return_tensors="pt"))
        rules = self.vision.size
        assert isinstance(rules, AreaSize)
        processor = Qwen2VLImageProcessorPil(
            patch_size=self.vision.patch_size, min_pixels=rules.min_pixels, max_pixels=rules.max_pixels
        )
        is_image = (input_ids == IMAGE_TOKEN_ID).int()
        return {**processor(images, return_tensors="pt"), "mm_token_type_ids": is_image}


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def golden(request: pytest.FixtureRequest, directories: dict[VisionFamily, Path]) -> Golden:
    return Golden(directories[request.param], request.param)


def test_each_prompt_alone(golden: Golden) -> None:
    for prompt, expected in zip(golden.prompts, golden.expected, strict=True):
        assert token_ids(run(golden.tiny.engine(), [prompt.request("r")])) == [expected]


@pytest.mark.parametrize("enable_prefix_cache", [True, False])
@pytest.mark.parametrize("max_batch_tokens", [1, 3, 7, 64])
def test_mixed_batches_in_chunks_that_split_images(
    golden: Golden, max_batch_tokens: int, enable_prefix_cache: bool
) -> None:
    engine = golden.tiny.engine(max_batch_tokens=max_batch_tokens, enable_prefix_cache=enable_prefix_cache)
    assert token_ids(run(engine, requests(golden), steps_between=2)) == golden.expected
    again = run(engine, requests(golden, "again"))
    assert token_ids(again) == golden.expected
    assert (again[2][0].num_cached_tokens > 0) == enable_prefix_cache


@pytest.mark.parametrize("max_batch_tokens", [3, 64])
def test_preemption_changes_nothing(golden: Golden, max_batch_tokens: int) -> None:
    kept = [0, 3, 0, 3, 0, 3]  # alike in length, so that three are admitted and grow past what the pool holds
    own = [golden.prompts[which].request(str(i)) for i, which in enumerate(kept)]
    engine = golden.tiny.engine(num_blocks=12, max_batch_tokens=max_batch_tokens, enable_prefix_cache=False)
    assert token_ids(run(engine, own)) == [golden.expected[which] for which in kept]
    assert sum(request.num_preemptions for request in own) > 0


def test_a_cached_image_is_neither_encoded_nor_computed_again(golden: Golden) -> None:
    assert golden.tiny.vision is not None
    features = golden.tiny.vision.features
    engine = golden.tiny.engine()
    prompt, expected = golden.prompts[2], golden.expected[2]
    [first] = run(engine, [prompt.request("first")])
    num_encoded = features.num_encoded
    [second] = run(engine, [prompt.request("second")])
    assert token_ids([first, second]) == [expected, expected]
    assert first[0].num_cached_tokens == 0
    assert second[0].num_cached_tokens == (len(prompt.token_ids) - 1) // BLOCK_SIZE * BLOCK_SIZE
    assert features.num_encoded == num_encoded


def test_another_image_behind_the_same_tokens_never_shares(golden: Golden) -> None:
    a, _, _ = golden.pixels
    other = random_pixels(a.shape[0], a.shape[1], 99)
    before = list(range(30, 51))
    prompts = [golden.prompt(before, pixels, [7, 8, 9]) for pixels in (a, other)]
    assert prompts[0].token_ids == prompts[1].token_ids
    expected = [golden.generate(prompt) for prompt in prompts]
    engine = golden.tiny.engine()
    assert token_ids(run(engine, [prompts[0].request("a")])) == expected[:1]
    [outputs] = run(engine, [prompts[1].request("b")])
    assert token_ids([outputs]) == expected[1:]
    first_placeholder = prompts[1].images[0].start
    assert outputs[0].num_cached_tokens == first_placeholder // BLOCK_SIZE * BLOCK_SIZE


def test_a_shifted_image_never_shares_the_blocks_that_look_alike(golden: Golden) -> None:
    """A block full of placeholders says nothing of which part of the image it stands for; its digest does."""
    edge = IMAGE_EDGE if golden.family == "llava" else 84
    a = random_pixels(edge, edge, 7)
    assert golden.prompt(a).images[0].num_tokens >= 2 * BLOCK_SIZE
    engine = golden.tiny.engine()
    shifted = [golden.prompt([5] * length, a, [7]) for length in (BLOCK_SIZE, BLOCK_SIZE + 1)]
    expected = [golden.generate(prompt) for prompt in shifted]
    assert token_ids(run(engine, [prompt.request(str(i)) for i, prompt in enumerate(shifted)])) == expected


def requests(golden: Golden, name: str = "first") -> list[Request]:
    return [prompt.request(f"{name} {i}") for i, prompt in enumerate(golden.prompts)]
