"""A client's image files in its prompt: decoded, and each marker drawn out to as many tokens as the encoder fills.

Runs on the socket thread, which is everybody's: decoding happens in a process that is given up after a while, and the
images of one prompt have one deadline together.
"""

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import NoReturn

import numpy as np

from models.image_decoding import DECODE_TIMEOUT_S, ImageDecoder, ImageRefused
from models.info import VisionInfo
from models.vision import num_image_tokens
from runtime.engine import RequestRefused
from runtime.llm.request import PromptImage
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode
from runtime.submission import ChatMessage, ImagePart

MARKER = "<image>"
"""Where a completion's image is to be seen, whatever the model itself calls it."""
IMAGES_MAX = 128
"""In one prompt; what a client may send is the daemon's to say, and is less."""
PROMPT_TIMEOUT_S = 5.0
"""For all images of one prompt."""

_DIGEST_BYTES = 16


class PromptImages:
    """For one vision-language model. `max_num_tokens`: images that need more cannot fit whatever stands beside them."""

    def __init__(self, vision: VisionInfo, vocabulary: Vocabulary, max_num_tokens: int) -> None:
        self._vision = vision
        self._max_num_tokens = max_num_tokens
        self._decoder = ImageDecoder(vision)
        self._token = vocabulary.token_bytes(vision.image_token_id).decode()
        self._framed = self._token
        if vision.frame_token_ids is not None:
            before, after = (vocabulary.token_bytes(token_id).decode() for token_id in vision.frame_token_ids)
            self._framed = before + self._token + after

    def close(self) -> None:
        self._decoder.close()

    def marked(self, text: str) -> str:
        """A completion's text with the model's own tokens at each marker; those that write them already keep them."""
        return text if self._token in text else text.replace(MARKER, self._framed)

    def see(self, files: Sequence[bytes], param: str) -> list[PromptImage]:
        """As the model will see them, without their places. Raises RequestRefused naming the image by its number."""
        if len(files) > IMAGES_MAX:
            _refuse(f"{param}: more than {IMAGES_MAX} images", param)
        deadline = time.monotonic() + PROMPT_TIMEOUT_S
        seen: dict[bytes, PromptImage] = {}
        for number, data in enumerate(files, start=1):
            if data in seen:
                continue
            timeout_s = min(DECODE_TIMEOUT_S, deadline - time.monotonic())
            if timeout_s <= 0:
                _refuse(f"{param}: decoding {len(files)} images takes longer than {PROMPT_TIMEOUT_S:g} s", param)
            try:
                height, width, rgb = self._decoder.decode(data, timeout_s)
            except ImageRefused as refusal:
                _refuse(f"{param}: image {number} of {len(files)} {refusal}", param)
            seen[data] = self._seen(height, width, rgb)
            num_tokens = sum(image.num_tokens for image in seen.values())
            if num_tokens > self._max_num_tokens:
                limit = f"where at most {self._max_num_tokens} fit beside an answer"
                _refuse(f"prompt is too long: {number} of its images need {num_tokens} tokens, {limit}", param)
        return [seen[data] for data in files]

    def expand(
        self, token_ids: list[int], seen: Sequence[PromptImage], param: str
    ) -> tuple[list[int], list[PromptImage]]:
        """The prompt with every placeholder token, and where each image is in it."""
        num_markers = token_ids.count(self._vision.image_token_id)
        if num_markers != len(seen):
            _refuse(f"{param}: {num_markers} places are marked in the prompt for {len(seen)} images", param)
        expanded: list[int] = []
        images: list[PromptImage] = []
        unplaced = iter(seen)
        for token_id in token_ids:
            if token_id == self._vision.image_token_id:
                images.append(next(unplaced)._replace(start=len(expanded)))
                expanded += [token_id] * images[-1].num_tokens
            else:
                expanded.append(token_id)
        return expanded, images

    def _seen(self, height: int, width: int, rgb: bytes) -> PromptImage:
        # The shape is a part of what is seen: the same bytes are another image when they are cut elsewhere.
        shape = f"{height}x{width}:".encode()
        return PromptImage(
            start=0,
            num_tokens=num_image_tokens(self._vision, height, width),
            digest=blake2b(shape + rgb, digest_size=_DIGEST_BYTES).digest(),
            pixels=np.frombuffer(rgb, dtype=np.uint8).reshape(height, width, 3),
            grid=(1, height // self._vision.patch_size, width // self._vision.patch_size),
        )


def image_files(messages: Sequence[ChatMessage]) -> list[bytes]:
    """In the order in which a chat template shows them."""
    return [
        part.data
        for message in messages
        if isinstance(message.content, list)
        for part in message.content
        if isinstance(part, ImagePart)
    ]


def _refuse(message: str, param: str) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, message, param)
