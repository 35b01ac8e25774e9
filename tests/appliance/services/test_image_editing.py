import asyncio
import io
import struct
import zlib

import psutil
import pytest
from PIL import Image

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError
from appliance.services.image_editing import MODULE, ImageEditor
from models.image_edits import FindEdges
from tests.waiting import until


def edges_of(data: bytes) -> FindEdges:
    return FindEdges(image=data, low=100, high=200)


def file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Black pixels, of which hundreds of thousands become one byte of the file."""
    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_editing(child)]


def is_editing(child: psutil.Process) -> bool:
    try:
        return child.status() != psutil.STATUS_ZOMBIE and MODULE in child.cmdline()
    except psutil.NoSuchProcess:  # it ended while it was looked at
        return False


async def test_a_picture_is_edited_by_a_process_that_ends() -> None:
    image = Image.new("RGB", (8, 4), "black")
    image.paste("white", (4, 0, 8, 4))
    edges = await ImageEditor(ImageSettings()).edit(edges_of(file_of(image)), "image")
    assert Image.open(io.BytesIO(edges)).tobytes() == bytes([0, 0, 0, 255, 0, 0, 0, 0]) * 4
    assert children() == []


async def test_bombs_and_ruins_are_refused_by_the_name_of_their_part() -> None:
    editor = ImageEditor(ImageSettings(image_edits_max=2))
    before = Image.MAX_IMAGE_PIXELS
    ruins = [bomb(30_000, 30_000), bomb(8_000, 8_000), file_of(Image.new("RGB", (99, 99)))[:80], b"P6\n9 9\n255\n"]
    told = await asyncio.gather(*(editor.edit(edges_of(ruin), "control") for ruin in ruins), return_exceptions=True)
    for error in told:
        assert isinstance(error, HearthError)
        assert (error.code, error.param) == (Code.INVALID, "control")
        assert error.message.startswith("control: ")
    after = Image.MAX_IMAGE_PIXELS
    assert after == before
    assert children() == []


async def test_nobody_waiting_nobody_edits() -> None:
    picture = file_of(Image.effect_noise((500, 500), 90))
    editing = asyncio.create_task(ImageEditor(ImageSettings()).edit(edges_of(picture), "image"))
    await until(children)
    editing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await editing
    assert children() == []


async def test_only_so_many_are_edited_at_once() -> None:
    editor = ImageEditor(ImageSettings(image_edits_max=1))
    picture = edges_of(file_of(Image.new("RGB", (4, 4))))
    several = asyncio.gather(*(editor.edit(picture, "image") for _ in range(3)))
    most = 0
    while not several.done():
        most = max(most, len(children()))
        await asyncio.sleep(0.01)
    await several
    assert most == 1
