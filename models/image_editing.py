"""What is made of a picture without a model: its edges, and a mask of what is transparent. A child process does it.

Parent and child speak once: an edit to the child's input, the outcome from its output. Decoders are large programs fed
by strangers, so the child is confined as `image_decoding.py` says, and whoever waits for it kills it.
"""

import io
import sys
import warnings

import msgspec
import numpy as np
from PIL import Image

from models.edge_detection import find_edges
from models.framed_child import confine
from models.image_decoding import ADDRESS_SPACE_BYTES, PIXELS_MAX, ImageRefused, open_upright, to_rgb, why_refused
from models.image_edits import Edit, FindEdges, MaskTransparent, Outcome

PIXELS_OF_EDGES_MAX = 2**24
"""Of a picture whose edges are looked for."""


def edit(wanted: Edit) -> Outcome:
    """In a confined child only."""
    try:
        return Outcome(png=_to_png(_edges(wanted) if isinstance(wanted, FindEdges) else _mask(wanted)))
    except Exception as error:  # a decoder that is fed with anything may raise anything
        return Outcome(error=why_refused(error))


def _edges(wanted: FindEdges) -> Image.Image:
    image = open_upright(wanted.image)
    if image.width * image.height > PIXELS_OF_EDGES_MAX:
        message = f"has {image.width} by {image.height} pixels; edges are looked for among {PIXELS_OF_EDGES_MAX}"
        raise ImageRefused(message)
    return Image.fromarray(find_edges(np.asarray(to_rgb(image)), wanted.low, wanted.high))


def _mask(wanted: MaskTransparent) -> Image.Image:
    mask, image = open_upright(wanted.mask), open_upright(wanted.image)
    if mask.size != image.size:
        message = f"has {mask.width} by {mask.height} pixels, and the image {image.width} by {image.height}"
        raise ImageRefused(message)
    opacity = mask.convert("RGBA").getchannel("A")
    if opacity.getextrema() == (255, 255):
        raise ImageRefused("has no transparent pixels, which are what is painted anew")
    return opacity.point(lambda value: 255 - value)


def _to_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def main(parent_pid: int) -> None:
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX  # of this process alone; Pillow refuses above twice as many
    warnings.simplefilter("ignore")
    Image.init()  # plug-ins are read from disk once, before anything of a stranger's is
    confine(parent_pid, address_space_bytes=ADDRESS_SPACE_BYTES)
    outcome = edit(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Edit))
    sys.stdout.buffer.write(msgspec.msgpack.encode(outcome))


if __name__ == "__main__":
    main(int(sys.argv[1]))
