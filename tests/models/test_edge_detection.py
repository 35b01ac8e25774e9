"""Canny's rules, each on the smallest picture that shows it. The expected pixels are those of OpenCV 5.0."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.edge_detection import find_edges

HEIGHT, WIDTH = 7, 9


def step(dark: int, bright: int) -> NDArray[np.uint8]:
    """Dark on the left, bright on the right, from the fifth column on."""
    grey = np.full((HEIGHT, WIDTH), dark, dtype=np.uint8)
    grey[:, 4:] = bright
    return np.stack([grey] * 3, axis=2)


def columns(edges: NDArray[np.uint8]) -> list[int]:
    """That are edges from top to bottom; nothing else is one."""
    found = [column for column in range(edges.shape[1]) if (edges[:, column] == 255).all()]
    assert edges.sum() == 255 * HEIGHT * len(found)
    return found


def test_nothing_changes_nothing_is_found() -> None:
    assert not find_edges(step(9, 9), 0, 0).any()


def test_an_edge_is_one_pixel_wide_and_reaches_the_border() -> None:
    assert columns(find_edges(step(0, 255), 100, 200)) == [3]
    assert columns(find_edges(step(255, 0), 100, 200)) == [3]
    assert columns(find_edges(step(0, 255).transpose(1, 0, 2), 100, 200).T) == [3]


def test_a_change_has_to_be_more_than_the_threshold() -> None:
    """A step of 50 has a gradient of 200."""
    assert columns(find_edges(step(0, 50), 0, 199)) == [3]
    assert columns(find_edges(step(0, 50), 0, 200)) == []


def test_thresholds_may_come_in_either_order() -> None:
    assert columns(find_edges(step(0, 50), 300, 100)) == columns(find_edges(step(0, 50), 100, 300)) == []
    assert columns(find_edges(step(0, 50), 199, 0)) == [3]


def test_a_weak_edge_counts_where_it_goes_on_from_a_strong_one() -> None:
    image = step(0, 30)
    assert columns(find_edges(image, 100, 400)) == []
    image[0, 4:] = 255
    edges = find_edges(image, 100, 400)
    assert (edges[3:, 3] == 255).all()
    alone = find_edges(image, 100, 5000)
    assert not alone.any()


@pytest.mark.parametrize("channel", range(3))
def test_the_channel_that_changes_most_decides(channel: int) -> None:
    image = step(7, 7)
    image[:, 4:, channel] = 255
    assert columns(find_edges(image, 100, 200)) == [3]


def test_a_drawing_is_what_opencv_finds() -> None:
    """A square on a ramp: flat, steep and slanted gradients, ties and corners."""
    ramp = np.add.outer(np.arange(10) * 9, np.arange(10) * 5).astype(np.uint8)
    ramp[3:7, 3:7] = 250
    edges = find_edges(np.stack([ramp] * 3, axis=2), 100, 250)
    assert ["".join(".#"[value // 255] for value in row) for row in edges] == OPENCV


OPENCV = [
    "..........",
    "..........",
    "....##....",
    "...#..##..",
    "..#....#..",
    "..#....#..",
    "...####...",
    "...#......",
    "..........",
    "..........",
]
