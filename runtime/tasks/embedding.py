"""What is asked of an engine that embeds and ranks, and its answers. Imports msgspec and the standard library only."""

from runtime.message import Piece, Task


class Embed(Task, frozen=True, kw_only=True):
    """Answered by Embedded pieces that hold every input once."""

    inputs: list[str | list[int]]
    """Text, or token ids as they go into the model."""
    prompt_name: str = ""
    """One of the model's own prompts, put before every text; empty: its default one, if it has any."""
    num_dimensions: int | None = None
    """The first so many of each vector, which is scaled to the length it had; None: all."""
    is_normalized: bool | None = None
    """Scaled to length 1; None: as the model's own modules have it."""
    logit_token_ids: list[int] = []
    """Of a decoder: instead of a vector, the logits of these tokens after the text, with `is_normalized` their
    softmax."""


class Embedded(Piece, frozen=True, kw_only=True):
    first_index: int
    """Of the inputs that this piece holds, which follow one another."""
    num_columns: int
    values: bytes
    """Rows of little-endian float32."""


class Score(Task, frozen=True, kw_only=True):
    """How well each document answers the query; answered by Scored pieces that hold every document once."""

    query: str
    documents: list[str]
    """Longer ones than the context has room for are cut at their end."""
    instruction: str = ""
    """What makes a document a good one, for models that can be told."""


class Scored(Piece, frozen=True, kw_only=True):
    first_index: int
    scores: list[float]
    """Between 0 and 1."""
