"""What is asked of an engine that makes pictures, and its answers. Imports msgspec and the standard library only."""

from typing import Literal

from runtime.message import Piece, Task, Value

ImageFormat = Literal["png", "jpeg"]


class Control(Value, frozen=True, kw_only=True):
    """A ControlNet and the picture that it follows."""

    name: str
    """Of the folder's own ControlNets."""
    image: bytes
    """An image file; decoded in a killable process only."""
    scale: float = 0.5
    start: float = 0.0
    """Fraction of the steps after which it counts; likewise `end`."""
    end: float = 1.0


class Draw(Task, frozen=True, kw_only=True):
    """Answered by one Drawn for each of `seeds`."""

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    """Pixels; None: the model's own; with `image`, that one's. So is `height`."""
    height: int | None = None
    num_steps: int | None = None
    """None: the model's own."""
    guidance_scale: float | None = None
    seeds: list[int]
    """One for each picture; the same seed makes the same picture, whatever is made beside it."""
    scheduler: str = ""
    """As clients name it; empty: the model's own."""
    image: bytes = b""
    """An image file that the picture begins with; empty: noise."""
    strength: float = 0.8
    """How much of it is painted over."""
    mask: bytes = b""
    """An image file: what is white is painted anew, the rest stays; empty: everything may change."""
    control: Control | None = None
    adapter_scale: float = 1.0
    checks_safety: bool = False
    format: ImageFormat = "png"
    reports_progress: bool = False


class Drawing(Piece, frozen=True, kw_only=True):
    """How far it is."""

    num_steps_done: int
    num_steps: int


class Drawn(Piece, frozen=True, kw_only=True):
    index: int
    """Of `Draw.seeds`."""
    data: bytes
    """An image file; of one that was filtered, black."""
    is_filtered: bool = False
    """Whether the safety check kept it back."""
