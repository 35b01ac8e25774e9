from msgspec.structs import replace

from models.reasoning_parsers.parser import ReasoningParser, ThoughtMarkers
from models.tool_parsers.hermes import HermesParser
from runtime.llm.answer import Answer
from runtime.llm.choice import Choice, TokenizerTimes
from runtime.llm.detokenizer import Detokenizer
from runtime.llm.echo import Echo
from runtime.llm.request import FinishReason, SampledToken, TokenOutput
from runtime.llm.vocabulary import Vocabulary
from runtime.protocol import Delta, Performance, TokenLogprob, TopLogprob, Usage
from tests.fakes.tiny_tokenizers import END_TOKEN, build_byte_level_tokenizer

TOKENIZER = build_byte_level_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER.to_str().encode())


def build(
    *stop: str, thoughts: ReasoningParser | None = None, is_parallel: bool = True, shows_raw: bool = False
) -> Choice:
    detokenizer = Detokenizer(VOCABULARY, list(stop), starts_text=True)
    answer = Answer("r/2", thoughts, HermesParser(frozenset({"f"})), is_parallel=is_parallel)
    echo = Echo(VOCABULARY, [5], 0, has_logprobs=False)
    return Choice("r", 2, VOCABULARY, detokenizer, answer, echo, shows_raw=shows_raw)


def say(choice: Choice, text: str, finish_reason: FinishReason | None = None) -> None:
    """A token for each character."""
    for position, character in enumerate(text):
        choice.add(output(character, finish_reason if position == len(text) - 1 else None))


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
    first = Delta(request_id="r", index=2, text="ab", token_ids=ids, num_prompt_tokens=7, num_cached_tokens=4)
    assert choice.take_delta(7, 4) == first
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


def test_the_echo_leads_the_first_delta_and_no_other() -> None:
    prompt = [token_id(token) for token in "xyz"]
    echo = Echo(VOCABULARY, prompt, 2, has_logprobs=True)
    detokenizer = Detokenizer(VOCABULARY, ["z"], starts_text=False)
    choice = Choice("r", 2, VOCABULARY, detokenizer, Answer("r/2", None, None, is_parallel=True), echo)
    choice.add(output("a", logprob=-1.5))
    echo.tell([SampledToken(prompt[1], -0.5, []), SampledToken(prompt[2], -0.25, [])])
    delta = choice.take_delta(7, 4)
    assert (delta.echo_token_ids, delta.text, delta.token_ids) == (prompt[1:], "yza", [token_id("a")])
    assert delta.logprobs is not None
    assert [told.logprob for told in delta.logprobs] == [-0.5, -0.25, -1.5]
    choice.add(output("b", "length", logprob=-2.0))
    delta = choice.take_delta(7, 4)
    assert (delta.echo_token_ids, delta.text) == ([], "b")
    assert delta.logprobs is not None
    assert len(delta.logprobs) == 1
    assert delta.usage is not None
    assert delta.usage.num_completion_tokens == 2


CALL = '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'.replace(" ", "")


def thinking(*, is_thinking: bool = True) -> ReasoningParser:
    return ReasoningParser(ThoughtMarkers("<think>", "</think>"), is_thinking=is_thinking)


def test_a_call_is_told_from_the_text_and_changes_the_finish_reason() -> None:
    choice = build()
    say(choice, "Well" + CALL)
    choice.add(output(END_TOKEN, "stop"))
    delta = choice.take_delta(7, 4)
    assert (delta.text, delta.finish_reason) == ("Well", "tool_calls")
    begun, arguments = delta.tool_calls[0], "".join(piece.arguments for piece in delta.tool_calls)
    assert (begun.name, begun.index, arguments) == ("f", 0, '{"a":1}')
    assert begun.id.startswith("call_")
    assert not choice.is_stopped


def test_a_call_that_the_length_cuts_off_is_no_finished_call() -> None:
    choice = build()
    say(choice, CALL[:40], "length")
    delta = choice.take_delta(7, 4)
    assert (delta.finish_reason, delta.tool_calls[0].name) == ("length", "f")


def test_where_one_call_is_allowed_it_ends_the_choice() -> None:
    choice = build(is_parallel=False)
    say(choice, CALL.removesuffix("}</tool_call>"))
    assert (choice.finish_reason, choice.is_stopped) == ("tool_calls", True)
    assert choice.take_delta(7, 4).usage is not None


def test_every_token_of_a_thought_counts_as_reasoning_and_no_other() -> None:
    for text, reasoning, said, count in [
        ("ab</think>cd", "ab", "cd", 10),
        ("<think>ab</think>", "ab", "", 17),
        ("ab", "ab", "", 2),
    ]:
        choice = build(thoughts=thinking(is_thinking=not text.startswith("<")))
        say(choice, text, "length")
        delta = choice.take_delta(7, 4)
        assert (delta.reasoning, delta.text) == (reasoning, said)
        assert delta.usage is not None
        assert delta.usage.num_reasoning_tokens == count


def test_reasoning_counts_do_not_depend_on_stop_strings_that_hold_text_back() -> None:
    choice = build("</think>cdx", thoughts=thinking())
    say(choice, "ab</think>cd", "length")
    delta = choice.take_delta(7, 4)
    assert delta.usage is not None
    assert (delta.text, delta.usage.num_reasoning_tokens) == ("cd", 10)


def test_an_answer_without_a_thought_has_no_reasoning_tokens() -> None:
    choice = build(thoughts=thinking(is_thinking=False))
    say(choice, "ab<think>", "length")
    usage = choice.take_delta(7, 4).usage
    assert usage is not None
    assert usage.num_reasoning_tokens == 0


def test_the_raw_text_holds_the_markup_when_it_is_asked_for() -> None:
    choice = build(thoughts=thinking(), shows_raw=True)
    say(choice, "ab</think>" + CALL, "length")
    assert choice.take_delta(7, 4).raw_text == "ab</think>" + CALL
    hidden = build()
    say(hidden, "ab", "length")
    assert hidden.take_delta(7, 4).raw_text == ""


def test_the_last_delta_tells_the_engines_times_and_the_tokenizers() -> None:
    engine_times = Performance(
        tokenizer_queue_s=0.0,
        tokenizer_s=0.0,
        prefill_queue_s=1.0,
        prefill_s=2.0,
        generation_queue_s=3.0,
        generation_s=4.0,
        num_concurrent_requests=5,
    )
    choice = build("bc")
    for token in "ab":
        choice.add(replace(output(token), performance=engine_times))
    times = TokenizerTimes(0.25, 0.5)
    assert choice.take_delta(7, 4, times).performance is None
    choice.add(replace(output("c"), performance=engine_times))  # completes a stop string: the engine does not know
    assert choice.take_delta(7, 4, times).performance == replace(engine_times, tokenizer_queue_s=0.25, tokenizer_s=0.5)
