"""An image file becomes pixels as an encoder takes them, in a child process that can be killed.

Decoders are large programs fed by strangers: the child opens seven formats only, looks at the header before it decodes,
and works within limits of memory and time. It also scales and cuts, so that what comes back is as small as the encoder
reads, whatever the file was. Colours are 8 bits of red, green and blue; transparent pixels lie on white.
"""

import io
import sys
import warnings
from typing import NamedTuple, Self

import msgspec
from PIL import Image

from models.framed_child import ChildLost, FramedChild, confine, read_frame, write_frame
from models.image_formats import IMAGE_FORMATS, image_format
from models.image_rules import PIXELS_PER_IMAGE_MAX, scaled_size
from models.info import AreaSize, FixedSize, VisionInfo

PIXELS_MAX = 50_000_000
"""Of a file, as its header says."""
EDGE_MAX = 32_768
ASPECT_RATIO_MAX = 200
"""Of the longer edge to the shorter: beyond it scaling one to the encoder's size makes the other endless."""
DECODE_TIMEOUT_S = 3.0
START_TIMEOUT_S = 8.0
ADDRESS_SPACE_BYTES = 1280 * 1024 * 1024
"""An image at the limit is decoded with its transparency: four times four bytes a pixel, and the rest."""

_REPLY_BYTES_MAX = 3 * PIXELS_PER_IMAGE_MAX + 4096
_ORIENTATION_TAG = 0x0112
# What turns and flips an image whose camera noted how it was held, by EXIF's number.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageRefused(Exception):
    """This file is not shown to the model; the text says why and may be shown to the client."""


class Pixels(NamedTuple):
    height: int
    width: int
    rgb: bytes
    """Rows from the top, three bytes a pixel."""


class _Request(msgspec.Struct, array_like=True):
    data: bytes
    size: FixedSize | AreaSize
    resample: int


class _Reply(msgspec.Struct, array_like=True):
    height: int = 0
    width: int = 0
    rgb: bytes = b""
    error: str | None = None


class ImageDecoder:
    """Decodes for one encoder, or in what size it is told. For one caller thread that outlasts it.

    `resample` is Pillow's number of the filter where no encoder says; `close` ends the child.
    """

    def __init__(self, vision: VisionInfo | None = None, resample: int = Image.Resampling.LANCZOS) -> None:
        self._size = None if vision is None else vision.size
        self._resample = resample if vision is None else vision.resample
        self._child = FramedChild("models.image_decoding", reply_bytes_max=_REPLY_BYTES_MAX)
        self._is_ready = False
        try:
            self._child.start()  # by the first image it is ready
        except ChildLost:
            pass  # the first image tries again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(
        self, data: bytes, timeout_s: float = DECODE_TIMEOUT_S, size: FixedSize | AreaSize | None = None
    ) -> Pixels:
        """Raises ImageRefused; at the latest after `timeout_s`, the child's start aside. `size` None: the encoder's."""
        size = self._size if size is None else size
        assert size is not None, "without an encoder every image has a size of its own"
        if image_format(data) is None:
            raise ImageRefused(f"is in none of the formats {', '.join(IMAGE_FORMATS)}")
        self._await_ready()
        request = msgspec.msgpack.encode(_Request(data, size, int(self._resample)))
        try:
            reply = msgspec.msgpack.decode(self._child.exchange(request, timeout_s), type=_Reply)
        except (ChildLost, msgspec.DecodeError) as error:
            self.close()
            raise ImageRefused(f"cannot be decoded: {error}") from error
        if reply.error is not None:
            raise ImageRefused(reply.error)
        return Pixels(reply.height, reply.width, reply.rgb)

    def close(self) -> None:
        self._child.stop()
        self._is_ready = False

    def _await_ready(self) -> None:
        if self._is_ready and self._child.is_running:
            return
        try:
            if not self._child.is_running:
                self._child.start()
            self._child.exchange(None, START_TIMEOUT_S)
        except ChildLost as error:
            self.close()
            raise ImageRefused(f"cannot be decoded now: the decoder did not start: {error}") from error
        self._is_ready = True


# ---- the child


def main(parent_pid: int) -> None:
    """Answer until stdin ends."""
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX  # of this process alone; Pillow refuses above twice as many
    warnings.simplefilter("ignore")
    Image.init()  # plug-ins are read from disk once, before anything of a stranger's is
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    write_frame(stdout, b"")
    while (frame := read_frame(stdin)) is not None:
        request = msgspec.msgpack.decode(frame, type=_Request)
        write_frame(stdout, msgspec.msgpack.encode(_answer(request)))


def _answer(request: _Request) -> _Reply:
    try:
        return _fit(to_rgb(open_upright(request.data)), request.size, request.resample)
    except Exception as error:  # a decoder that is fed with anything may raise anything
        return _Reply(error=why_refused(error))


def why_refused(error: Exception) -> str:
    """What a client is told of an image on which `open_upright` or what follows it failed."""
    match error:
        case ImageRefused():
            return str(error)
        case Image.DecompressionBombError():
            return f"has more than twice the {PIXELS_MAX} pixels that are taken at most"
        case MemoryError():
            return "needs too much memory to be decoded"
    return "is damaged or incomplete"


def open_upright(data: bytes) -> Image.Image:
    """The first frame, decoded, held as its camera was. In a confined child only; raises anything."""
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
        width, height = image.size
        _check_size(width, height)
        image.load()
        turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
        return image if turn is None else image.transpose(turn)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or max(width, height) > EDGE_MAX or width * height > PIXELS_MAX:
        message = f"has {width} by {height} pixels; at most {PIXELS_MAX} are taken, and {EDGE_MAX} along an edge"
        raise ImageRefused(message)
    if max(width, height) > ASPECT_RATIO_MAX * min(width, height):
        raise ImageRefused(f"has {width} by {height} pixels; one edge is more than {ASPECT_RATIO_MAX} times the other")


def to_rgb(image: Image.Image) -> Image.Image:
    """8 bits a channel."""
    if image.mode.startswith("I;16"):
        # Sixteen bits of grey: Pillow itself would cut everything above the lowest eight to white.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        background.alpha_composite(layer)
        return background.convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, rules: FixedSize | AreaSize, resample: int) -> _Reply:
    if isinstance(rules, FixedSize) and rules.padding is not None:
        image = _made_square(image, rules.padding)
    height, width = scaled_size(rules, image.height, image.width)
    image = image.resize((width, height), Image.Resampling(resample))
    if isinstance(rules, FixedSize):
        left, top = (width - rules.width) // 2, (height - rules.height) // 2
        image = image.crop((left, top, left + rules.width, top + rules.height))
    return _Reply(image.height, image.width, image.tobytes())


def _made_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    edge = max(image.size)
    square = Image.new("RGB", (edge, edge), colour)
    square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return square


if __name__ == "__main__":
    main(int(sys.argv[1]))
