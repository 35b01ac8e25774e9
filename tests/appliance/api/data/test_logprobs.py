"""The two forms of log probabilities."""

import math

from appliance.api.data.logprobs import LOGPROB_MIN, TokenOffsets, render_logprobs
from runtime.protocol import TokenLogprob, TopLogprob

EURO = "€".encode()
TOKENS = [
    TokenLogprob(token_id=5, token=b"a", logprob=-0.5, top=[TopLogprob(token_id=5, token=b"a", logprob=-0.5)]),
    TokenLogprob(token_id=6, token=EURO[:1], logprob=-1.0),
    TokenLogprob(token_id=7, token=EURO[1:] + b"b", logprob=-math.inf),
    TokenLogprob(token_id=8, token=b"c", logprob=-2.0),
]


def test_older_form_is_parallel_arrays() -> None:
    assert render_logprobs(TOKENS, TokenOffsets(), is_legacy=True) == {
        "tokens": ["a", "\ufffd", "\ufffd\ufffdb", "c"],
        "token_logprobs": [-0.5, -1.0, LOGPROB_MIN, -2.0],
        "top_logprobs": [{"a": -0.5}, {}, {}, {}],
        "text_offset": [0, 1, 2, 3],
        "token_ids": [5, 6, 7, 8],
    }


def test_older_form_without_alternatives_says_null() -> None:
    assert render_logprobs(TOKENS[1:], TokenOffsets(), is_legacy=True)["top_logprobs"] is None


def test_newer_form_lists_tokens_with_their_bytes() -> None:
    content = render_logprobs(TOKENS, TokenOffsets(), is_legacy=False)["content"]
    assert content[0] == {
        "token": "a",
        "logprob": -0.5,
        "sampling_logprob": None,
        "bytes": [97],
        "token_id": 5,
        "text_offset": 0,
        "top_logprobs": [{"token": "a", "logprob": -0.5, "token_id": 5, "bytes": [97]}],
    }
    assert b"".join(bytes(token["bytes"]) for token in content).decode() == "a€bc"


def test_offsets_go_on_from_chunk_to_chunk_and_count_characters_once() -> None:
    whole = render_logprobs(TOKENS, TokenOffsets(), is_legacy=True)["text_offset"]
    offsets = TokenOffsets()
    pieces = [render_logprobs([token], offsets, is_legacy=True)["text_offset"][0] for token in TOKENS]
    assert pieces == whole
    assert [("a€bc" + " ")[offset] for offset in (whole[0], whole[1], whole[3])] == ["a", "€", "c"]
