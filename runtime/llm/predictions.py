"""The answer that a client expects, as tokens for the speculator. A hint: what of it can be of no use is left out."""

from runtime.engine import RequestRefused
from runtime.llm.vocabulary import Vocabulary
from runtime.message import FailureCode


def predicted_tokens(
    prediction: str | list[int], vocabulary: Vocabulary, vocab_size: int, max_tokens: int
) -> list[int]:
    """No more than `max_tokens`, the longest answer there can be; raises RequestRefused for ids that are no tokens."""
    if isinstance(prediction, list):
        if prediction and not 0 <= min(prediction) <= max(prediction) < vocab_size:
            message = f"speculation: token ids must be between 0 and {vocab_size - 1}"
            raise RequestRefused(FailureCode.INVALID, message, "speculation")
        return prediction[:max_tokens]
    if not prediction:
        return []
    # Cut first: a text's beginning says how an answer begins, and tokenising megabytes would hold everybody up.
    text = prediction[: max_tokens * vocabulary.token_length_max]
    return vocabulary.encode(text, add_special_tokens=False)[:max_tokens]
