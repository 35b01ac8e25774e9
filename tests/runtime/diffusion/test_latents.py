from typing import Any

import pytest
import torch

from runtime.diffusion.latents import NoPicture, decode_latents
from tests.runtime.diffusion.conftest import Studio


def test_numbers_that_left_their_range_are_no_picture(sdxl: Studio) -> None:
    painter: Any = sdxl.engine._painter  # type: ignore[attr-defined]
    latents = torch.full((1, 4, 32, 32), float("nan"))
    with torch.no_grad(), pytest.raises(NoPicture, match="no numbers"):
        decode_latents(painter._vae, latents, painter._pipeline.image_processor)
