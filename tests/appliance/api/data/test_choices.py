from appliance.api.data.answer import LEGACY_SHAPE, SHAPE
from appliance.api.data.choices import Choice
from appliance.api.data.generation import GenerationBody
from runtime.protocol import Delta, PromptOutput, ToolCallDelta
from tests.appliance.api.data.samples import MODEL, generation_of, token


def test_choice_keeps_everything_in_the_order_it_came() -> None:
    choice = Choice()
    prompt = PromptOutput(text="p", token_ids=[9])
    choice.add(Delta(request_id="id", text="p a", token_ids=[1], echo_token_ids=[9], prompt=prompt, reasoning="r"))
    choice.add(Delta(request_id="id", text="b", token_ids=[2, 3], logprobs=[token("b")], raw_text="b"))
    choice.add(Delta(request_id="id", tool_calls=[ToolCallDelta(index=0)], finish_reason="length"))
    assert choice == Choice(
        texts=["p a", "b", ""],
        reasoning=["r", "", ""],
        tool_calls=[ToolCallDelta(index=0)],
        logprobs=[token("b")],
        token_ids=[1, 2, 3],
        raw_texts=["", "b", ""],
        num_echoed_tokens=1,
        finish_reason="length",
    )


def test_calls_end_with_the_reason_that_the_client_knows() -> None:
    assert SHAPE.finish_reason("tool_calls") == "tool_calls"
    assert LEGACY_SHAPE.finish_reason("tool_calls") == "function_call"
    assert LEGACY_SHAPE.finish_reason("stop") == "stop"
    assert SHAPE.finish_reason(None) is None


def test_only_a_client_that_names_a_tier_is_told_its_own() -> None:
    generation = generation_of(GenerationBody(model=MODEL))
    assert SHAPE.envelope("o", generation, "priority")["service_tier"] == "default"
    assert "service_tier" not in SHAPE.envelope("o", generation, None)
