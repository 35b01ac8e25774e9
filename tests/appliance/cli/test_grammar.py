from appliance.cli.commands import Command, Session
from appliance.cli.grammar import Node, paths, plant


def show(session: Session) -> None:
    """Show it. And more."""


CREATE = Command("create", "thing", show, ())
LIST = Command("list", "thing", show, ())
LOAD = Command("deploy", None, show, (), also=("load", "thing load", "export billing things"))
COUNT = Command("count", "thing", show, ())


def find(root: Node, line: str) -> Node:
    node = root
    for word in line.split():
        node = node.children[word]
    return node


def shown(node: Node) -> list[str]:
    return [word for word, _ in node.shown()]


def planted() -> Node:
    return plant([CREATE, LIST, LOAD, COUNT], {"create": "Make.", "list": "See."}, {"thing": "A thing."})


def test_both_word_orders_in_both_numbers_are_one_command() -> None:
    root = planted()
    for line in ("create thing", "thing create", "create things", "things create"):
        assert find(root, line).command is CREATE


def test_a_list_is_shown_in_plural_and_all_else_in_singular() -> None:
    root = planted()
    assert shown(find(root, "create")) == ["thing"]
    assert shown(find(root, "list")) == ["things"]


def test_other_words_for_it_are_understood_and_shown_only_beside_their_noun() -> None:
    root = planted()
    for line in ("deploy", "load", "thing load", "export billing things"):
        assert find(root, line).command is LOAD
    assert shown(root) == ["deploy", "create", "list", "thing"]
    assert shown(find(root, "thing")) == ["create", "list", "load", "count"]


def test_the_verb_of_one_noun_alone_is_understood_first_but_shown_after_it() -> None:
    root = planted()
    assert find(root, "count thing").command is COUNT
    assert "count" not in shown(root)


def test_every_word_says_what_it_means() -> None:
    root = planted()
    assert find(root, "create").text == "Make."
    assert find(root, "thing").text == "A thing."
    assert find(root, "thing create").text == "Show it. And more."


def test_the_paths_of_a_command_say_which_of_them_the_help_leaves_out() -> None:
    assert set(paths(LIST)) == {
        (("thing", "list"), False),
        (("things", "list"), False),
        (("list", "things"), False),
        (("list", "thing"), True),
    }
