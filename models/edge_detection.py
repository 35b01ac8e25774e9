"""Where the edges of a picture are, by Canny's method, as ControlNets for edges were taught. Pure arithmetic.

The same pixels as OpenCV's `Canny(image, low, high)` finds in a colour image: Sobel gradients of three by three, of the
channel that changes most, their size taken as |x| + |y|; a ridge is one pixel wide; what lies above `high`, and
whatever above `low` touches it in any number of steps, is an edge.
"""

import math

import numpy as np
from numpy.typing import NDArray

_TAN_22_5 = 13573
"""In 32768ths, as OpenCV rounds it."""

Bytes = NDArray[np.uint8]
Gradient = NDArray[np.int16]
Mask = NDArray[np.bool_]


def find_edges(rgb: Bytes, low: float, high: float) -> Bytes:
    """255 on an edge, else 0; `rgb`: rows, columns, channels."""
    low, high = sorted((low, high))
    x, y = _strongest_gradients(rgb)
    size: Gradient = np.pad(np.abs(x) + np.abs(y), 1)  # at most 2040; beyond the border nothing changes
    ridges = _ridges(x, y, size) & (size[1:-1, 1:-1] > math.floor(low))
    strong = ridges & (size[1:-1, 1:-1] > math.floor(high))
    return np.where(_connected(ridges, strong), np.uint8(255), np.uint8(0))


def _strongest_gradients(rgb: Bytes) -> tuple[Gradient, Gradient]:
    """Of each pixel, to the right and down."""
    x, y = _gradients(rgb[:, :, 0])
    for channel in range(1, rgb.shape[2]):
        other_x, other_y = _gradients(rgb[:, :, channel])
        is_stronger = np.abs(other_x) + np.abs(other_y) > np.abs(x) + np.abs(y)
        np.copyto(x, other_x, where=is_stronger)
        np.copyto(y, other_y, where=is_stronger)
    return x, y


def _gradients(channel: Bytes) -> tuple[Gradient, Gradient]:
    """The border's pixels are repeated outside."""
    padded = np.pad(channel, 1, mode="edge").astype(np.int16)
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def _ridges(x: Gradient, y: Gradient, size: Gradient) -> Mask:
    """Pixels that change more than their two neighbours along the gradient; of two equal ones the first."""
    here = size[1:-1, 1:-1]
    width, height = np.abs(x).astype(np.int32), np.abs(y).astype(np.int32) << 15
    flat = width * _TAN_22_5
    is_flat, is_steep = height < flat, height > flat + (width << 16)
    is_rising = (x ^ y) < 0
    beside = (here > size[1:-1, :-2]) & (here >= size[1:-1, 2:])
    above = (here > size[:-2, 1:-1]) & (here >= size[2:, 1:-1])
    falling = (here > size[:-2, :-2]) & (here > size[2:, 2:])
    rising = (here > size[:-2, 2:]) & (here > size[2:, :-2])
    return np.where(is_flat, beside, np.where(is_steep, above, np.where(is_rising, rising, falling)))


def _connected(ridges: Mask, strong: Mask) -> Mask:
    """The ridges that a way over neighbouring ridges leads to from a strong one."""
    row = ridges.shape[1] + 2
    unseen, found = np.pad(ridges, 1).ravel(), np.zeros((ridges.shape[0] + 2) * row, dtype=np.bool_)
    neighbours = np.array([-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1])
    reached = np.flatnonzero(np.pad(strong, 1).ravel())
    while reached.size:
        unseen[reached], found[reached] = False, True
        around = (reached[:, None] + neighbours).ravel()
        reached = np.unique(around[unseen[around]])
    return found.reshape(-1, row)[1:-1, 1:-1]
