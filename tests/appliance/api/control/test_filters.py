import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.filters import FILTER_LENGTH_MAX, PARENTHESES_MAX, parse_filter
from appliance.errors import Code, HearthError
from tests.appliance.api.control.sample_answers import BOATS, Boat, letters


def select(text: str) -> str:
    matches = parse_filter(text, Boat)
    return letters([boat for boat in BOATS if matches(boat)])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "abe"),
        ("   ", "abe"),
        ("state=READY", "ae"),
        ('state = "READY"', "ae"),
        ("state='READY'", "ae"),
        ("state!=READY", "b"),
        ("state=ready", ""),
        ('display_name="bob"', "b"),
        ('displayName="bob"', "b"),
        ("displayName=bob", "b"),
        ('displayName="Ada*"', "a"),
        ('displayName="*First"', "a"),
        ('displayName="*the*"', "a"),
        ('displayName="*"', "abe"),
        ('displayName=""', "e"),
        ('name="accounts/acme/boats/eve"', "e"),
        ("name=accounts/acme/boats/eve", "e"),
        ("name:boats", "abe"),
        ("displayName:ADA", "a"),
        ("displayName:*", "ab"),
        ("status.message:room", "b"),
        ("status.code=INTERNAL", "b"),
        ("mastCount=1", "a"),
        ("mast_count!=1", "be"),
        ("mastCount>=1", "ab"),
        ("mastCount>1", "b"),
        ("mastCount<2", "a"),
        ("mastCount<=2", "ab"),
        ("mastCount>-1", "ab"),
        ("mastCount=1.0", "a"),
        ("mastCount:*", "ab"),
        ("isPublic=true", "b"),
        ("is_public=false", "ae"),
        ("tags:red", "a"),
        ("tags:*", "a"),
        ("annotations:team", "ae"),
        ("annotations.team=shop", "a"),
        ('annotations.team="dock"', "e"),
        ("annotations.team!=dock", "ab"),
        ("weight>100", "ab"),
        ("weight<1000", "ae"),
        ('createTime>"2026-01-01T12:00:00+01:00"', "b"),
        ('createTime<="2026-01-01T11:00:00+01:00"', "a"),
        ('createTime="2026-01-01T11:00:00+01:00"', "a"),
        ("createTime:*", "ab"),
        ("state=READY AND mastCount=1", "a"),
        ("state=READY mastCount=1", "a"),
        ("mastCount=1 OR mastCount=2", "ab"),
        ("NOT state=READY", "b"),
        ("-state=READY", "b"),
        ("state=READY AND NOT mastCount=1", "e"),
        ("state=READY AND mastCount=1 OR mastCount=2", "a"),
        ("(state=READY AND mastCount=1) OR mastCount=2", "ab"),
        ("NOT (mastCount=1 OR mastCount=2)", "e"),
        ("-(state=READY) OR displayName:ada", "ab"),
        (r'displayName="b\ob"', "b"),
    ],
)
def test_a_filter_lets_through_what_it_says(text: str, found: str) -> None:
    assert select(text) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name", "cannot be read at its end"),
        ("name=", "cannot be read at its end"),
        ("=x", "cannot be read at '=x'"),
        ('a="x', "cannot be read at"),
        ("state=READY AND", "cannot be read at its end"),
        ("AND state=READY", "cannot be read at 'state"),
        ("(state=READY", "cannot be read at its end"),
        ("state=READY)", "cannot be read at ')'"),
        ("state==READY", "cannot be read at '=READY'"),
        ("max(mastCount)=1", "cannot be read at"),
        ("sails=3", "'sails' is none of name, displayName"),
        ("status.tone=x", "'status.tone' is none of code, message"),
        ("name.first=x", "looks into what has no fields"),
        ("mastCount=many", "mastCount is a number"),
        ("isPublic=maybe", "isPublic is true or false"),
        ("isPublic>true", "isPublic is true or false"),
        ("tags=red", "tags has members"),
        ("status=OK", "status has fields"),
        ("name=" + "x" * FILTER_LENGTH_MAX, "at most 2000 characters"),
        ("(" * (PARENTHESES_MAX + 1), "at most 64 parentheses"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_and_never_ignored(text: str, complaint: str) -> None:
    with pytest.raises(HearthError) as refused:
        parse_filter(text, Boat)
    assert (refused.value.code, refused.value.param) == (Code.INVALID, "filter")
    assert complaint in refused.value.message


@given(st.text(max_size=20))
def test_any_value_can_be_written_in_quotes(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    matches = parse_filter(f'displayName="{quoted}"', Boat)
    if "*" not in value:
        assert matches(Boat(name="n", display_name=value))
        assert not matches(Boat(name="n", display_name=f"{value}?"))


WORDS = st.sampled_from(
    [*"()-:<>=!", "AND", "OR", "NOT", " ", '"', "'", "\\", "*", "state", "mastCount", "tags", "1", "é"]
)


@given(st.lists(WORDS, max_size=30).map("".join) | st.text(max_size=50))
def test_whatever_is_sent_is_carried_out_or_refused(text: str) -> None:
    try:
        matches = parse_filter(text, Boat)
    except HearthError:
        return  # nothing else may be raised
    assert all(matches(boat) in (True, False) for boat in BOATS)


def test_the_deepest_filter_is_still_carried_out() -> None:
    depth = PARENTHESES_MAX
    assert select("NOT(" * depth + "state=READY" + ")" * depth) == "ae"
