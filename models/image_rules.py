"""What an image processor's config says: how every image is brought to the size and the colours an encoder reads.

Both families' processors of transformers are covered, under their names and defaults; what would not fit the encoder
is refused. Scaling itself is done in `image_decoding.py`, normalising by the encoder.
"""

import math
from typing import Annotated, Any

import msgspec

from models.folder import ModelFolder
from models.info import AreaSize, FixedSize
from models.refusal import ModelRefused, RefusalReason

PREPROCESSOR_CONFIG = "preprocessor_config.json"
PROCESSOR_CONFIG = "processor_config.json"
"""Where transformers 5 keeps the image processor's settings, under `image_processor`."""

PIXELS_PER_IMAGE_MAX = 2**24
"""That an encoder may be given."""
PATCHES_PER_IMAGE_MAX = 16384
"""Larger images are shrunk to it even where a model would take more: attention grows with the square."""

_CONFIG_BYTES_MAX = 1024 * 1024
_CONFIG_VALUES_MAX = 10_000

_Edge = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Colour = Annotated[float, msgspec.Meta(ge=-10, le=10)]
_Deviation = Annotated[float, msgspec.Meta(gt=0, le=10)]

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _Edges(msgspec.Struct, frozen=True):
    height: _Edge | None = None
    width: _Edge | None = None
    shortest_edge: Annotated[int, msgspec.Meta(ge=1, le=PIXELS_PER_IMAGE_MAX)] | None = None
    longest_edge: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None


class ImageProcessor(msgspec.Struct, frozen=True):
    """Its settings, with the defaults that the two families share."""

    file: str = PREPROCESSOR_CONFIG
    """Where they stand; set by the reader."""

    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    size: _Edges | _Edge | None = None
    crop_size: _Edges | _Edge | None = None
    do_resize: bool = True
    do_center_crop: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    do_pad: bool | None = None
    resample: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3
    rescale_factor: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1 / 255
    image_mean: tuple[_Colour, _Colour, _Colour] = _CLIP_MEAN
    image_std: tuple[_Deviation, _Deviation, _Deviation] = _CLIP_STD
    min_pixels: Annotated[int, msgspec.Meta(ge=1, le=PIXELS_PER_IMAGE_MAX)] | None = None
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    patch_size: int | None = None
    temporal_patch_size: int | None = None
    merge_size: int | None = None


def read_image_processor(folder: ModelFolder, files: list[str]) -> ImageProcessor:
    """Raises ModelRefused naming the file at fault."""
    for name, key in ((PREPROCESSOR_CONFIG, None), (PROCESSOR_CONFIG, "image_processor")):
        if name not in files:
            continue
        settings: Any = folder.read_json(name, bytes_max=_CONFIG_BYTES_MAX, values_max=_CONFIG_VALUES_MAX)
        if key is None or key in settings:
            return _checked(settings if key is None else settings[key], name)
    message = "is missing: it says how images are resized and normalised"
    raise ModelRefused(RefusalReason.MISSING_FILE, message, PREPROCESSOR_CONFIG)


def fixed_size(processor: ImageProcessor, image_size: int) -> FixedSize:
    """For an encoder that reads squares of this size."""
    resized = _edges(processor.size, 224, is_square=False)
    cropped = _edges(processor.crop_size, 224, is_square=True) if processor.do_center_crop else _Edges()
    height, width = (cropped.height, cropped.width) if processor.do_center_crop else (resized.height, resized.width)
    shortest = resized.shortest_edge
    is_stretched = shortest is None and (resized.height, resized.width) == (height, width)
    is_cropped = shortest is not None and shortest >= max(height or 0, width or 0)
    if (height, width) != (image_size, image_size) or not (is_stretched or is_cropped):
        message = f"does not bring every image to the {image_size} by {image_size} pixels that the encoder reads"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, processor.file)
    name = processor.image_processor_type or processor.feature_extractor_type or ""
    padding = None
    if processor.do_pad and name.startswith("Llava"):
        red, green, blue = (int(value * 255) for value in processor.image_mean)
        padding = (red, green, blue)
    return FixedSize(height=image_size, width=image_size, shortest_edge=shortest, padding=padding)


def area_size(processor: ImageProcessor, patch_size: int, merge_size: int) -> AreaSize:
    """For an encoder that reads any number of patches."""
    stated = processor.size if isinstance(processor.size, _Edges) else _Edges()
    multiple = patch_size * merge_size
    min_pixels = processor.min_pixels or stated.shortest_edge or 56 * 56
    max_pixels = processor.max_pixels or stated.longest_edge or 28 * 28 * 1280
    max_pixels = min(max_pixels, PATCHES_PER_IMAGE_MAX * patch_size**2, PIXELS_PER_IMAGE_MAX)
    if not multiple**2 <= max_pixels or min_pixels > max_pixels:
        message = f"no image has {min_pixels} to {max_pixels} pixels in multiples of {multiple}"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, processor.file)
    return AreaSize(min_pixels=min_pixels, max_pixels=max_pixels, multiple=multiple)


def scaled_size(rules: FixedSize | AreaSize, height: int, width: int) -> tuple[int, int]:
    """Height and width that an image is scaled to, before it is cut."""
    match rules:
        case FixedSize(shortest_edge=None):
            return rules.height, rules.width
        case FixedSize(shortest_edge=int(edge)):
            longer = int(edge * max(height, width) / min(height, width))
            return (longer, edge) if width <= height else (edge, longer)
        case AreaSize(multiple=multiple):
            scaled = round(height / multiple) * multiple, round(width / multiple) * multiple
            if scaled[0] * scaled[1] > rules.max_pixels:
                shrink = math.sqrt(height * width / rules.max_pixels)
                edges = (math.floor(edge / shrink / multiple) * multiple for edge in (height, width))
                scaled = max(multiple, next(edges)), max(multiple, next(edges))
            elif scaled[0] * scaled[1] < rules.min_pixels:
                grow = math.sqrt(rules.min_pixels / (height * width))
                edges = (math.ceil(edge * grow / multiple) * multiple for edge in (height, width))
                scaled = next(edges), next(edges)
            return scaled
    raise AssertionError(rules)


def _checked(settings: object, file: str) -> ImageProcessor:
    try:
        processor = msgspec.convert(settings, ImageProcessor)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), file) from error
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        message = "images that are not resized, rescaled and normalised are not supported"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, file)
    return msgspec.structs.replace(processor, file=file)


def _edges(stated: _Edges | int | None, default: int, *, is_square: bool) -> _Edges:
    """A bare number is both edges of a crop, and the shorter edge of a resize."""
    if isinstance(stated, _Edges):
        return stated
    edge = default if stated is None else stated
    return _Edges(height=edge, width=edge) if is_square else _Edges(shortest_edge=edge)
