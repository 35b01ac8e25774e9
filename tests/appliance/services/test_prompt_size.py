"""How long a prompt may be before anybody has counted it."""

from appliance.services.prompt_size import IMAGE_TOKENS, TEMPLATE_TOKENS, PromptSize, size_of
from runtime.submission import ChatMessage, ChatPrompt, ImagePart, TextPart, TextPrompt, TokenPrompt, Tool


def chat(*messages: ChatMessage, tools: list[Tool] | None = None) -> ChatPrompt:
    return ChatPrompt(messages=list(messages), tools=tools or [])


def test_token_ids_are_what_they_are() -> None:
    assert size_of([TokenPrompt(token_ids=[1, 2, 3]), TokenPrompt(token_ids=[4])]) == PromptSize(4, 4)


def test_text_has_no_more_tokens_than_bytes() -> None:
    assert size_of([TextPrompt(text="abcde")]) == PromptSize(2, 5)
    assert size_of([TextPrompt(text="ü")]).at_most == 2


def test_a_message_brings_what_its_template_adds() -> None:
    size = size_of([chat(ChatMessage(role="user", content="12345678"))])
    assert size == PromptSize(2 + TEMPLATE_TOKENS, 8 + TEMPLATE_TOKENS)


def test_images_count_wherever_they_stand() -> None:
    parts = ChatMessage(role="user", content=[TextPart(text="abcd"), ImagePart(data=b"...")])
    assert size_of([chat(parts)]) == PromptSize(1 + TEMPLATE_TOKENS + IMAGE_TOKENS, 4 + TEMPLATE_TOKENS + IMAGE_TOKENS)
    assert size_of([TextPrompt(text="", images=[b"..."])]).likely == IMAGE_TOKENS


def test_tools_and_thoughts_are_part_of_the_prompt() -> None:
    plain = size_of([chat(ChatMessage(role="user", content="x"))])
    with_tools = size_of([chat(ChatMessage(role="user", content="x"), tools=[Tool(name="look_up")])])
    thinking = size_of([chat(ChatMessage(role="assistant", content="x", reasoning_content="hm"))])
    assert with_tools.at_most > plain.at_most + len("look_up")
    assert thinking.at_most == plain.at_most + 2


def test_no_prompt_is_longer_than_its_context() -> None:
    size = size_of([TextPrompt(text="x" * 1000)] * 2)
    assert size.within(100, 2) == PromptSize(200, 200)
    assert size.within(None, 2) == size
