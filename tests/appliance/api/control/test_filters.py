import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.filters import FILTER_LENGTH_MAX, Clause, parse_filter, select
from appliance.errors import Code, HearthError

PEOPLE = [{"displayName": "Ada", "state": "READY"}, {"displayName": "Bob AND Eve", "state": "READY"}]
FIELDS = {"displayName": lambda person: person["displayName"], "state": lambda person: person["state"]}


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  ", []),
        ('model="accounts/acme/models/m"', [Clause("model", "accounts/acme/models/m")]),
        ('display_name="x" AND base_model="y"', [Clause("displayName", "x"), Clause("baseModel", "y")]),
        ('displayName = "a AND b"   AND state=READY', [Clause("displayName", "a AND b"), Clause("state", "READY")]),
        (r"""name='it\'s' AND title="say \"hi\" \\" """, [Clause("name", "it's"), Clause("title", 'say "hi" \\')]),
    ],
)
def test_what_clients_send_is_understood_in_both_name_styles(text: str, clauses: list[Clause]) -> None:
    assert parse_filter(text) == clauses


@given(st.dictionaries(st.from_regex(r"[a-z][a-zA-Z0-9]{0,9}", fullmatch=True), st.text(max_size=20), min_size=1))
def test_any_value_can_be_written_in_quotes(wanted: dict[str, str]) -> None:
    quoted = {field: value.replace("\\", "\\\\").replace('"', '\\"') for field, value in wanted.items()}
    text = " AND ".join(f'{field}="{value}"' for field, value in quoted.items())
    assert dict(parse_filter(text)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name=",
        'name:"x"',
        'name!="x"',
        'a="x" OR b="y"',
        'a="x" b="y"',
        'a="x" AND',
        'NOT a="x"',
        '(a="x")',
        'a="x',
        'a.b="x"',
        'a="x"AND b="y"',
        "a=" + "x" * FILTER_LENGTH_MAX,
    ],
)
def test_what_lies_beyond_is_refused_and_never_ignored(text: str) -> None:
    with pytest.raises(HearthError, match=r"^filter: ") as refused:
        parse_filter(text)
    assert (refused.value.code, refused.value.param) == (Code.INVALID, "filter")


def test_a_filter_lets_through_what_meets_all_of_it() -> None:
    assert select("", PEOPLE, FIELDS) == PEOPLE
    assert select("state=READY", PEOPLE, FIELDS) == PEOPLE
    assert select('state=READY AND display_name="Bob AND Eve"', PEOPLE, FIELDS) == PEOPLE[1:]
    assert select("display_name=Ada AND state=GONE", PEOPLE, FIELDS) == []
    with pytest.raises(HearthError, match="'age' is none of displayName, state"):
        select("age=7", PEOPLE, FIELDS)
