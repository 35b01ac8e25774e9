from pathlib import Path

import numpy as np

from runtime.tasks.images import Drawn
from tests.runtime.diffusion.conftest import Studio, pixels


def drawn(studio: Studio, **fields: object) -> Drawn:
    studio.submit(**fields)
    pieces = []
    while studio.engine.has_work():
        pieces += studio.step()
    (piece,) = pieces
    assert isinstance(piece, Drawn)
    return piece


def test_the_check_is_off_unless_asked_for_and_black_is_what_it_keeps_back(sdxl: Studio) -> None:
    """The tiny checker finds fault with every picture."""
    assert not drawn(sdxl).is_filtered
    filtered = drawn(sdxl, checks_safety=True)
    assert filtered.is_filtered
    assert not pixels(filtered.data).any()
    assert filtered.used.num_images == 1


def test_a_checker_that_finds_nothing_changes_nothing(sdxl: Studio, sdxl_dir: Path) -> None:
    checker = sdxl.engine._painter._parts.safety.checker  # type: ignore[attr-defined]
    threshold = checker.concept_embeds_weights.data[0].clone()
    checker.concept_embeds_weights.data[0] = 1.0
    try:
        checked = drawn(sdxl, checks_safety=True)
    finally:
        checker.concept_embeds_weights.data[0] = threshold
    assert not checked.is_filtered
    assert np.array_equal(pixels(checked.data), sdxl.draw()[0])
