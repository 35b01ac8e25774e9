from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.engine import Postponed, RequestRefused
from runtime.llm.engine import LlmEngine, LlmOutput
from runtime.llm.frontend import LlmFrontend, choice_seed
from runtime.llm.request import FinishReason, Generation, RequestFailed, SampledToken, TokenOutput
from runtime.message import FailureCode
from runtime.protocol import Delta, Failed, PromptOutput, Submit
from runtime.submission import ChatMessage, ChatPrompt, SamplingParams, TextPrompt, TokenPrompt, Tool, ToolChoice
from tests.fakes.scripted_runner import VOCAB_SIZE, ScriptedRunner
from tests.fakes.text_model import CHAT_TEMPLATE, text_model_info, write_text_model
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer, build_sentencepiece_tokenizer

TOKENIZER = build_byte_level_tokenizer()
CONTEXT_LENGTH = 40
KV_CAPACITY_TOKENS = 32


def build(directory: Path, tokenizer: Any = TOKENIZER, **bounds: Any) -> LlmFrontend:
    write_text_model(directory, tokenizer, bos_token=None, chat_template=CHAT_TEMPLATE)
    info = text_model_info(vocab_size=tokenizer.get_vocab_size(), eos_token_ids=[1, 2])
    bounds = {"max_context_length": CONTEXT_LENGTH, "kv_capacity_tokens": 1000} | bounds
    return LlmFrontend(directory, info, **bounds)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmFrontend]:
    frontend = build(tmp_path_factory.mktemp("model"))
    yield frontend
    frontend.close()


@pytest.fixture
def frontend(loaded: LlmFrontend) -> Iterator[LlmFrontend]:
    yield loaded
    loaded.forget("r")
    loaded.forget("other")


def submit(text: str = "hello", request_id: str = "r", **fields: Any) -> Submit:
    return Submit(request_id=request_id, prompt=TextPrompt(text=text), **fields)


def outputs(
    text: str, *, request_id: str = "r", index: int = 0, finish_reason: FinishReason | None = None, cached: int = 0
) -> list[LlmOutput]:
    """One output per byte of the text; the last one carries the finish reason."""
    token_ids = [TOKENIZER.encode(character, add_special_tokens=False).ids for character in text]
    flat = [token_id for ids in token_ids for token_id in ids]
    return [
        TokenOutput(
            request_id=request_id,
            index=index,
            token_id=token_id,
            logprob=None,
            top=[],
            finish_reason=finish_reason if i == len(flat) - 1 else None,
            num_prompt_tokens=5,
            num_cached_tokens=cached,
        )
        for i, token_id in enumerate(flat)
    ]


def shown(deltas: list[Delta]) -> list[tuple[int, str, str | None]]:
    return [(delta.index, delta.text, delta.finish_reason) for delta in deltas]


def test_a_submit_becomes_one_request_per_choice(frontend: LlmFrontend) -> None:
    sampling = SamplingParams(temperature=0.5, seed=3)
    generation = frontend.prepare(
        submit(sampling=sampling, num_choices=3, max_tokens=4, num_logprobs=2, cache_namespace="a/é")
    )
    assert generation.request_id == "r"
    assert [request.index for request in generation.choices] == [0, 1, 2]
    assert len({request.seed for request in generation.choices}) == 3
    for request in generation.choices:
        assert TOKENIZER.decode(request.prompt_token_ids) == "hello"
        assert (request.request_id, request.sampling, request.max_tokens) == ("r", sampling, 4)
        assert (request.stop_token_ids, request.num_logprobs) == (frozenset({1, 2}), 2)
        assert request.cache_namespace == "a/é".encode()


def test_max_tokens_is_lowered_to_what_fits(tmp_path: Path, frontend: LlmFrontend) -> None:
    prompt = TokenPrompt(token_ids=[5] * 30)
    assert frontend.prepare(Submit(request_id="r", prompt=prompt)).choices[0].max_tokens == CONTEXT_LENGTH - 30
    assert frontend.prepare(Submit(request_id="other", prompt=prompt, max_tokens=99)).choices[0].max_tokens == 10
    small = build(tmp_path, kv_capacity_tokens=KV_CAPACITY_TOKENS)
    # 30 + 3 tokens, of which the last needs no KV.
    assert small.prepare(Submit(request_id="r", prompt=prompt)).choices[0].max_tokens == 3
    small.close()


def test_a_prompt_without_room_for_one_token_is_refused(frontend: LlmFrontend) -> None:
    fits = Submit(request_id="r", prompt=TokenPrompt(token_ids=[5] * (CONTEXT_LENGTH - 1)))
    assert frontend.prepare(fits).choices[0].max_tokens == 1
    frontend.forget("r")
    with pytest.raises(RequestRefused, match="prompt is too long: 40 tokens"):
        frontend.prepare(Submit(request_id="r", prompt=TokenPrompt(token_ids=[5] * CONTEXT_LENGTH)))
    frontend.prepare(submit())  # a refused request is not remembered


def test_max_tokens_that_do_not_fit_are_refused_where_the_client_wants_it(frontend: LlmFrontend) -> None:
    prompt = TokenPrompt(token_ids=[5] * 30)
    with pytest.raises(RequestRefused, match="30 tokens and 11 of the answer exceed the context of 40") as refusal:
        frontend.prepare(Submit(request_id="r", prompt=prompt, max_tokens=11, is_overflow_refused=True))
    assert refusal.value.param == "max_tokens"
    for max_tokens in (10, None):
        submitted = Submit(request_id="r", prompt=prompt, max_tokens=max_tokens, is_overflow_refused=True)
        assert frontend.prepare(submitted).choices[0].max_tokens == 10
        frontend.forget("r")


def test_clients_add_stop_tokens_and_take_away_the_models_own(frontend: LlmFrontend) -> None:
    cases: list[tuple[dict[str, Any], set[int]]] = [
        ({"stop_token_ids": [7, 8]}, {1, 2, 7, 8}),
        ({"ignore_eos": True}, set()),
        ({"ignore_eos": True, "stop_token_ids": [2, 9]}, {2, 9}),
    ]
    for fields, expected in cases:
        assert frontend.prepare(submit(**fields)).choices[0].stop_token_ids == expected
        frontend.forget("r")


def test_a_prediction_and_who_may_end_a_request_early_are_told_to_the_engine(frontend: LlmFrontend) -> None:
    (plain,) = frontend.prepare(submit()).choices
    assert (plain.prediction, plain.is_watched) == ([], False)
    frontend.forget("r")
    (request,) = frontend.prepare(submit(prediction="hello", stop=["x"])).choices
    assert request.prediction == TOKENIZER.encode("hello", add_special_tokens=False).ids
    assert request.is_watched
    with pytest.raises(RequestRefused) as refusal:
        frontend.prepare(submit(request_id="other", prediction=[2**31]))
    assert refusal.value.param == "speculation"


def test_every_choice_counts_its_own_tokens(frontend: LlmFrontend) -> None:
    sampling = SamplingParams(repetition_penalty=1.2)
    first, second = frontend.prepare(submit("hello", sampling=sampling, num_choices=2)).choices
    assert first.token_counts is not None
    assert second.token_counts is not None
    assert first.token_counts is not second.token_counts
    assert first.token_counts.prompt_token_ids.tolist() == sorted(set(TOKENIZER.encode("hello").ids))


def echoing(**fields: Any) -> Submit:
    return Submit(request_id="r", prompt=TokenPrompt(token_ids=[70, 71, 72]), **fields)


def test_an_echo_without_logprobs_leads_every_choice(frontend: LlmFrontend) -> None:
    prompt_text = TOKENIZER.decode([71, 72])
    generation = frontend.prepare(echoing(num_echoed_tokens=2, num_choices=2))
    assert [request.num_prompt_logprobs for request in generation.choices] == [0, 0]
    first = frontend.render(outputs("a", index=1))
    second = frontend.render(outputs("b", index=0) + outputs("c", index=1))
    assert shown(first.deltas) == [(1, prompt_text + "a", None)]
    assert shown(second.deltas) == [(0, prompt_text + "b", None), (1, "c", None)]
    assert [delta.echo_token_ids for delta in first.deltas + second.deltas] == [[71, 72], [71, 72], []]


def test_all_choices_wait_for_the_logprobs_that_the_first_one_brings(frontend: LlmFrontend) -> None:
    generation = frontend.prepare(echoing(num_echoed_tokens=3, num_choices=2, num_logprobs=0))
    assert [request.num_prompt_logprobs for request in generation.choices] == [2, 0]
    assert frontend.render(outputs("xy", index=1, finish_reason="length")).deltas == []
    (told,) = outputs("a", index=0)
    assert isinstance(told, TokenOutput)
    prompt_logprobs = [SampledToken(71, -0.5, []), SampledToken(72, -0.25, [])]
    deltas = frontend.render([msgspec.structs.replace(told, prompt_logprobs=prompt_logprobs)]).deltas
    assert sorted((delta.index, delta.finish_reason) for delta in deltas) == [(0, None), (1, "length")]
    for delta in deltas:
        assert delta.echo_token_ids == [70, 71, 72]
        assert delta.logprobs is not None
        assert [(told.token_id, told.logprob) for told in delta.logprobs] == [(70, None), (71, -0.5), (72, -0.25)]


def test_an_echo_beyond_all_bounds_is_refused_and_not_remembered(frontend: LlmFrontend) -> None:
    with pytest.raises(RequestRefused) as refusal:
        frontend.prepare(echoing(num_echoed_tokens=3, num_choices=1024, num_logprobs=100))
    assert refusal.value.param == "echo"
    frontend.prepare(submit())


def test_what_is_out_of_bounds_is_refused(frontend: LlmFrontend) -> None:
    with pytest.raises(RequestRefused) as refusal:
        frontend.prepare(submit(num_choices=0))
    assert refusal.value.param == "n"


def test_a_request_id_in_use_is_refused(frontend: LlmFrontend) -> None:
    frontend.prepare(submit())
    with pytest.raises(RequestRefused, match="in use"):
        frontend.prepare(submit())


def test_seeds_are_the_clients_or_random_and_never_the_same_for_two_choices(frontend: LlmFrontend) -> None:
    def seeds(seed: int | None) -> list[int]:
        frontend.forget("r")
        choices = frontend.prepare(submit(sampling=SamplingParams(seed=seed), num_choices=4)).choices
        return [choice.seed for choice in choices]

    assert seeds(7) == seeds(7) == [choice_seed(7, i) for i in range(4)]
    assert len({*seeds(7), *seeds(8), *seeds(-7), *seeds(None), *seeds(None)}) == 20
    assert all(0 <= seed < 2**64 for seed in seeds(2**63 - 1) + seeds(-(2**63)) + seeds(2**64 - 1))


def test_choice_seeds_are_stable_over_versions() -> None:
    assert [choice_seed(42, 0), choice_seed(42, 1)] == [461753612755968186, 7697022663304974753]


def test_outputs_of_one_choice_are_merged_and_choices_kept_apart(frontend: LlmFrontend) -> None:
    frontend.prepare(submit(num_choices=2))
    rendered = frontend.render(outputs("ab", index=0) + outputs("xy", index=1) + outputs("c", index=0))
    assert shown(rendered.deltas) == [(0, "abc", None), (1, "xy", None)]
    assert not rendered.finished
    assert not rendered.failures


def test_usage_tells_what_the_cache_held_before_the_request(frontend: LlmFrontend) -> None:
    frontend.prepare(submit(num_choices=2))
    first = frontend.render(outputs("ab", index=0, finish_reason="stop", cached=0))
    second = frontend.render(outputs("abc", index=1, finish_reason="length", cached=4))
    usages = [delta.usage for delta in first.deltas + second.deltas if delta.usage is not None]
    assert [(usage.num_cached_tokens, usage.num_completion_tokens) for usage in usages] == [(0, 2), (0, 3)]
    assert {usage.num_prompt_tokens for usage in usages} == {len(TOKENIZER.encode("hello").ids)}


def test_a_stop_string_ends_its_choice_only_and_the_engine_is_told(frontend: LlmFrontend) -> None:
    frontend.prepare(submit(stop=["END"], num_choices=2))
    rendered = frontend.render(outputs("aEND too late", index=0) + outputs("bEN", index=1))
    assert shown(rendered.deltas) == [(0, "a", "stop"), (1, "b", None)]
    assert rendered.finished == [("r", 0)]
    late = frontend.render(outputs("later", index=0) + outputs("D", index=1))
    assert shown(late.deltas) == [(1, "", "stop")]
    assert late.finished == [("r", 1)]
    frontend.prepare(submit())  # all is over: the id is free again


def test_outputs_of_forgotten_requests_are_dropped(frontend: LlmFrontend) -> None:
    frontend.prepare(submit())
    frontend.forget("r")
    frontend.forget("unknown")
    assert frontend.render(outputs("ab")).deltas == []


def test_a_request_that_failed_in_the_engine_fails_once_and_alone(frontend: LlmFrontend) -> None:
    frontend.prepare(submit())
    frontend.prepare(submit(request_id="other"))
    rendered = frontend.render([*outputs("a"), RequestFailed("r"), *outputs("b", request_id="other")])
    assert [(failed.request_id, failed.code) for failed in rendered.failures] == [("r", FailureCode.INTERNAL)]
    assert [delta.request_id for delta in rendered.deltas] == ["other"]
    assert frontend.render([RequestFailed("r")]).failures == []


def test_a_request_that_cannot_be_rendered_fails_alone_and_leaves_the_engine(
    frontend: LlmFrontend, caplog: pytest.LogCaptureFixture
) -> None:
    frontend.prepare(submit(num_choices=2))
    frontend.prepare(submit(request_id="other"))
    (bad,) = outputs("a")
    assert isinstance(bad, TokenOutput)
    impossible = msgspec.structs.replace(bad, token_id=-1)
    rendered = frontend.render([impossible, *outputs("b", request_id="other")])
    assert [type(failure) for failure in rendered.failures] == [Failed]
    assert rendered.finished == [("r", 0), ("r", 1)]
    assert [delta.request_id for delta in rendered.deltas] == ["other"]
    assert "rendering request r failed" in caplog.text


def test_a_chat_answer_begins_a_text_and_a_completion_continues_one(tmp_path: Path) -> None:
    tokenizer = build_sentencepiece_tokenizer()
    frontend = build(tmp_path, tokenizer, max_context_length=100)
    messages = [ChatMessage(role="user", content="a")]
    answer = TokenOutput(
        request_id="",
        index=0,
        token_id=tokenizer.token_to_id("▁the"),
        logprob=None,
        top=[],
        finish_reason="length",
        num_prompt_tokens=1,
        num_cached_tokens=0,
    )
    texts = []
    for submitted in [
        Submit(request_id="chat", prompt=ChatPrompt(messages=messages)),
        Submit(request_id="completion", prompt=TextPrompt(text="a")),
        Submit(request_id="from nothing", prompt=TokenPrompt(token_ids=[tokenizer.token_to_id("<s>")])),
    ]:
        frontend.prepare(submitted)
        output = msgspec.structs.replace(answer, request_id=submitted.request_id)
        texts += [delta.text for delta in frontend.render([output]).deltas]
    frontend.close()
    assert texts == ["the", " the", "the"]


def test_a_stop_string_found_by_the_frontend_frees_the_choice_in_the_engine(frontend: LlmFrontend) -> None:
    """Both halves together, as a worker drives them."""
    runner = ScriptedRunner(32, 4, max_num_requests=8, max_batch_tokens=16)
    engine = LlmEngine(
        runner,
        num_blocks=32,
        block_size=4,
        max_num_requests=8,
        max_num_waiting=8,
        max_num_waiting_tokens=1000,
        max_batch_tokens=16,
        enable_prefix_cache=True,
        cache_root=b"",
    )
    every_token = [frontend._vocabulary.text_bytes(i).decode("utf-8", "ignore") for i in range(VOCAB_SIZE)]
    stop = [text for text in every_token[: VOCAB_SIZE // 2] if text]
    engine.add(frontend.prepare(Submit(request_id="r", prompt=TokenPrompt(token_ids=[3]), stop=stop, num_choices=3)))
    finished: set[int] = set()
    stopped: list[tuple[str, int]] = []
    for _ in range(200):
        if not engine.has_work():
            break
        rendered = frontend.render(engine.step())
        for request_id, index in rendered.finished:
            engine.abort(request_id, index)
        engine.check_integrity()
        stopped += rendered.finished
        finished |= {delta.index for delta in rendered.deltas if delta.finish_reason is not None}
    assert finished == {0, 1, 2}
    assert stopped
    assert engine.stats().num_free_blocks == engine.stats().num_blocks


# ---- chats: tools, thoughts, and what the client wants to be shown

WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {}})
CALL = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'


def chat(**fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=[ChatMessage(role="user", content="x")], **fields)


def prepared(frontend: LlmFrontend, submit: Submit) -> Generation:
    """However long its grammar takes."""
    while True:
        try:
            return frontend.prepare(submit)
        except Postponed as postponed:
            postponed.ready.result(60)


def said(frontend: LlmFrontend, text: str) -> list[Delta]:
    return frontend.render(outputs(text, finish_reason="length")).deltas


def test_calls_are_read_where_tools_are_offered(frontend: LlmFrontend) -> None:
    prepared(frontend, Submit(request_id="r", prompt=chat(tools=[WEATHER])))
    [delta] = said(frontend, f"So:{CALL}")
    assert delta.text == "So:"
    assert [piece.name for piece in delta.tool_calls] == ["weather", "", ""]
    assert "".join(piece.arguments for piece in delta.tool_calls) == "{}"
    prepared(frontend, Submit(request_id="r", prompt=chat()))
    [delta] = said(frontend, f"So:{CALL}")
    assert (delta.text, delta.tool_calls) == (f"So:{CALL}", [])


def test_where_one_call_is_allowed_the_engine_is_told_that_it_is_enough(frontend: LlmFrontend) -> None:
    choice = ToolChoice(is_parallel=False)
    prepared(frontend, Submit(request_id="r", prompt=chat(tools=[WEATHER], tool_choice=choice)))
    rendered = frontend.render(outputs(CALL + CALL))
    assert rendered.finished == [("r", 0)]
    assert rendered.deltas[0].finish_reason == "tool_calls"
    assert {piece.index for piece in rendered.deltas[0].tool_calls} == {0}


def test_a_required_call_constrains_each_choice(frontend: LlmFrontend) -> None:
    choice = ToolChoice(mode="required")
    submit = Submit(request_id="r", prompt=chat(tools=[WEATHER], tool_choice=choice), num_choices=2)
    first, second = (request.constraint for request in prepared(frontend, submit).choices)
    assert first is not None
    assert second is not None
    assert first is not second
    frontend.forget("r")
    assert prepared(frontend, Submit(request_id="r", prompt=chat())).choices[0].constraint is None


def test_the_prompt_and_the_raw_text_are_shown_when_asked_for(frontend: LlmFrontend) -> None:
    submit = Submit(request_id="r", prompt=chat(tools=[WEATHER]), num_choices=2, shows_prompt=True)
    token_ids = prepared(frontend, submit).choices[0].prompt_token_ids
    shown = frontend.render([*outputs("a"), *outputs("b", index=1)]).deltas
    text = TOKENIZER.decode(token_ids, skip_special_tokens=False)
    assert shown[0].prompt == PromptOutput(text=text, token_ids=token_ids)
    assert [delta.raw_text for delta in shown] == ["a", "b"]
    assert shown[1].prompt is None
    [later] = said(frontend, CALL)
    assert (later.prompt, later.raw_text, later.text) == (None, CALL, "")
