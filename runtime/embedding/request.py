"""What the two halves of the embedding engine tell each other. Data only; imports neither torch nor transformers."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Text(NamedTuple):
    """Tokens that are computed together, special ones included: an input, or a query with one document."""

    token_ids: list[int]
    second_start: int | None = None
    """Where the second text of a pair begins, for models that tell the two apart; None: there is one."""
    num_unpooled: int = 0
    """Tokens at the beginning that are no part of the vector: a prompt, of some models."""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(eq=False)
class EmbeddingRequest:
    """`texts` in the order of the task; `waiting` is the turns' own."""

    request_id: str
    tenant: str
    texts: list[Text]
    logit_token_ids: tuple[int, ...] = ()
    """Instead of what the model makes of a text, the logits of these tokens after it."""
    num_tokens: int = field(init=False)
    waiting: list[int] = field(init=False)
    """Indices of texts that were not computed yet, the longest first to be popped off the end."""

    def __post_init__(self) -> None:
        lengths = [text.num_tokens for text in self.texts]
        self.num_tokens = sum(lengths)
        # Texts of like length in one step need the least padding in attention.
        self.waiting = sorted(range(len(lengths)), key=lambda index: (lengths[index], -index))


class Row(NamedTuple):
    """One text in a step."""

    request: EmbeddingRequest
    text_index: int

    @property
    def text(self) -> Text:
        return self.request.texts[self.text_index]


class RowOutput(NamedTuple):
    """What was computed of one text."""

    request_id: str
    text_index: int
    values: NDArray[np.float32]
    """A vector before it is scaled, a score before it is squeezed between 0 and 1, or logits."""
