import subprocess
import sys

import msgspec

from models.image_edits import Edit, FindEdges, MaskTransparent


def test_edits_are_told_apart_on_the_way() -> None:
    for wanted in (FindEdges(image=b"a", low=1, high=2), MaskTransparent(image=b"a", mask=b"b")):
        told = msgspec.msgpack.decode(msgspec.msgpack.encode(wanted), type=Edit)
        assert told == wanted


def test_no_decoder_comes_with_them() -> None:
    program = "import sys, models.image_edits; print({'PIL', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
