"""`raw_output`: what the model saw and what it said, before anything was made of it."""

import base64
from typing import Any

from appliance.api.data.choices import Choice
from appliance.api.data.logprobs import TokenOffsets, render_logprobs
from appliance.services.generation import Generation, Prompt
from models.image_formats import image_format
from runtime.protocol import PromptOutput
from runtime.submission import ChatPrompt, GrammarConstraint, ImagePart, TextPrompt, TokenPrompt


def render_raw_output(generation: Generation, prompt_index: int, shown: PromptOutput, choice: Choice) -> dict[str, Any]:
    """`shown` is the prompt as the engine computed it."""
    prompt = generation.prompts[prompt_index]
    raw: dict[str, Any] = {
        "prompt_fragments": prompt.token_ids if isinstance(prompt, TokenPrompt) else [shown.text],
        "prompt_token_ids": shown.token_ids,
        "completion": "".join(choice.raw_texts),
        "completion_token_ids": choice.token_ids,
    }
    if generation.num_logprobs is not None:
        generated = choice.logprobs[choice.num_echoed_tokens :]
        raw["completion_logprobs"] = render_logprobs(generated, TokenOffsets(), is_legacy=False)
    if constraint := generation.constraint:
        raw["grammar"] = constraint.gbnf if isinstance(constraint, GrammarConstraint) else constraint.schema
    if images := _images(prompt):
        raw["images"] = [_data_uri(image) for image in images]
    return raw


def _images(prompt: Prompt) -> list[bytes]:
    match prompt:
        case ChatPrompt(messages=messages):
            contents = [message.content for message in messages if isinstance(message.content, list)]
            return [part.data for content in contents for part in content if isinstance(part, ImagePart)]
        case TextPrompt(images=images):
            return images
        case TokenPrompt():
            return []


def _data_uri(image: bytes) -> str:
    kind = image_format(image)
    assert kind is not None, "nothing else is let in"
    return f"data:image/{kind.lower()};base64,{base64.b64encode(image).decode()}"
