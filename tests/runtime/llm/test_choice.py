from runtime.llm.choice import Choice
from runtime.llm.detokenizer import Detokenizer
from runtime.llm.request import FinishReason, TokenOutput
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import Delta, TokenLogprob, TopLogprob, Usage
from tests.fakes.tiny_tokenizers import END_TOKEN, build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER.to_str().encode())


def build(*stop: str) -> Choice:
    return Choice("r", 2, VOCABULARY, Detokenizer(VOCABULARY, list(stop), starts_text=True))


def token_id(token: str) -> int:
    found: int = TOKENIZER.token_to_id(token)
    return found


def output(token: str, finish_reason: FinishReason | None = None, logprob: float | None = None) -> TokenOutput:
    top = [] if logprob is None else [(token_id("x"), -0.5), (token_id(token), logprob)]
    return TokenOutput(
        request_id="r",
        index=2,
        token_id=token_id(token),
        logprob=logprob,
        top=top,
        finish_reason=finish_reason,
        num_prompt_tokens=7,
        num_cached_tokens=4,
    )


def test_tokens_since_the_last_time_become_one_delta() -> None:
    choice = build()
    choice.add(output("a"))
    choice.add(output("b"))
    ids = [token_id("a"), token_id("b")]
    assert choice.take_delta(7, 4) == Delta(request_id="r", index=2, text="ab", token_ids=ids)
    choice.add(output("c", "length"))
    usage = Usage(num_prompt_tokens=7, num_cached_tokens=4, num_completion_tokens=3)
    expected = Delta(request_id="r", index=2, text="c", token_ids=[token_id("c")], finish_reason="length", usage=usage)
    assert choice.take_delta(7, 4) == expected


def test_the_token_that_says_stop_is_counted_but_is_no_text() -> None:
    choice = build()
    choice.add(output("a"))
    choice.add(output("b", "stop"))  # also where it is not a special token
    delta = choice.take_delta(7, 4)
    assert (delta.text, len(delta.token_ids), delta.finish_reason) == ("a", 2, "stop")
    assert delta.usage is not None
    assert delta.usage.num_completion_tokens == 2
    assert not choice.is_stopped


def test_a_stop_string_ends_the_choice_and_counts_the_token_that_completed_it() -> None:
    choice = build("bc")
    for token in "abc":
        choice.add(output(token))
    delta = choice.take_delta(7, 4)
    assert (delta.text, delta.finish_reason) == ("a", "stop")
    assert delta.usage == Usage(num_prompt_tokens=7, num_cached_tokens=4, num_completion_tokens=3)
    assert choice.is_stopped


def test_a_stop_string_completed_by_the_last_token_is_a_stop() -> None:
    choice = build("bc")
    choice.add(output("b"))
    choice.add(output("c", "length"))
    delta = choice.take_delta(7, 4)
    assert (delta.text, delta.finish_reason) == ("", "stop")


def test_what_was_held_back_comes_with_the_end() -> None:
    for finish_reason, last, expected in [("length", "x", "bx"), ("stop", END_TOKEN, "b"), ("length", "b", "bb")]:
        choice = build("bc")
        choice.add(output("b"))
        assert choice.take_delta(7, 4).text == ""
        choice.add(output(last, "stop" if finish_reason == "stop" else "length"))
        delta = choice.take_delta(7, 4)
        assert (delta.text, delta.finish_reason) == (expected, finish_reason)


def test_logprobs_name_tokens_by_their_bytes() -> None:
    choice = build()
    first_byte = TOKENIZER.encode("ÿ", add_special_tokens=False).tokens[0]
    choice.add(output(first_byte, logprob=-1.5))
    expected = TokenLogprob(
        token_id=token_id(first_byte),
        token=b"\xc3",
        logprob=-1.5,
        top=[
            TopLogprob(token_id=token_id("x"), token=b"x", logprob=-0.5),
            TopLogprob(token_id=token_id(first_byte), token=b"\xc3", logprob=-1.5),
        ],
    )
    delta = choice.take_delta(7, 4)
    assert (delta.text, delta.logprobs) == ("", [expected])
    choice.add(output("a"))
    assert choice.take_delta(7, 4).logprobs is None
