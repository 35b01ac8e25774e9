"""Log probabilities in the two forms of the API: the older parallel arrays and the newer list of tokens."""

from typing import Any

from runtime.protocol import TokenLogprob

LOGPROB_MIN = -9999.0
"""Shown for minus infinity, which JSON cannot say."""


class TokenOffsets:
    """Where in one choice's text each token begins, in characters; carried from chunk to chunk.

    A token may end inside a character: the character counts for the token that begins it.
    """

    def __init__(self) -> None:
        self._num_characters = 0

    def advance(self, token: bytes) -> int:
        """The offset of this token; the next one begins after it."""
        offset = self._num_characters
        self._num_characters += sum(byte & 0xC0 != 0x80 for byte in token)
        return offset


def render_logprobs(tokens: list[TokenLogprob], offsets: TokenOffsets, is_legacy: bool) -> dict[str, Any]:
    return _parallel_arrays(tokens, offsets) if is_legacy else _token_list(tokens, offsets)


def _parallel_arrays(tokens: list[TokenLogprob], offsets: TokenOffsets) -> dict[str, Any]:
    return {
        "tokens": [_text(token.token) for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens] if any(token.top for token in tokens) else None,
        "text_offset": [offsets.advance(token.token) for token in tokens],
        "token_ids": [token.token_id for token in tokens],
    }


def _alternatives(token: TokenLogprob) -> dict[str, float | None] | None:
    """None where nothing was predicted: before the first token of an echoed prompt."""
    return None if token.logprob is None else {_text(top.token): _finite(top.logprob) for top in token.top}


def _token_list(tokens: list[TokenLogprob], offsets: TokenOffsets) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": _text(token.token),
                "logprob": _finite(token.logprob),
                "sampling_logprob": None,
                "bytes": list(token.token),
                "token_id": token.token_id,
                "text_offset": offsets.advance(token.token),
                "top_logprobs": [
                    {
                        "token": _text(top.token),
                        "logprob": _finite(top.logprob),
                        "token_id": top.token_id,
                        "bytes": list(top.token),
                    }
                    for top in token.top
                ],
            }
            for token in tokens
        ]
    }


def _text(token: bytes) -> str:
    return token.decode(errors="replace")


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LOGPROB_MIN)
