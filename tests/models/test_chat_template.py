import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from models.chat_template import MESSAGE_CHARACTERS_MAX, ChatTemplate, load_chat_template
from models.conversation import Conversation, TemplateError
from tests.fakes.tiny_llm import CHAT_TEMPLATE, build_tiny_tokenizer

CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": " Be <brief> & kind. "}, {"role": "user", "content": "Grüße 🔥\n\n"}],
    [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look", "arguments": {"at": "Zürich", "n": [1, 2.5]}},
                }
            ],
        },
        {"role": "tool", "content": '{"sky": "<blue>"}', "tool_call_id": "c1"},
    ],
]

# Constructs that released templates rely on, each in the shape they use it.
TEMPLATES = {
    "ours": CHAT_TEMPLATE,
    "namespace": (
        "{%- set ns = namespace(system='') -%}\n"
        "{% for message in messages %}\n"
        "    {% if message['role'] == 'system' %}{% set ns.system = message.content %}{% continue %}{% endif %}\n"
        "{{ loop.index0 }}{{ message['role'] | upper }}: {{ message.content or 'nothing' }}{{ eos_token }}\n"
        "{% endfor %}[{{ ns.system | trim }}]{% if add_generation_prompt %}A:{% endif %}"
    ),
    "tojson": (
        "{% for m in messages %}{{ m | tojson(indent=2) }}{{ m | tojson(sort_keys=true, separators=(',', ':')) }}"
        "{% endfor %}"
    ),
    "generation": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% set x = 1 %}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    ),
    "macro": (
        "{% macro show(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}{{ bos_token }}"
        "{% for m in messages[::-1] %}{{ show(m) }}{% if loop.last %}{% break %}{% endif %}{% endfor %}"
        "{{ tools is none }}{{ documents is defined }}{{ missing is defined }}{{ missing }}"
    ),
    "strings": "{% for m in messages %}{{ (m.content or '').split()[0:1] }}{{ '%s|%05d' % (m.role, 42) }}{% endfor %}",
    "dates": "{{ strftime_now('%Y') }}{{ range(3) | list }}{{ dict(a=1) }}",
}


def save(directory: Path, template: str) -> Path:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)
    return directory


def load(directory: Path) -> ChatTemplate:
    template = load_chat_template(directory)
    assert template is not None
    return template


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_prompts_equal_those_of_transformers(tmp_path: Path, template: str) -> None:
    save(tmp_path, template)
    reference: Any = AutoTokenizer.from_pretrained(tmp_path)
    ours = load(tmp_path)
    for messages in CONVERSATIONS if "tool" in template else CONVERSATIONS[:-1]:  # the last one calls a tool
        for add_generation_prompt in (True, False):
            expected = reference.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
            conversation = Conversation(messages)
            assert ours.render(conversation, add_generation_prompt=add_generation_prompt) == expected


def test_a_folder_without_a_template_has_none(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    assert load_chat_template(tmp_path) is None


def test_an_unreadable_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TemplateError, match=r"tokenizer_config\.json"):
        load_chat_template(tmp_path)


def render(source: str, messages: list[dict[str, Any]] | None = None) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(Conversation(messages or CONVERSATIONS[0]))


def refusal(source: str) -> str:
    with pytest.raises(TemplateError) as refused:
        render(source)
    return str(refused.value)


def test_a_template_refuses_in_its_own_words() -> None:
    assert refusal("{{ raise_exception('roles must alternate') }}") == "roles must alternate"
    assert len(refusal("{{ raise_exception('x' * 100000) }}")) == MESSAGE_CHARACTERS_MAX


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{% for m in messages %}",
        "{{ unknown_function() }}",
        "{% include 'other' %}",
        "{% import '/etc/passwd' as x %}",
        "{{ messages.nothing.more }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ 'x' | no_such_filter }}",
        "{{ 'x' | int(base='y') }}" + "{{ [1, 2][7].x }}",
        "{% for a in messages %}" * 25 + "{% endfor %}" * 25,
        "{% if true %}" * 3000 + "{% endif %}" * 3000,
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    ],
)
def test_a_broken_template_is_a_template_error_and_shows_nothing_internal(source: str) -> None:
    message = refusal(source)
    assert message
    assert "/site-packages/" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "source",
    [
        "{{ lipsum.__globals__['os'].system('true') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ joiner }}{{ joiner.x.y }}",
        "{{ self.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ strftime_now.__globals__.x }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ (messages | attr('__class__')).__mro__ }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format(messages).x.y }}",
        "{{ '{x.__class__.__mro__}'.format_map({'x': messages}) }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{% set ns = namespace(__call__=dict) %}",
        "{% set ns = namespace({'_Namespace__attrs': 1}) %}",
        "{{ dict.__base__.__subclasses__() }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    assert refusal(source)


@pytest.mark.parametrize("name", ["lipsum", "cycler", "joiner", "request", "config"])
def test_a_template_sees_no_more_than_it_needs(name: str) -> None:
    assert render("{{ " + name + " is defined }}") == "False"


def test_messages_are_not_changed_by_rendering() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hi", "name": None}]
    render("{% set m = messages[0] %}{% set m = dict(m, role='x') %}{{ m.role }}", messages)
    assert messages == [{"role": "user", "content": "hi", "name": None}]


def test_output_beyond_the_limit_is_cut_off_while_it_is_written() -> None:
    # 4 × 10^8 pieces would take minutes; the limit is met after four thousand of them.
    message = refusal(
        "{% for a in range(20000) %}{% for b in range(20000) %}" + "x" * 1100 + "{% endfor %}{% endfor %}"
    )
    assert "more than" in message


def test_a_huge_source_is_refused() -> None:
    with pytest.raises(TemplateError, match="larger than"):
        ChatTemplate("x" * 1_000_000, {})


# ---- tools, thoughts, contents: templates in the manner of the families that have them

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "description": "<It>", "parameters": {"type": "object"}}}
]
QWEN_STYLE = """\
{%- if tools %}{{- '<|im_start|>system\n# Tools\n<tools>' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}{{- '\n</tools><|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- if message.reasoning_content is string %}
            {{- '<think>' + message.reasoning_content + '</think>' }}
        {%- endif %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- set called = {'name': call.function.name, 'arguments': call.function.arguments} %}
            {{- '<tool_call>' + (called | tojson) + '</tool_call>' }}
        {%- endfor %}
    {%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content }}{%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think></think>' }}{%- endif %}{%- endif %}
"""
LLAVA_STYLE = """\
{%- for message in messages %}{{ message.role | upper }}: \
{%- for part in message.content | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}\
{%- for part in message.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}{% endfor %} {% endfor %}"""


def test_tools_thoughts_and_settings_are_rendered_as_transformers_does(tmp_path: Path) -> None:
    save(tmp_path, QWEN_STYLE)
    reference: Any = AutoTokenizer.from_pretrained(tmp_path)
    ours = load(tmp_path)
    messages = [*CONVERSATIONS[2][:1], {**CONVERSATIONS[2][1], "reasoning_content": "hm"}, CONVERSATIONS[2][2]]
    choices: list[dict[str, bool | int | str]] = [{}, {"enable_thinking": False}, {"enable_thinking": True}]
    for settings in choices:
        expected = reference.apply_chat_template(
            messages, tools=TOOLS, tokenize=False, add_generation_prompt=True, **settings
        )
        assert ours.render(Conversation(messages, TOOLS, settings)) == expected
        assert "<think>hm</think>" in expected


def test_a_setting_that_the_template_does_not_have_changes_nothing_and_reserved_names_cannot_be_set() -> None:
    source = "{{ messages | length }}{{ bos_token }}{{ add_generation_prompt }}{{ tools is none }}"
    template = ChatTemplate(source, {"bos_token": "<s>"})
    settings: dict[str, bool | int | str] = {
        "bos_token": "evil",
        "messages": "evil",
        "add_generation_prompt": 7,
        "tools": 1,
        "range": 1,
        "tokenize": True,
    }
    assert template.render(Conversation([], [], settings)) == "0<s>TrueTrue"


def test_contents_are_texts_or_parts_as_the_template_wants_them() -> None:
    text, parts = "what?", [{"type": "text", "text": "wh"}, {"type": "text", "text": "at?"}]
    llava, plain = ChatTemplate(LLAVA_STYLE, {}), ChatTemplate("{{ messages[0].content + '!' }}", {})
    for content in (text, parts):
        conversation = Conversation([{"role": "user", "content": content}])
        assert llava.render(conversation) == "USER:what? "
        assert plain.render(conversation) == "what?!"
    pictured = Conversation([{"role": "user", "content": [{"type": "image"}, *parts]}])
    assert llava.render(pictured) == "USER:<image>what? "


def test_a_template_that_knows_no_tools_has_them_described() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    shown = ChatTemplate(source, {}).render(Conversation(CONVERSATIONS[2], TOOLS))
    assert shown.startswith("user: You may call these functions")
    assert '"description": "<It>"' in shown
    assert 'assistant: {"name": "look", "arguments": {"at": "Zürich", "n": [1, 2.5]}}' in shown
    assert 'user: look returned: {"sky": "<blue>"}' in shown


def test_a_conversation_without_a_system_message_begins_with_the_one_that_is_stated() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", {}, "Be brief.")
    user = {"role": "user", "content": "Hi"}
    assert template.render(Conversation([user])) == "system:Be brief.;user:Hi;"
    for role in ("system", "developer"):
        own = {"role": role, "content": "Be long."}
        assert template.render(Conversation([own, user])) == f"{role}:Be long.;user:Hi;"
