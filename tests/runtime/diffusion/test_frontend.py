"""What clients may ask for, what they get, and how they are told what they may not."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.diffusion.request import Failure, Progressed
from runtime.engine import RequestRefused
from runtime.message import FailureCode, Used
from runtime.protocol import Failed
from runtime.tasks.images import Draw, Drawing, Drawn
from tests.runtime.diffusion.conftest import Studio, mask, picture, png


def test_outside_the_mask_a_picture_stays_nearly_as_it_was(sdxl: Studio) -> None:
    image = png(picture())
    kept, painted = (
        sdxl.draw(image=image, mask=png(mask()), seeds=[seed], strength=1.0)[0].astype(int) for seed in (1, 2)
    )
    change = np.abs(kept - painted).mean(axis=(0, 2))
    assert change[:16].mean() < change[48:].mean() / 4


@pytest.mark.parametrize(("file_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG")])
def test_a_picture_comes_in_the_format_that_was_asked_for(sdxl: Studio, file_format: Any, kind: str) -> None:
    request_id = sdxl.submit(format=file_format)
    pieces: list[Drawn | Drawing] = []
    while sdxl.engine.has_work():
        pieces += sdxl.step()
    (piece,) = pieces
    assert isinstance(piece, Drawn)
    assert Image.open(io.BytesIO(piece.data)).format == kind
    assert (piece.request_id, piece.index, piece.is_last, piece.is_filtered) == (request_id, 0, True, False)
    assert piece.used == Used(num_images=1)


def test_progress_comes_between(sdxl: Studio) -> None:
    sdxl.submit(reports_progress=True, seeds=[1, 2], num_steps=2)
    pieces: list[Drawn | Drawing] = []
    while sdxl.engine.has_work():
        pieces += sdxl.step()
    told = [(piece.num_steps_done, piece.num_steps) for piece in pieces if isinstance(piece, Drawing)]
    assert told == [(2, 4), (4, 4)]
    assert sum(piece.used.num_images for piece in pieces) == 2


def test_what_is_not_said_is_the_models_own(sdxl: Studio) -> None:
    request = sdxl.frontend.prepare(Draw(request_id="own", prompt="a fox", seeds=[1]))
    assert (request.width, request.height, request.num_steps, request.guidance_scale) == (64, 64, 30, 5.0)
    with pytest.raises(RequestRefused, match="in use"):
        sdxl.frontend.prepare(Draw(request_id="own", prompt="a fox", seeds=[1]))
    sdxl.frontend.forget("own")


def test_of_who_left_nothing_is_said(sdxl: Studio) -> None:
    rendered = sdxl.frontend.render([Progressed("gone", 1, 2), Failure("gone")])
    assert not rendered.pieces
    assert not rendered.failures


@pytest.mark.parametrize(("is_out_of_memory", "code"), [(False, FailureCode.INTERNAL), (True, FailureCode.OVERLOADED)])
def test_a_failure_is_told_once(sdxl: Studio, is_out_of_memory: bool, code: FailureCode) -> None:
    sdxl.frontend.prepare(Draw(request_id="doomed", prompt="a fox", seeds=[1]))
    failure = Failure("doomed", is_out_of_memory)
    (failed,) = sdxl.frontend.render([failure, failure]).failures
    assert isinstance(failed, Failed)
    assert failed.code is code
