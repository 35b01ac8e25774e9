"""Fields are put in; nothing that a client sends is run."""

import time

import pytest

from appliance.errors import Code, HearthError
from appliance.services.prompt_template import Field, PromptTemplate

LENGTH_MAX = 1000


def fill(template: str, **values: Field) -> str:
    return PromptTemplate(template).fill(values, "input[0]", LENGTH_MAX)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ a }} and {b}", "1 and two"),
        ("{{a}}{{   a   }}{a}", "111"),
        ("no field", "no field"),
        ("", ""),
        ('{"json": {a}, "x": { a }, "n": {}}', '{"json": 1, "x": { a }, "n": {}}'),
        ("} {a} {", "} 1 {"),
    ],
)
def test_fields_are_put_in_and_all_else_stays(template: str, text: str) -> None:
    assert fill(template, a=1, b="two") == text


def test_numbers_and_truths_are_written_as_in_json() -> None:
    assert fill("{a} {b} {c}", a=1.5, b=True, c=-3) == "1.5 true -3"


def test_what_a_field_holds_is_never_looked_at() -> None:
    assert fill("{{ a }}{b}", a="{{ b }}{b}{% x %}", b="!") == "{{ b }}{b}{% x %}!"


@pytest.mark.parametrize(
    "template",
    [
        "{{ a.b }}",
        "{{ a['b'] }}",
        "{{ a | upper }}",
        "{{ ''.__class__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ truncate_tokens(a, 5) }}",
        "{{ 'a' * 1000000000 }}",
        "{% for x in a %}{{ x }}{% endfor %}",
        "{# a #}",
        "{{",
        "{{ a",
        "{{ a } }",
    ],
)
def test_whatever_would_compute_is_refused_showing_it(template: str) -> None:
    with pytest.raises(HearthError) as caught:
        PromptTemplate(template)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "prompt_template")
    assert repr(template[template.index("{") :])[1:8] in caught.value.message


@pytest.mark.parametrize("values", [{}, {"a": None}])
def test_a_field_that_is_not_there_is_named(values: dict[str, Field]) -> None:
    with pytest.raises(HearthError) as caught:
        fill("{a}", **values)
    assert caught.value.param == "input[0]"
    assert "'a'" in caught.value.message


def test_a_small_template_makes_no_huge_text() -> None:
    with pytest.raises(HearthError) as caught:
        fill("{a}" * 100, a="x" * 11)
    assert caught.value.code is Code.TOO_LARGE


def test_hostile_braces_cost_no_time() -> None:
    started = time.monotonic()
    for text in ("{" * 16000, "{{" + " " * 16000, "{{ a" * 4000, "{{ " * 5000):
        with pytest.raises(HearthError):
            PromptTemplate(text)
    assert time.monotonic() - started < 1.0
