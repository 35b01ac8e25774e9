"""A vision-language model from its folder to its text: loaded as a worker loads it, asked as the daemon asks."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from models.llm_folder import inspect_llm
from runtime.engine import LoadedEngine, RequestRefused
from runtime.llm.load import load_llm
from runtime.protocol import Delta, Load, Submit
from runtime.settings import LlmSettings
from runtime.submission import ChatMessage, ChatPrompt, ImagePart, SamplingParams, TextPart, TextPrompt
from tests.fakes.tiny_vlm import IMAGE_EDGE, IMAGE_TOKEN_ID
from tests.runtime.llm.vision.images import random_pixels

GIB = 1024**3
GREEDY = SamplingParams(temperature=0)


def load_message(directory: Path) -> Load:
    settings = LlmSettings(
        device="cpu",
        dtype="float32",
        memory_budget_bytes=2 * GIB,
        max_context_length=256,
        max_num_requests=4,
        max_batch_tokens=16,
        block_size=8,
    )
    return Load(model_dir=str(directory), file_sha256=inspect_llm(directory).file_sha256, settings=settings)


@pytest.fixture(scope="module")
def loaded(llava: Path) -> Iterator[LoadedEngine]:
    loaded = load_llm(load_message(llava), lambda stage, fraction: None)
    yield loaded
    loaded.frontend.close()


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random_pixels(IMAGE_EDGE, IMAGE_EDGE, seed)).save(file, "PNG")
    return file.getvalue()


def question(image: bytes) -> ChatMessage:
    content: list[TextPart | ImagePart] = [
        TextPart(text="what is in "),
        ImagePart(data=image),
        TextPart(text=" and where"),
    ]
    return ChatMessage(role="user", content=content)


def answer(loaded: LoadedEngine, prompt: ChatPrompt | TextPrompt, request_id: str = "r") -> list[Delta]:
    submit = Submit(request_id=request_id, prompt=prompt, sampling=GREEDY, max_tokens=8, ignore_eos=True)
    loaded.engine.add(loaded.frontend.prepare(submit))
    deltas: list[Delta] = []
    while loaded.engine.has_work():
        rendered = loaded.frontend.render(loaded.engine.step())
        assert not rendered.failures
        deltas += rendered.deltas
    return deltas


def token_ids(deltas: list[Delta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


def usage(deltas: list[Delta]) -> Any:
    return deltas[-1].usage


def test_a_chat_about_an_image_is_answered_and_its_second_turn_finds_it_cached(loaded: LoadedEngine) -> None:
    first = [question(picture(1))]
    deltas = answer(loaded, ChatPrompt(messages=first))
    assert len(token_ids(deltas)) == 8
    assert usage(deltas).num_prompt_tokens > 16
    assert token_ids(answer(loaded, ChatPrompt(messages=[question(picture(2))]))) != token_ids(deltas)
    second = [*first, ChatMessage(role="assistant", content="a kettle"), ChatMessage(role="user", content="and?")]
    again = answer(loaded, ChatPrompt(messages=second))
    assert usage(again).num_cached_tokens >= 16


def test_a_completion_is_transformers_own(loaded: LoadedEngine, llava: Path) -> None:
    deltas = answer(loaded, TextPrompt(text="<image>the hearth", images=[picture(3)]))
    model = LlavaForConditionalGeneration.from_pretrained(llava, dtype=torch.float32)
    prepared = loaded.frontend.prepare(
        Submit(request_id="x", prompt=TextPrompt(text="<image>the hearth", images=[picture(3)]))
    )
    loaded.frontend.forget("x")
    [request] = prepared.choices
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    pixels = torch.from_numpy(random_pixels(IMAGE_EDGE, IMAGE_EDGE, 3)).permute(2, 0, 1) / 255
    input_ids = torch.tensor([request.prompt_token_ids])
    generated = model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        pixel_values=((pixels - mean) / std).unsqueeze(0),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert token_ids(deltas) == generated[0, input_ids.shape[1] :].tolist()


_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def test_dropped_turns_take_their_images_along(loaded: LoadedEngine) -> None:
    old = ChatMessage(role="user", content=[ImagePart(data=picture(4)), TextPart(text="old")])
    new = ChatMessage(role="user", content=[TextPart(text="new"), ImagePart(data=picture(5))])
    reply = ChatMessage(role="assistant", content="so it is")
    prompt = ChatPrompt(messages=[old, reply, new], max_tokens=40)
    [request] = loaded.frontend.prepare(Submit(request_id="x", prompt=prompt)).choices
    loaded.frontend.forget("x")
    assert len(request.images) == 1
    assert request.prompt_token_ids.count(IMAGE_TOKEN_ID) == 16
    assert len(request.prompt_token_ids) <= 40


@pytest.mark.parametrize(
    ("prompt", "param", "complaint"),
    [
        (TextPrompt(text="no marker", images=[picture(1)]), "images", "0 places"),
        (TextPrompt(text="<image>", images=[b"rubbish"]), "images", "formats"),
        (TextPrompt(text="<image>" * 20, images=[picture(seed) for seed in range(20)]), "images", "too long"),
        (
            ChatPrompt(messages=[ChatMessage(role="user", content=[ImagePart(data=picture(1)[:60])])]),
            "messages",
            "image 1 of 1 is damaged",
        ),
    ],
)
def test_a_prompt_that_cannot_be_shown_is_refused(
    loaded: LoadedEngine, prompt: ChatPrompt | TextPrompt, param: str, complaint: str
) -> None:
    with pytest.raises(RequestRefused, match=complaint) as refused:
        loaded.frontend.prepare(Submit(request_id="x", prompt=prompt))
    assert refused.value.param == param


def test_a_worker_that_has_imported_nothing_yet_loads_both_halves(qwen: Path) -> None:
    """The text half's lean import and the encoder's full one follow one another in a fresh process."""
    script = (
        "import sys; from pathlib import Path\n"
        "import msgspec; from runtime.protocol import Load; from runtime.llm.load import load_llm\n"
        "load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)\n"
        "loaded = load_llm(load, lambda stage, fraction: None); loaded.frontend.close()\n"
        "print(loaded.loaded.num_blocks)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[4],
        input=_encoded(load_message(qwen)),
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert int(process.stdout) > 1


def _encoded(load: Load) -> bytes:
    return msgspec.json.encode(load)
