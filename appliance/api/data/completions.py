"""POST /completions: text or token ids in, their continuation out; several prompts in one request."""

from typing import Annotated, Any

import msgspec
from aiohttp import web

from appliance.api.data.generation import GenerationBody, decode_generation, invalid, to_generation
from appliance.api.data.rendering import Shape, respond
from appliance.api.routing import Permission, Route, services
from appliance.config import LimitSettings
from appliance.services.inference import Prompt
from runtime.protocol import TextPrompt, TokenPrompt

SHAPE = Shape(
    id_prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    opening=b"",
    text_prefix=b'"text":',
    text_suffix=b"",
    no_text=b'"text":""',
    text_member=lambda text: {"text": text},
)

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class CompletionBody(GenerationBody, kw_only=True):
    prompt: str | list[str | TokenId | list[TokenId]]
    """Strings and ids do not mix; `_prompts` sees to it, for a type cannot say it."""

    images: Any = None


async def create_completion(request: web.Request) -> web.StreamResponse:
    """Continue one or several texts."""
    body, headers = await decode_generation(request, CompletionBody)
    limits = services(request).config.limits
    generation = to_generation(request, body, _prompts(body.prompt, limits), limits)
    return await respond(request, body, generation, SHAPE, headers)


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


def _prompt(item: str | list[int], index: int) -> Prompt:
    if isinstance(item, str):
        return TextPrompt(text=item)
    if not item:
        raise invalid(f"prompt[{index}]", "must not be empty")
    return TokenPrompt(token_ids=item)


ROUTES = [
    Route("POST", "/inference/v1/completions", create_completion, Permission.INFER, CompletionBody),
]
