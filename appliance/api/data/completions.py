"""POST /completions: text or token ids in, their continuation out; several prompts in one request."""

from aiohttp import web

from appliance.api.data.answer_schemas import Completion, CompletionChunk
from appliance.api.data.choices import Shape
from appliance.api.data.generation import GenerationBody, TokenId, decode_generation, invalid, to_generation
from appliance.api.data.image_parts import ImageSource, read_images
from appliance.api.data.reasoning import to_reasoning
from appliance.api.data.rendering import respond
from appliance.api.data.response_format import read_response_format, unenforced_headers
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from appliance.services.generation import Prompt
from runtime.submission import TextPrompt, TokenPrompt

SHAPE = Shape(
    id_prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    opening=b"",
    text_prefix=b'"text":',
    text_suffix=b"",
    no_text=b'"text":""',
    whole_member=lambda choice: {"text": "".join(choice.texts)},
)


class CompletionBody(GenerationBody, kw_only=True):
    prompt: str | list[str | TokenId | list[TokenId]]
    """Strings and ids do not mix; `_prompts` sees to it, for a type cannot say it."""

    images: list[str | list[str]] | None = None
    """`data:` URIs, or URLs, for the markers `<image>` in the prompt; with several prompts a list for each."""


async def create_completion(request: web.Request) -> web.StreamResponse:
    """Continue one or several texts."""
    body, headers = await decode_generation(request, CompletionBody)
    to_reasoning(body.reasoning_effort, body.thinking, body.reasoning_history)  # only for what it refuses
    config = services(request).config
    prompts = _prompts(body.prompt, config.limits)
    sources = _image_sources(body.images or [], prompts)
    files = await read_images([source for own in sources for source in own], config.images)
    shown = [
        _with_images(prompt, [files[source.param] for source in own])
        for prompt, own in zip(prompts, sources, strict=True)
    ]
    form = read_response_format(body.response_format)
    generation = to_generation(request, body, shown, form.constraint, config.limits)
    return await respond(request, body, generation, SHAPE, headers | unenforced_headers(form.unenforced))


def _prompts(prompt: str | list[str | int | list[int]], limits: LimitSettings) -> list[Prompt]:
    if isinstance(prompt, str):
        return [TextPrompt(text=prompt)]
    if not prompt:
        raise invalid("prompt", "must not be empty")
    kinds = {type(item) for item in prompt}
    if len(kinds) > 1:
        raise invalid("prompt", "must be a string, a list of strings, a list of token ids or a list of such lists")
    token_ids = [item for item in prompt if isinstance(item, int)]
    if token_ids:
        return [TokenPrompt(token_ids=token_ids)]
    if len(prompt) > limits.prompts_max:
        raise invalid("prompt", f"must have at most {limits.prompts_max} prompts")
    return [_prompt(item, index) for index, item in enumerate(prompt) if not isinstance(item, int)]


def _image_sources(images: list[str | list[str]], prompts: list[Prompt]) -> list[list[ImageSource]]:
    """By prompt."""
    flat = [ImageSource(f"images[{i}]", url) for i, url in enumerate(images) if isinstance(url, str)]
    nested = [
        [ImageSource(f"images[{i}][{j}]", url) for j, url in enumerate(own)]
        for i, own in enumerate(images)
        if isinstance(own, list)
    ]
    if not images:
        return [[] for _ in prompts]
    if len(prompts) == 1 and not nested:
        return [flat]
    if flat or len(nested) != len(prompts):
        raise invalid("images", f"must be a list of images for each of {len(prompts)} prompts")
    return nested


def _with_images(prompt: Prompt, files: list[bytes]) -> Prompt:
    if not files:
        return prompt
    if not isinstance(prompt, TextPrompt):
        raise invalid("images", "need a prompt of text, where markers say what stands where")
    return TextPrompt(text=prompt.text, images=files)


def _prompt(item: str | list[int], index: int) -> Prompt:
    if isinstance(item, str):
        return TextPrompt(text=item)
    if not item:
        raise invalid(f"prompt[{index}]", "must not be empty")
    return TokenPrompt(token_ids=item)


ROUTES = [
    Route(
        "POST",
        "/inference/v1/completions",
        create_completion,
        Permission.INFER,
        CompletionBody,
        answer=Completion,
        event=CompletionChunk,
    ),
]
