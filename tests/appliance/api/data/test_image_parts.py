import base64
import io
from typing import Any

import msgspec
import pytest

from appliance.api.data.image_parts import ImageSource, read_images
from appliance.config import ImageSettings
from appliance.domain import Model, ModelState
from appliance.errors import Code, HearthError
from appliance.store import models
from appliance.store.database import Database
from models.info import FixedSize
from runtime.submission import ChatMessage, ChatPrompt, ImagePart, TextPart, TextPrompt
from tests.appliance.api.conftest import INFO, READY_MODEL, Api, add_deployment
from tests.fakes.vision_info import vision_info

CHAT, COMPLETIONS = "/inference/v1/chat/completions", "/inference/v1/completions"
SEEING_MODEL = "accounts/hearth/models/seeing"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SMALL = ImageSettings(images_max=3, image_bytes_max=1000, image_request_bytes_max=3000)


def data_uri(data: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def sources(*urls: str) -> list[ImageSource]:
    return [ImageSource(f"images[{i}]", url) for i, url in enumerate(urls)]


async def refusal(*urls: str, settings: ImageSettings = SMALL) -> HearthError:
    with pytest.raises(HearthError) as refused:
        await read_images(sources(*urls), settings)
    return refused.value


async def test_data_uris_become_files() -> None:
    jpeg = b"\xff\xd8\xff" + bytes(7)
    files = await read_images(sources(data_uri(), data_uri(jpeg, "image/jpeg")), SMALL)
    assert files == {"images[0]": PNG, "images[1]": jpeg}
    assert await read_images([], SMALL) == {}


async def test_the_format_is_told_by_the_bytes_whatever_is_claimed() -> None:
    assert await read_images(sources(data_uri(PNG, "image/jpeg")), SMALL) == {"images[0]": PNG}
    assert await read_images(sources(data_uri().replace("data:image/png", "DATA:Image/PNG;x=y")), SMALL) == {
        "images[0]": PNG
    }
    error = await refusal(data_uri(), data_uri(b"<svg/>", "image/png"))
    assert (error.code, error.param) == (Code.INVALID, "images[1]")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,@@@@",
        "data:image/png;base64,iVBORw0",
        "data:image/png;base64,iVBORw0KGgo=\n",
        "data:image/png;base64",
        "data:image/png,abcd",
        "data:text/plain;base64,iVBORw0KGgo=",
        "data:,",
        "data:image/png;base64,",
        "data:image/png;base64,\ud800",
    ],
)
async def test_what_is_no_image_in_base64_is_refused_by_name(url: str) -> None:
    error = await refusal(data_uri(), url)
    assert (error.code, error.param) == (Code.INVALID, "images[1]")


async def test_the_number_of_images_is_limited_before_any_is_decoded() -> None:
    error = await refusal(*[data_uri()] * 3, "data:rubbish")
    assert (error.code, error.param) == (Code.INVALID, "images[3]")
    assert "more than 3" in error.message


async def test_sizes_are_limited_one_by_one_and_together() -> None:
    assert len(await read_images(sources(data_uri(PNG[:8] + bytes(992))), SMALL)) == 1
    error = await refusal(data_uri(), data_uri(PNG[:8] + bytes(993)))
    assert (error.code, error.param) == (Code.TOO_LARGE, "images[1]")
    error = await refusal(*[data_uri(PNG[:8] + bytes(900))] * 3)
    assert (error.code, error.param) == (Code.TOO_LARGE, "images[2]")


async def test_a_url_is_refused_naming_the_setting_unless_the_operator_allows_it() -> None:
    error = await refusal(data_uri(), "https://images.test/x.png")
    assert (error.code, error.param) == (Code.INVALID, "images[1]")
    assert "image_origins" in error.message
    allowed = ImageSettings(image_origins=["https://other.test"])
    assert (await refusal("https://images.test/x.png", settings=allowed)).param == "images[0]"


# ---- through the API


@pytest.fixture
async def seeing_model(api: Api, database: Database) -> str:
    async with database.transaction() as tx:
        model = Model(
            account_id="hearth",
            id="seeing",
            state=ModelState.READY,
            directory="hearth-seeing",
            info=msgspec.structs.replace(INFO, vision=vision_info(FixedSize(height=8, width=8))),
            created_at=tx.now,
            updated_at=tx.now,
        )
        await models.insert(tx, model)
        await add_deployment(tx, SEEING_MODEL, desired_replica_count=1)
    return SEEING_MODEL


async def post(api: Api, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    data, headers = io.BytesIO(msgspec.json.encode(body)), {**api.bearer(), "Content-Type": "application/json"}
    async with api.session.post(path, data=data, headers=headers) as response:
        return response.status, await response.json()


def image_part(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


TEXT_PART = {"type": "text", "text": "What is this?"}


async def test_a_chats_parts_keep_their_order(api: Api, seeing_model: str) -> None:
    messages = [
        {"role": "user", "content": [TEXT_PART, image_part(data_uri(), detail="low"), TEXT_PART]},
        {"role": "user", "content": [TEXT_PART, TEXT_PART]},
    ]
    status, answer = await post(api, CHAT, {"model": seeing_model, "messages": messages})
    assert status == 200, answer
    prompt = api.router.submits[0].prompt
    text = TextPart(text="What is this?")
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages == [
        ChatMessage(role="user", content=[text, ImagePart(data=PNG), text]),
        ChatMessage(role="user", content="What is this?What is this?"),
    ]


@pytest.mark.parametrize(
    ("prompt", "images", "expected"),
    [
        ("a <image>", [data_uri()], [[PNG]]),
        ("a <image>", [[data_uri()]], [[PNG]]),
        (["a <image>"], [data_uri()], [[PNG]]),
        (["a <image> <image>", "b"], [[data_uri(), data_uri()], []], [[PNG, PNG], []]),
        ("a", [], [[]]),
        ("a", None, [[]]),
        ([1, 2], [], [[]]),
    ],
)
async def test_a_completions_images_belong_to_its_prompts(
    api: Api, seeing_model: str, prompt: Any, images: Any, expected: list[list[bytes]]
) -> None:
    body = {"model": seeing_model, "prompt": prompt, "images": images}
    status, answer = await post(api, COMPLETIONS, body)
    assert status == 200, answer
    assert [getattr(submit.prompt, "images", []) for submit in api.router.submits] == expected


@pytest.mark.parametrize(
    ("prompt", "images", "param"),
    [
        (["a", "b"], [data_uri()], "images"),
        (["a", "b"], [[data_uri()]], "images"),
        ("a", [data_uri(), [data_uri()]], "images"),
        ([1, 2], [data_uri()], "images"),
        ("a", ["rubbish"], "images[0]"),
        ("a", [["data:rubbish"]], "images[0][0]"),
        ("a", [None], "images[0]"),
        ("a", "data:", "images"),
        ("a", [[[]]], "images[0][0]"),
    ],
)
async def test_a_completions_bad_images_are_named(
    api: Api, seeing_model: str, prompt: Any, images: Any, param: str
) -> None:
    status, answer = await post(api, COMPLETIONS, {"model": seeing_model, "prompt": prompt, "images": images})
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert api.router.submits == []


@pytest.mark.parametrize(
    ("part", "status", "param"),
    [
        ({"type": "image_url"}, 400, "messages[0].content[1].image_url"),
        ({"type": "image_url", "image_url": {}}, 400, "messages[0].content[1].image_url.url"),
        ({"type": "image_url", "image_url": data_uri()}, 400, "messages[0].content[1].image_url"),
        (image_part(data_uri(), detail="huge"), 400, "messages[0].content[1].image_url.detail"),
        (image_part("https://images.test/x.png"), 400, "messages[0].content[1].image_url"),
        (image_part("data:image/png;base64,@"), 400, "messages[0].content[1].image_url"),
        (image_part(data_uri(PNG + bytes(5 * 1024 * 1024))), 413, "messages[0].content[1].image_url"),
        ({"type": "video_url", "video_url": {"url": "x"}}, 400, "messages[0].content[1].video_url"),
    ],
)
async def test_a_chats_bad_parts_are_named(
    api: Api, seeing_model: str, part: dict[str, Any], status: int, param: str
) -> None:
    messages = [{"role": "user", "content": [TEXT_PART, part]}]
    answered, answer = await post(api, CHAT, {"model": seeing_model, "messages": messages})
    assert (answered, answer["error"]["param"]) == (status, param), answer
    assert api.router.submits == []


async def test_more_images_than_allowed_are_refused_before_the_first_is_decoded(api: Api, seeing_model: str) -> None:
    messages = [{"role": "user", "content": [image_part("data:rubbish")] * 31}]
    status, answer = await post(api, CHAT, {"model": seeing_model, "messages": messages})
    assert (status, answer["error"]["param"]) == (400, "messages[0].content[30].image_url")


async def test_a_model_that_reads_text_only_refuses_images(api: Api) -> None:
    messages = [{"role": "user", "content": [TEXT_PART, image_part(data_uri())]}]
    status, answer = await post(api, CHAT, {"model": READY_MODEL, "messages": messages})
    assert (status, answer["error"]["param"]) == (400, "messages")
    assert "does not take images" in answer["error"]["message"]
    status, answer = await post(api, COMPLETIONS, {"model": READY_MODEL, "prompt": "<image>", "images": [data_uri()]})
    assert (status, answer["error"]["param"]) == (400, "images")
    assert api.router.submits == []


async def test_clients_are_told_which_models_take_images(api: Api, seeing_model: str) -> None:
    for name, takes_images in ((seeing_model, True), (READY_MODEL, False)):
        async with api.session.get(f"/inference/v1/models/{name}", headers=api.bearer()) as response:
            assert (await response.json())["supports_image_input"] is takes_images
        async with api.session.get(f"/v1/{name}", headers=api.bearer()) as response:
            assert (await response.json())["supportsImageInput"] is takes_images


async def test_an_image_prompt_reaches_the_worker_as_text_and_files(api: Api, seeing_model: str) -> None:
    await post(api, COMPLETIONS, {"model": seeing_model, "prompt": "<image>", "images": [data_uri()]})
    assert api.router.submits[0].prompt == TextPrompt(text="<image>", images=[PNG])
